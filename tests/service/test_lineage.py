"""webui/service/lineage.py: what was made from what."""

import io
import json
from dataclasses import replace

import pytest
from PIL import Image

from tests.service.handlers import small
from tests.service.shelf import Shelf
from webui.core.hires import HiresFix
from webui.core.request import GenerationRequest, InitImage, Inpaint, Outpaint, TiledUpscale
from webui.service.lineage import Lineage, Relative
from webui.service.picture_facts import facts_of


@pytest.fixture
def lineage(shelf: Shelf) -> Lineage:
    return Lineage(shelf.database, shelf.inputs.open)


def from_input(sha256: str, **init: object) -> GenerationRequest:
    return small(seed=9, init=InitImage(image=sha256, **init))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("init", "relation"),
    [
        ({}, "img2img"),
        ({"inpaint": Inpaint(mask="0" * 64)}, "inpaint"),
        ({"outpaint": Outpaint(left=64)}, "outpaint"),
        ({"upscale": TiledUpscale()}, "upscale"),
    ],
)
def test_a_picture_made_from_a_file_of_ours_knows_it(shelf: Shelf, lineage: Lineage, init: dict[str, object], relation: str) -> None:
    (parent,) = shelf.seeds(1)
    (child,) = shelf.save(from_input(shelf.inputs.add(parent.path.read_bytes()), **init))
    assert lineage.parents(child.id) == [Relative(parent.id, relation)]
    assert lineage.children(parent.id) == [Relative(child.id, relation)]
    assert lineage.parents(parent.id) == lineage.children(child.id) == []


def test_hires_fix_of_a_finished_picture_is_an_upscale(shelf: Shelf, lineage: Lineage) -> None:
    (parent,) = shelf.seeds(1)
    (child,) = shelf.save(small(seed=1, hires=HiresFix(image=shelf.inputs.add(parent.path.read_bytes()))))
    assert lineage.parents(child.id) == [Relative(parent.id, "upscale")]


def test_a_picture_saved_anew_is_known_by_its_pixels(shelf: Shelf, lineage: Lineage) -> None:
    (parent,) = shelf.seeds(1)
    buffer = io.BytesIO()
    Image.open(parent.path).convert("RGBA").save(buffer, "PNG", compress_level=1)
    (child,) = shelf.save(from_input(shelf.inputs.add(buffer.getvalue())))
    assert lineage.parents(child.id) == []
    assert lineage.look_at_inputs() == 1
    assert lineage.look_at_inputs() == 0
    assert lineage.parents(child.id) == [Relative(parent.id, "img2img")]
    assert lineage.children(parent.id) == [Relative(child.id, "img2img")]


def test_a_picture_with_transparency_or_without_file_is_nobodys(shelf: Shelf, lineage: Lineage) -> None:
    (parent,) = shelf.seeds(1)
    image = Image.open(parent.path).convert("RGBA")
    image.putpixel((0, 0), (*image.getpixel((0, 0))[:3], 7))  # type: ignore[index]
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    (one,) = shelf.save(from_input(shelf.inputs.add(buffer.getvalue())))
    (two,) = shelf.save(from_input("ab" * 32))
    assert lineage.look_at_inputs() == 2
    assert lineage.parents(one.id) == lineage.parents(two.id) == []


def test_the_same_recipe_again_is_a_replay(shelf: Shelf, lineage: Lineage) -> None:
    first, other = shelf.seeds(1, 2)
    (again,) = shelf.seeds(1)
    (third,) = shelf.seeds(1)
    assert lineage.parents(again.id) == [Relative(first.id, "replay")]
    assert lineage.children(first.id) == [Relative(again.id, "replay"), Relative(third.id, "replay")]
    assert lineage.parents(other.id) == []


def test_lineage_is_found_again_from_the_files_alone_whatever_their_order(shelf: Shelf, lineage: Lineage) -> None:
    (parent,) = shelf.seeds(1)
    (child,) = shelf.save(from_input(shelf.inputs.add(parent.path.read_bytes())))
    with shelf.database.write() as connection:
        for table in ("pictures", "picture_facts", "picture_words", "picture_sources", "input_pixels"):
            connection.execute(f"DELETE FROM {table}")
    assert shelf.gallery.adopt([child.path, parent.path]) == 2
    new = {each.path: each.id for each in shelf.gallery.recent(9, 0, None)}
    assert lineage.parents(new[child.path]) == [Relative(new[parent.path], "img2img")]


def test_pictures_that_were_made_larger_name_theirs_by_place() -> None:
    request = json.dumps({"images": ["aa" * 32, "bb" * 32], "upscaler": "Lanczos"})
    assert facts_of("", request, "x.png", place=1).sources == (("upscale", "bb" * 32),)
    assert facts_of("", request, "x.png", place=5).sources == ()
    assert facts_of("", request, "x.png").recipe == ""


def test_jpegs_are_known_by_their_bytes(shelf: Shelf, lineage: Lineage) -> None:
    (parent,) = shelf.save(small(seed=1), picture_format="jpg")
    (child,) = shelf.save(replace(from_input(shelf.inputs.add(parent.path.read_bytes())), seed=3))
    assert lineage.parents(child.id) == [Relative(parent.id, "img2img")]
