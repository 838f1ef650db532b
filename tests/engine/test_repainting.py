"""img2img's options, against the formulas of what they change."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from tests.engine.test_generate import CFG, PHOTO, REQUEST, Script, decoded_latents, model, pictures, relative, run
from tests.engine.test_hires_fix import euler_by_hand
from webui.core.errors import BadRequest
from webui.core.event import Pictures, Progress
from webui.core.request import InitImage, Inpaint, TiledUpscale
from webui.engine.colours import LUMA, with_colours_of
from webui.engine.generate import generate
from webui.engine.latents import encode_image, encode_masked, encode_nothing, to_pixels
from webui.engine.model import DiffusionModel
from webui.engine.rng import ImageNoise
from webui.engine.sources import make_source

__all__ = ["model"]  # the fixture
INIT = InitImage(image="photo", denoising_strength=0.6, exact_steps=True)
AGAIN = replace(REQUEST, cfg_scale=CFG, steps=3, init=INIT)


def encoded(model):
    with torch.no_grad():
        return encode_image(model, PHOTO)


def test_exact_steps_are_the_tail_of_a_longer_schedule(model, monkeypatch):
    assert relative(decoded_latents(model, AGAIN, monkeypatch), euler_by_hand(model, AGAIN, encoded(model), 0.6, 3)) < 1e-4


def test_without_them_the_strength_counts_steps(model):
    request = replace(AGAIN, steps=10, init=replace(INIT, exact_steps=False))
    assert next(event.steps for event in run(model, request) if isinstance(event, Progress)) == 7


@pytest.mark.parametrize(("multiplier", "extra"), [(0.8, 0.0), (1.0, 0.3), (0.8, 0.3)])
@pytest.mark.parametrize("sampler", ["Euler", "DDIM"])
def test_the_noise_on_the_picture_is_multiplied_and_more_than_the_sampler_expects(model, monkeypatch, sampler, multiplier, extra):
    seen = []
    forward = model.unet.forward
    monkeypatch.setattr(model.unet, "forward", lambda x, t, **rest: seen.append((x, float(t))) or forward(x, t, **rest))
    pictures(model, replace(AGAIN, sampler=sampler, init=replace(INIT, noise_multiplier=multiplier, extra_noise=extra)))
    noise = ImageNoise([REQUEST.seed]).first((4, 8, 8)) * multiplier
    x, t = seen[0]
    alpha = float(model.alphas_cumprod[round(t)])
    if sampler == "DDIM":  # x of unit variance, noised to the timestep above that of the first call
        above = float(model.alphas_cumprod[round(t) + 200])
        sigma = math.sqrt((1 - above) / above)
        expected = math.sqrt(above) * (encoded(model) + noise * (sigma + extra))
    else:
        sigma = math.sqrt((1 - alpha) / alpha)
        expected = (encoded(model) + noise * (sigma + extra)) / math.hypot(1, sigma)
    assert relative(x[:1], expected) < 2e-3  # the timestep of the first call is not whole


def test_colour_correction_gives_the_result_the_old_pictures_colours(model):
    plain = pictures(model, AGAIN)[0].image
    corrected = pictures(model, replace(AGAIN, init=replace(INIT, colour_correction=True)))[0].image
    assert np.array_equal(np.asarray(corrected), np.asarray(with_colours_of(plain, PHOTO)))
    assert np.abs(np.asarray(corrected) @ LUMA - np.asarray(plain) @ LUMA).max() <= 1


def test_colour_correction_leaves_what_is_not_masked(model):
    init = replace(INIT, colour_correction=True, inpaint=Inpaint(mask="mask", blur_x=0, blur_y=0))
    made = np.asarray(pictures(model, replace(AGAIN, init=init))[0].image)
    assert np.array_equal(made[:24], np.asarray(PHOTO)[:24])
    assert not np.array_equal(made[24:40, 24:40], np.asarray(PHOTO)[24:40, 24:40])


@pytest.mark.parametrize("weight", [0.0, 0.4, 1.0])
def test_the_mask_weight_greys_the_picture_that_an_inpainting_model_sees_by_as_much(model, weight):
    mask = Image.new("L", PHOTO.size)
    mask.paste(255, (0, 0, 32, 64))
    painted = torch.from_numpy(np.asarray(mask) / 255).float()
    pixels = torch.lerp(to_pixels(PHOTO), to_pixels(PHOTO) * (1 - painted), weight)
    with torch.no_grad():
        expected = model.vae.encode(pixels).latent_dist.mean * model.scaling_factor
        shown = encode_masked(model, [PHOTO], mask, weight)
    assert torch.allclose(shown[:, 1:], expected, atol=1e-4)
    assert torch.equal(shown[:, :1, :, :4], torch.ones(1, 1, 8, 4))


@pytest.mark.parametrize(("field", "value"), [("noise_multiplier", 3), ("extra_noise", -1), ("mask_weight", float("nan"))])
def test_options_out_of_range_are_refused(field, value):
    with pytest.raises(BadRequest, match=field.replace("_", " ")):
        replace(AGAIN, init=replace(INIT, **{field: value})).validate()


def test_in_img2img_an_inpainting_model_sees_as_much_of_the_picture_as_the_mask_weight_leaves(model):
    told = DiffusionModel(model.pipeline, replace(model.family, inpainting=True), model.path)
    with torch.no_grad():
        shown = [
            make_source(replace(AGAIN, init=replace(INIT, mask_weight=weight)), told, {"photo": PHOTO}.__getitem__).begin(0, [], [1]).shown
            for weight in (1.0, 0.25)
        ]
        assert torch.allclose(shown[0], encode_nothing(told, (64, 64)))
        assert torch.allclose(shown[1], encode_masked(told, [PHOTO], Image.new("L", (64, 64), 255), 0.25))
    assert torch.equal(shown[1][:, 0], torch.ones(1, 8, 8))


# SD upscale


def test_tiles_of_sd_upscale_equal_their_parts_made_by_img2img(model):
    init = InitImage(image="photo", denoising_strength=0.5, upscale=TiledUpscale(scale=2, upscaler="Nearest", overlap=0))
    made = pictures(model, replace(REQUEST, steps=2, width=64, height=128, init=init))[0].image  # two tiles, side by side
    assert made.size == (128, 128)
    large = PHOTO.resize((128, 128), Image.Resampling.NEAREST)
    for number, left in enumerate((0, 64)):
        part = large.crop((left, 0, left + 64, 128))
        request = replace(REQUEST, steps=2, width=64, height=128, seed=REQUEST.seed + number, init=replace(init, upscale=None))
        events = generate(request, Script(), load=lambda asked: model, open_input={"photo": part}.__getitem__)
        (alone,) = [picture.image for event in events if isinstance(event, Pictures) for picture in event.pictures]
        assert np.array_equal(np.asarray(made)[:, left : left + 64], np.asarray(alone))


def test_sd_upscale_without_an_upscaler_keeps_the_size(model):
    init = InitImage(image="uneven", denoising_strength=0.5, upscale=TiledUpscale(scale=3, overlap=8))
    assert pictures(model, replace(REQUEST, steps=1, init=init))[0].image.size == (60, 50)


def test_too_much_at_once_is_refused():
    init = InitImage(image="photo", upscale=TiledUpscale(), inpaint=Inpaint(mask="mask"))
    with pytest.raises(BadRequest, match="send two"):
        replace(REQUEST, init=init).validate()
    with pytest.raises(BadRequest, match="scale 9"):
        replace(REQUEST, init=InitImage(image="photo", upscale=TiledUpscale(scale=9))).validate()
