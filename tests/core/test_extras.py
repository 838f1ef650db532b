"""What Extras are asked for: sizes as the field has them, the line that tells it, and what is refused."""

from dataclasses import replace

import pytest

from webui.core.errors import BadRequest
from webui.core.extras import ExtrasRequest
from webui.core.job_request import KINDS, kind_of, last_models, makes_model_files, shown_request
from webui.core.key_values import items

REQUEST = ExtrasRequest(images=("a" * 64,), upscaler="Lanczos")


def test_it_is_stored_and_read_back_as_it_was():
    request = replace(
        REQUEST, images=("a", "b"), second_upscaler="Nearest", second_visibility=0.25, width=30, height=40, crop=False, tile=64
    )
    assert ExtrasRequest.from_json(request.to_json() | {"of a later version": 1}) == request
    assert KINDS[kind_of(request)] is ExtrasRequest


def test_a_worker_keeps_its_models_over_it_and_no_model_file_comes_of_it():
    assert (last_models(REQUEST), shown_request(REQUEST), makes_model_files(REQUEST)) == (None, None, False)


@pytest.mark.parametrize(
    ("scale", "size", "made"),
    [
        (2, (64, 64), (128, 128)),
        (2, (65, 67), (128, 128)),  # 130 and 134: down to multiples of 8
        (1.5, (100, 50), (144, 72)),
        (4, (3, 1), (8, 8)),
        (0.5, (128, 64), (64, 32)),
        (1, (70, 70), (64, 64)),
    ],
)
def test_by_a_scale_sides_are_rounded_down_to_multiples_of_8(scale, size, made):
    assert replace(REQUEST, scale=scale).covering(size) == made


@pytest.mark.parametrize(
    ("target", "size", "made"),
    [
        ((200, 200), (100, 50), (400, 200)),
        ((256, 128), (128, 64), (256, 128)),
        ((250, 250), (100, 100), (250, 250)),
        ((7, 5), (70, 60), (7, 6)),
    ],
)
def test_to_a_size_the_picture_covers_it_in_its_own_proportions(target, size, made):
    assert replace(REQUEST, width=target[0], height=target[1]).covering(size) == made


def test_upscaler_none_leaves_the_picture_as_it_is():
    request = replace(REQUEST, upscaler="None", second_upscaler="Lanczos", second_visibility=1.0)
    assert request.covering((33, 77)) == (33, 77)
    assert request.postprocessing() == ""


def test_the_line_tells_a_scale_in_the_field_s_words():
    assert REQUEST.postprocessing() == "Postprocess upscale by: 2, Postprocess upscaler: Lanczos"


def test_the_line_tells_a_size_and_both_upscalers():
    request = replace(REQUEST, upscaler="a, b", second_upscaler="Nearest", second_visibility=0.5, width=40, height=30)
    assert dict(items(request.postprocessing())) == {
        "Postprocess upscale to": "40x30",
        "Postprocess upscaler": "a, b",
        "Postprocess upscaler 2": "Nearest",
        "Postprocess upscaler 2 visibility": "0.5",
        "Postprocess crop to": "40x30",
    }


def test_the_titles_say_how_many_and_how():
    assert REQUEST.title == "1 picture, Lanczos, ×2"
    assert replace(REQUEST, images=("a", "b"), width=40, height=30).title == "2 pictures, Lanczos, 40 x 30"


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"images": ()}, "0 pictures"),
        ({"images": ("a",) * 1001}, "1001 pictures"),
        ({"scale": 0.01}, "scale 0.01 is out of range"),
        ({"scale": float("nan")}, "scale nan"),
        ({"second_visibility": 1.5}, "second visibility 1.5"),
        ({"width": 100}, "both width and height"),
        ({"height": 16001, "width": 1}, "height 16001"),
        ({"tile": 8}, "tiles of 8 pixels"),
        ({"upscaler": " "}, "upscaler ' '"),
        ({"second_upscaler": "x" * 301}, "upscaler 2"),
        ({"tile": True}, "tile True"),
    ],
)
def test_what_cannot_be_done_is_refused_with_a_sentence(changes, told):
    with pytest.raises(BadRequest, match=told):
        replace(REQUEST, **changes).validate()


def test_pictures_that_would_become_too_large_are_refused():
    with pytest.raises(BadRequest, match="4000x4000 would become one of 16000x16000"):
        replace(REQUEST, scale=4).check_size((4000, 4000))
