"""Colour correction, against the colours that CIE and W3C publish, and by what must stay."""

import numpy as np
import pytest
from PIL import Image

from webui.engine.colours import LUMA, lab, rgb, with_colours_of
from webui.training.world import Scene, Thing, draw


def pixels(image):
    return np.asarray(image, dtype=float)


PICTURE = draw(Scene(things=(Thing(object="circle", colour="red", size="large", place="centre"),), background="blue"))
OTHER = draw(Scene(things=(Thing(object="star", colour="green", size="large", place="left"),), background="yellow"))


@pytest.mark.parametrize(
    ("colour", "expected"),
    [
        ((255, 255, 255), (100, 0, 0)),
        ((0, 0, 0), (0, 0, 0)),
        ((255, 0, 0), (53.24, 80.09, 67.20)),
        ((0, 255, 0), (87.73, -86.18, 83.18)),
        ((0, 0, 255), (32.30, 79.19, -107.86)),
        ((119, 119, 119), (50.03, 0, 0)),
    ],
)
def test_lab_of_known_colours(colour, expected):
    assert np.allclose(lab(np.array(colour, dtype=float)), expected, atol=0.02)


def test_lab_and_back_is_the_same_colour():
    colours = np.random.default_rng(0).uniform(0, 255, (64, 64, 3))
    assert np.allclose(rgb(lab(colours)), colours, atol=0.01)


def test_a_picture_with_its_own_colours_stays():
    assert np.abs(pixels(with_colours_of(PICTURE, PICTURE)) - pixels(PICTURE)).max() <= 2


def test_luminosity_stays_and_hues_come_from_the_other_picture():
    made = with_colours_of(PICTURE, OTHER)
    assert np.abs(pixels(made) @ LUMA - pixels(PICTURE) @ LUMA).max() <= 1
    distances = [
        np.abs(lab(pixels(image)).mean(axis=(0, 1))[1:] - lab(pixels(OTHER)).mean(axis=(0, 1))[1:]).sum() for image in (made, PICTURE)
    ]
    assert distances[0] < distances[1] / 2


def test_sizes_need_not_be_the_same():
    assert with_colours_of(PICTURE, OTHER.resize((50, 70))).size == PICTURE.size
    assert with_colours_of(Image.new("RGB", (8, 8)), PICTURE).size == (8, 8)
