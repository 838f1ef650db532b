"""The scripts that extend or enlarge a picture: one request each, by A1111's arguments in its order."""

from dataclasses import replace
from typing import Any

import pytest

from webui.core.errors import BadRequest
from webui.core.request import GenerationRequest, InitImage, Outpaint, TiledUpscale
from webui.core.scripts.arguments import by_position
from webui.core.scripts.table import find_script

INIT = InitImage(image="a" * 64, denoising_strength=0.8)
REQUEST = GenerationRequest(seed=5, variation_seed=0, width=512, height=384, init=INIT)


def run(title: str, *arguments: Any, request: GenerationRequest = REQUEST) -> GenerationRequest:
    script = find_script(title)
    plan = script.plan(request, by_position(script.title, script.arguments("img2img"), arguments), lambda: 1)
    assert plan.sheet is None
    (step,) = plan.steps
    return step.request


def test_outpainting_mk2_takes_its_arguments_by_position() -> None:
    made = run(" outpainting MK2 ", None, 64, 12, ["left", "down"], 1.5, 0.2)
    wanted = Outpaint(
        left=64, bottom=64, blur=12, way="Outpainting mk2", falloff=1.5, colour_variation=0.2, tile_width=512, tile_height=384
    )
    assert made == replace(REQUEST, width=0, height=0, init=replace(INIT, outpaint=wanted))
    plain = run("Outpainting mk2").init
    assert plain is not None
    assert plain.outpaint is not None
    assert (plain.outpaint.right, plain.outpaint.top, plain.outpaint.blur) == (128, 128, 8)


def test_poor_mans_outpainting_takes_its_arguments_by_position() -> None:
    wanted = Outpaint(top=32, blur=4, way="Poor man's outpainting", content="latent noise", tile_width=512, tile_height=384)
    assert run("Poor man's outpainting", 32.0, 4, 2, ["up"]).init == replace(INIT, outpaint=wanted)
    assert run("Poor man's outpainting", 32, 4, "Original", ["up"]).init == replace(INIT, outpaint=replace(wanted, content="original"))


def test_sd_upscale_keeps_the_size_for_its_tiles() -> None:
    made = run("SD upscale", "", 48, "lanczos", 3)
    assert made == replace(REQUEST, init=replace(INIT, upscale=TiledUpscale(scale=3, upscaler="Lanczos", overlap=48)))


@pytest.mark.parametrize(
    ("title", "arguments", "told"),
    [
        ("Outpainting mk2", [None, "x"], "Pixels to expand"),
        ("Outpainting mk2", [None, 1000], "8 to 256"),
        ("Outpainting mk2", [None, 64, 8, ["sideways"]], "sideways"),
        ("Outpainting mk2", [None] * 6 + [1], "takes 6"),
        ("Poor man's outpainting", [64, 4, 9], "Masked content '9'"),
        ("SD upscale", [None, 64, 7], "Upscaler '7'"),
        ("SD upscale", [None, -1], "Tile overlap"),
    ],
)
def test_wrong_arguments_are_refused_with_a_sentence(title: str, arguments: list[Any], told: str) -> None:
    with pytest.raises(BadRequest, match=told):
        run(title, *arguments)


@pytest.mark.parametrize("title", ["Outpainting mk2", "Poor man's outpainting", "SD upscale"])
def test_scripts_that_begin_with_a_picture_need_one(title: str) -> None:
    with pytest.raises(BadRequest, match="img2img"):
        run(title, request=replace(REQUEST, init=None))


@pytest.mark.parametrize(
    ("size", "asked", "settled"),
    [
        ((128, 128), {"right": 64}, {"right": 64}),
        ((200, 100), {"right": 64}, {"right": 120}),
        ((200, 100), {"left": 64, "right": 64}, {"left": 92, "right": 92}),
        ((200, 100), {"top": 100}, {"top": 156}),
    ],
)
def test_a1111s_ways_round_the_sides_that_they_extend_up_to_64(
    size: tuple[int, int], asked: dict[str, int], settled: dict[str, int]
) -> None:
    for way in ("Outpainting mk2", "Poor man's outpainting"):
        assert Outpaint(**asked, way=way).settled(*size) == Outpaint(**settled, way=way)  # type: ignore[arg-type]
    assert Outpaint(**asked).settled(*size) == Outpaint(**asked)  # type: ignore[arg-type]
