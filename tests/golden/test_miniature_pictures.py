"""What the miniature checkpoint makes, judged by content: the whole engine on real weights, seconds a picture."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.judge import judge
from webui.core.event import Pictures
from webui.core.hires import HiresFix
from webui.core.request import GenerationRequest, InitImage, Inpaint, Outpaint, TiledUpscale
from webui.core.soft_inpainting import SoftInpainting
from webui.engine.checkpoint import load_checkpoint
from webui.engine.generate import generate
from webui.training.world import COLOURS, NATIVE_SIZE, Scene, Thing, draw

MINIATURE = Path(__file__).parents[2] / "models" / "Stable-diffusion" / "easel-miniature.safetensors"
CIRCLE = Scene(things=(Thing(object="circle", colour="red", size="medium", place="centre"),), background="blue")
REQUEST = GenerationRequest(
    prompt="a red circle on a blue background",
    checkpoint=MINIATURE.name,
    vae="None",
    width=NATIVE_SIZE,
    height=NATIVE_SIZE,
    cfg_scale=4.0,  # at which the README's figures were measured
    seed=1,
    variation_seed=0,
)


class Alone:
    interrupted = previews = False

    def take_skip(self):
        return False


@pytest.fixture(scope="module")
def make():
    """request, pictures by name -> the first picture."""
    model = load_checkpoint(MINIATURE, torch.float32, torch.device("cpu"))

    def first(request: GenerationRequest, **inputs: Image.Image) -> Image.Image:
        events = generate(request, Alone(), load=lambda asked: model, open_input=inputs.__getitem__)
        return next(event.pictures[0].image for event in events if isinstance(event, Pictures))

    return first


@pytest.fixture(scope="module")
def by_euler(make):
    return np.asarray(make(replace(REQUEST, steps=50, sampler="Euler"))).astype(int)


def seen(image):
    found = judge(image)
    return found.colour, found.object, found.background


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("sampler", ["DPM++ 2M", "Euler a", "DDIM", "UniPC", "DPM++ 2M SDE"])
def test_the_prompt_is_followed(make, sampler, seed):
    assert seen(make(replace(REQUEST, sampler=sampler, seed=seed))) == ("red", "circle", "blue")


@pytest.mark.parametrize(
    ("prompt", "shown"),
    [
        ("[a red circle:a green star:0.1] on a blue background", ("green", "star", "blue")),
        ("[a green star:a red circle:2] on a blue background", ("red", "circle", "blue")),
        ("a red circle on a [blue:yellow:0.1] background", ("red", "circle", "yellow")),
        ("a red circle on a blue background AND a green background:-0.3", ("red", "circle", "blue")),
        ("a red circle on a blue background AND a green star on a yellow background:0", ("red", "circle", "blue")),
    ],
)
def test_prompts_that_change_and_weighted_parts_are_followed(make, prompt, shown):
    assert seen(make(replace(REQUEST, prompt=prompt))) == shown


@pytest.mark.parametrize("sampler", ["Heun", "LMS", "DPM++ 2M", "DDIM", "PLMS", "UniPC"])
def test_samplers_without_noise_of_their_own_agree_in_many_steps(make, by_euler, sampler):
    """They solve one equation; of few steps the higher orders (PLMS above all) make less than they promise where guidance is strong."""
    assert np.abs(np.asarray(make(replace(REQUEST, steps=50, sampler=sampler))).astype(int) - by_euler).mean() < 3  # grey levels


@pytest.mark.parametrize("upscaler", ["Latent", "Latent (nearest-exact)", "Lanczos"])
def test_hires_fix_makes_the_same_picture_larger(make, upscaler):
    """At a strength with which the miniature, which knows one size alone, still keeps to what it is given."""
    request = replace(REQUEST, hires=HiresFix(scale=2, denoising_strength=0.55, upscaler=upscaler))
    made, small = make(request), make(REQUEST)
    assert made.size == (2 * NATIVE_SIZE, 2 * NATIVE_SIZE)
    assert seen(made) == seen(small) == ("red", "circle", "blue")
    assert np.abs(np.asarray(made.resize(small.size)).astype(int) - np.asarray(small)).mean() < 20  # grey levels


def test_the_second_pass_follows_its_own_prompt(make):
    hires = HiresFix(scale=1, denoising_strength=0.9, upscaler="Lanczos", prompt="a green star on a blue background")
    assert seen(make(replace(REQUEST, hires=hires))) == ("green", "star", "blue")


def test_img2img_at_low_strength_keeps_the_picture(make):
    request = replace(REQUEST, init=InitImage(image="circle", denoising_strength=0.2))
    made, picture = make(request, circle=draw(CIRCLE)), draw(CIRCLE)
    assert seen(made) == ("red", "circle", "blue")
    assert np.abs(np.asarray(made).astype(int) - np.asarray(picture)).mean() < 8  # grey levels


def test_img2img_at_high_strength_follows_the_prompt(make):
    request = replace(REQUEST, prompt="a green star on a blue background", init=InitImage(image="circle", denoising_strength=0.9))
    assert seen(make(request, circle=draw(CIRCLE))) == ("green", "star", "blue")


def test_inpainting_changes_the_object_under_the_mask_and_nothing_else(make):
    mask = Image.new("L", (NATIVE_SIZE, NATIVE_SIZE))
    mask.paste(255, (24, 24, 104, 104))
    init = InitImage(image="circle", denoising_strength=1.0, inpaint=Inpaint(mask="mask", content="fill", blur_x=2, blur_y=2))
    picture = draw(CIRCLE)
    made = make(replace(REQUEST, prompt="a yellow square on a blue background", init=init), circle=picture, mask=mask)
    assert seen(made) == ("yellow", "square", "blue")
    rim = np.ones((NATIVE_SIZE, NATIVE_SIZE), dtype=bool)
    rim[19:109, 19:109] = False
    assert np.array_equal(np.asarray(made)[rim], np.asarray(picture)[rim])


def seams(image):
    """How much stronger than within the picture neighbours differ across its left and right, and across its top and bottom edges."""
    pixels = np.asarray(image).astype(float)
    found = []
    for axis in (1, 0):
        inside = np.abs(np.diff(pixels, axis=axis)).mean()
        found.append(np.abs(np.take(pixels, 0, axis) - np.take(pixels, -1, axis)).mean() / inside)
    return found


@pytest.mark.parametrize(("tiling", "smooth"), [("Both", (True, True)), ("Horizontal", (True, False))])
def test_a_picture_with_tiling_has_no_seam_along_its_axes(make, tiling, smooth):
    """A sunset is lighter below than above, so that where nothing is done about it, top and bottom do not meet."""
    for seed in (1, 2):
        found = seams(make(replace(REQUEST, prompt="a small red circle at the left, sunset", seed=seed, tiling=tiling)))
        assert [value < 2 for value in found] == list(smooth), found


def test_soft_inpainting_changes_the_object_and_leaves_what_lies_far_from_it(make):
    mask = Image.new("L", (NATIVE_SIZE, NATIVE_SIZE))
    mask.paste(255, (24, 24, 104, 104))
    inpaint = Inpaint(mask="mask", content="original", blur_x=6, blur_y=6, soft=SoftInpainting())
    picture = draw(CIRCLE)
    request = replace(
        REQUEST, prompt="a yellow square on a blue background", init=InitImage(image="circle", denoising_strength=0.9, inpaint=inpaint)
    )
    made = make(request, circle=picture, mask=mask)
    assert seen(made) == ("yellow", "square", "blue")
    assert np.array_equal(np.asarray(made)[:8], np.asarray(picture)[:8])


@pytest.mark.parametrize("background", ["blue", "yellow", "green"])
def test_outpainting_keeps_the_picture_and_continues_its_background(make, background):
    picture = draw(replace(CIRCLE, background=background, things=(replace(CIRCLE.things[0], place="left"),)))
    outpaint = Outpaint(right=64, blur=8)
    request = replace(
        REQUEST, prompt=f"a {background} background", init=InitImage(image="circle", denoising_strength=0.8, outpaint=outpaint)
    )
    made = np.asarray(make(request, circle=picture)).astype(int)
    assert made.shape == (NATIVE_SIZE, NATIVE_SIZE + 64, 3)
    assert np.array_equal(made[:, : NATIVE_SIZE - 8], np.asarray(picture)[:, : NATIVE_SIZE - 8])
    new = made[:, NATIVE_SIZE:]
    assert np.abs(np.median(new, axis=(0, 1)) - COLOURS[background]).max() < 20
    assert (np.abs(new - COLOURS[background]).max(axis=2) < 40).mean() > 0.6


@pytest.mark.parametrize("way", ["Outpainting mk2", "Poor man's outpainting"])
@pytest.mark.parametrize("background", ["blue", "green"])
def test_a1111s_ways_to_outpaint_keep_the_picture_and_continue_its_background(make, way, background):
    picture = draw(replace(CIRCLE, background=background, things=(replace(CIRCLE.things[0], place="left"),)))
    outpaint = Outpaint(right=64, blur=2, way=way)
    request = replace(
        REQUEST, prompt=f"a {background} background", init=InitImage(image="circle", denoising_strength=0.8, outpaint=outpaint)
    )
    made = np.asarray(make(request, circle=picture)).astype(int)
    assert made.shape == (NATIVE_SIZE, NATIVE_SIZE + 64, 3)
    kept = NATIVE_SIZE - 24  # two pixels of rim, then 2.5 standard deviations of eight
    assert np.array_equal(made[:, :kept], np.asarray(picture)[:, :kept])
    assert np.abs(np.median(made[:, NATIVE_SIZE:], axis=(0, 1)) - COLOURS[background]).max() < 20


def test_sd_upscale_repaints_the_picture_in_tiles_at_twice_its_size(make):
    upscale = TiledUpscale(scale=2, upscaler="Lanczos", overlap=32)
    request = replace(REQUEST, prompt="", init=InitImage(image="circle", denoising_strength=0.2, upscale=upscale))
    made = make(request, circle=draw(CIRCLE))
    assert made.size == (2 * NATIVE_SIZE, 2 * NATIVE_SIZE)
    assert seen(made) == ("red", "circle", "blue")
    assert np.abs(np.asarray(made.resize((NATIVE_SIZE, NATIVE_SIZE))).astype(int) - np.asarray(draw(CIRCLE))).mean() < 8  # grey levels


def test_a_picture_in_tiles_keeps_what_a_wide_picture_shows(make):
    wide = draw(
        Scene(things=(Thing(object="star", colour="yellow", size="large", place="right"),), background="night sky"), 2 * NATIVE_SIZE
    )
    init = InitImage(image="wide", denoising_strength=0.4)
    request = replace(REQUEST, prompt="a yellow star, night sky", width=2 * NATIVE_SIZE, tile=NATIVE_SIZE, tile_overlap=48, init=init)
    made = make(request, wide=wide)
    assert made.size == (2 * NATIVE_SIZE, NATIVE_SIZE)
    assert seen(made) == seen(wide) == ("yellow", "star", "night sky")
