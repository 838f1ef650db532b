"""The miniature's world: pictures are what their scenes say, and the judge reads them."""

from random import Random

import numpy as np
import pytest

from tests.judge import judge
from webui.training.world import COLOURS, OBJECTS, SCENERY, Scene, Thing, backgrounds, colours_on, draw, geometry, random_scene


def scene_of(name: str = "circle", colour: str = "red", background: str = "blue", place: str = "centre", style: str = "flat") -> Scene:
    return Scene(things=(Thing(object=name, colour=colour, size="medium", place=place),), background=background, style=style)


def test_there_is_enough_to_ask_for():
    assert len(OBJECTS) >= 10
    assert len(COLOURS) >= 8
    assert len(SCENERY) >= 4


def test_a_scene_always_gives_the_same_picture():
    scene = random_scene(Random(3))
    assert draw(scene).tobytes() == draw(scene).tobytes()


@pytest.mark.parametrize("size", [(128, 128), (192, 128), (128, 192), (256, 256)])
def test_pictures_have_the_size_asked_for(size: tuple[int, int]):
    assert draw(scene_of(), *size).size == size


@pytest.mark.parametrize("seed", range(20))
def test_objects_lie_inside_the_picture(seed: int):
    for thing in random_scene(Random(seed)).things:
        x, y, radius = geometry(thing, 128, 128)
        assert radius < x < 128 - radius
        assert radius < y < 128 - radius


@pytest.mark.parametrize("background", backgrounds())
def test_objects_never_have_the_colour_of_their_background(background: str):
    assert background not in colours_on(background)
    assert len(colours_on(background)) >= 5


def test_colours_are_far_apart():
    values = np.array(list(COLOURS.values()), float)
    distances = np.linalg.norm(values[:, None] - values, axis=-1)
    assert distances[~np.eye(len(values), dtype=bool)].min() >= 95


@pytest.mark.parametrize("name", OBJECTS)
@pytest.mark.parametrize("style", ["flat", "outline", "pixel art"])
def test_the_judge_reads_every_object_in_every_style(name: str, style: str):
    seen = judge(draw(scene_of(name, style=style)))
    assert (seen.object, seen.colour, seen.background, seen.place) == (name, "red", "blue", "centre")


@pytest.mark.parametrize("background", backgrounds())
def test_the_judge_reads_every_colour_on_every_background(background: str):
    for colour in colours_on(background):
        seen = judge(draw(scene_of("star", colour, background)))
        assert (seen.object, seen.colour, seen.background) == ("star", colour, background)


def test_the_judge_reads_larger_and_wider_pictures():
    assert judge(draw(scene_of("heart"), 256, 256)).object == "heart"
    wide = judge(draw(scene_of("house", place="right"), 192, 128))
    assert (wide.object, wide.place) == ("house", "right")


def test_the_judge_finds_two_things():
    left = Thing(object="circle", colour="red", size="small", place="left")
    right = Thing(object="star", colour="yellow", size="medium", place="right")
    seen = judge(draw(Scene(things=(left, right), background="blue")))
    assert {(thing.object, thing.colour, thing.place) for thing in seen.things} == {("circle", "red", "left"), ("star", "yellow", "right")}


def test_the_judge_sees_no_thing_where_there_is_none():
    assert judge(draw(Scene(things=(), background="grass"))).things == ()


def test_the_judge_errs_in_fewer_than_one_in_a_hundred():
    rng, wrong, count = Random(11), 0, 200
    for _ in range(count):
        scene = random_scene(rng)
        found = {(thing.object, thing.colour, thing.place) for thing in judge(draw(scene)).things}
        wrong += found != {(thing.object, thing.colour, thing.place) for thing in scene.things}
    assert wrong <= 0.02 * count
