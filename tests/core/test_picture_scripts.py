"""Scripts: what a request becomes, and which arguments are refused."""

from dataclasses import replace

import pytest

from webui.core.errors import BadRequest
from webui.core.picture_scripts import PREVIOUS, SCRIPTS, find_script
from webui.core.request import GenerationRequest, InitImage, Inpaint, Outpaint, TiledUpscale

REQUEST = GenerationRequest(seed=5, variation_seed=0, width=512, height=384, init=InitImage(image="a" * 64, denoising_strength=0.8))


def run(title, *arguments, request=REQUEST):
    script = find_script(title)
    assert script is not None
    return script(request, arguments)


def test_scripts_are_found_by_title_in_any_spelling():
    assert find_script(" outpainting MK2 ").title == "Outpainting mk2"
    assert find_script("nobody") is None
    assert list(SCRIPTS) == ["outpainting mk2", "poor man's outpainting", "sd upscale", "loopback"]


def test_outpainting_mk2_takes_its_arguments_by_position():
    (made,) = run("Outpainting mk2", None, 64, 12, ["left", "down"], 1.5, 0.2)
    wanted = Outpaint(
        left=64, bottom=64, blur=12, way="Outpainting mk2", falloff=1.5, colour_variation=0.2, tile_width=512, tile_height=384
    )
    assert made == replace(REQUEST, width=0, height=0, init=replace(REQUEST.init, outpaint=wanted))
    (made,) = run("Outpainting mk2")
    assert (made.init.outpaint.right, made.init.outpaint.top, made.init.outpaint.blur) == (128, 128, 8)


def test_poor_mans_outpainting_takes_its_arguments_by_position():
    (made,) = run("Poor man's outpainting", 32.0, 4, 2, ["up"])
    wanted = Outpaint(top=32, blur=4, way="Poor man's outpainting", content="latent noise", tile_width=512, tile_height=384)
    assert made.init.outpaint == wanted
    assert run("Poor man's outpainting", 32, 4, "Original", ["up"])[0].init.outpaint.content == "original"


def test_sd_upscale_keeps_the_size_for_its_tiles():
    (made,) = run("SD upscale", "", 48, "lanczos", 3)
    assert made == replace(REQUEST, init=replace(REQUEST.init, upscale=TiledUpscale(scale=3, upscaler="Lanczos", overlap=48)))


@pytest.mark.parametrize(
    ("curve", "strengths"),
    [("Linear", [0.8, 0.6, 0.4]), ("Aggressive", [0.8, 0.517157, 0.4]), ("Lazy", [0.8, 0.682843, 0.4])],
)
def test_loopback_makes_pictures_of_one_another(curve, strengths):
    made = run("Loopback", 3, 0.4, curve, "None", request=replace(REQUEST, batch_count=2))
    assert [step.init.denoising_strength for step in made] == pytest.approx(strengths * 2)
    assert [step.seed for step in made] == [5, 6, 7, 8, 9, 10]
    assert [step.init.image for step in made] == [*["a" * 64, PREVIOUS, PREVIOUS] * 2]
    assert {step.batch_count for step in made} == {1}


def test_loopback_of_one_loop_is_the_request_itself():
    assert run("Loopback", 1, 0.1) == [REQUEST]


def test_loopback_begins_with_what_was_made_under_the_mask():
    init = replace(REQUEST.init, inpaint=Inpaint(mask="b" * 64, content="fill"))
    first, second = run("Loopback", 2, request=replace(REQUEST, init=init))
    assert (first.init.inpaint.content, second.init.inpaint.content) == ("fill", "original")


@pytest.mark.parametrize(
    ("title", "arguments", "told"),
    [
        ("Outpainting mk2", [None, "x"], r"script_args\[1\]"),
        ("Outpainting mk2", [None, 64, 8, "left"], r"script_args\[3\]"),
        ("Outpainting mk2", [None, 64, 8, ["sideways"]], "sideways"),
        ("Outpainting mk2", [None] * 6 + [1], "takes 6"),
        ("Poor man's outpainting", [64, 4, 9], "masked content '9'"),
        ("SD upscale", [None, 64, "nobody"], "upscaler 'nobody'"),
        ("SD upscale", [None, True], r"script_args\[1\]"),
        ("Loopback", [0], "0 loops"),
        ("Loopback", [2, 0.5, "Steep"], "Steep"),
        ("Loopback", [2, 0.5, "Linear", "CLIP"], "words"),
    ],
)
def test_wrong_arguments_are_refused_with_a_sentence(title, arguments, told):
    with pytest.raises(BadRequest, match=told):
        run(title, *arguments)


def test_scripts_that_begin_with_a_picture_need_one():
    for script in SCRIPTS.values():
        with pytest.raises(BadRequest, match="img2img"):
            script(replace(REQUEST, init=None), [])


@pytest.mark.parametrize(
    ("size", "asked", "settled"),
    [
        ((128, 128), {"right": 64}, {"right": 64}),
        ((200, 100), {"right": 64}, {"right": 120}),
        ((200, 100), {"left": 64, "right": 64}, {"left": 92, "right": 92}),
        ((200, 100), {"top": 100}, {"top": 156}),
    ],
)
def test_a1111s_ways_round_the_sides_that_they_extend_up_to_64(size, asked, settled):
    for way in ("Outpainting mk2", "Poor man's outpainting"):
        assert Outpaint(**asked, way=way).settled(*size) == Outpaint(**settled, way=way)
    assert Outpaint(**asked).settled(*size) == Outpaint(**asked)
