"""A1111's ways to outpaint: which windows, what noise, and that the old pixels stay."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from tests.engine.test_generate import PHOTO, REQUEST, Script, model, pictures
from webui.core.request import InitImage, Outpaint
from webui.engine import sampling
from webui.engine.outpainting_a1111 import lay_in, plan, prepared, spectral_noise
from webui.training.world import draw_background

__all__ = ["model"]  # the fixture
MK2, POOR = "Outpainting mk2", "Poor man's outpainting"
SKY = draw_background("day sky", 128, 128, 1)


def test_mk2_goes_side_by_side_left_right_up_down():
    steps = plan((128, 128), Outpaint(left=64, right=64, top=64, bottom=64, way=MK2), 128)
    assert [step.new for step in steps] == [(0, 64, 64, 192), (192, 64, 256, 192), (0, 0, 256, 64), (0, 192, 256, 256)]
    assert [step.window for step in steps] == [(0, 64, 128, 192), (128, 64, 256, 192), (0, 0, 256, 128), (0, 128, 256, 256)]


def test_mk2_makes_more_than_half_of_what_the_model_sees_in_repeated_strips():
    steps = plan((128, 128), Outpaint(right=192, way=MK2), 128)
    assert [step.new for step in steps] == [(128, 0, 192, 128), (192, 0, 256, 128), (256, 0, 320, 128)]
    assert all(step.window[2] - step.window[0] == 128 for step in steps)


def test_mk2_repaints_a_rim_of_the_old_picture_and_fades_further_into_it():
    (step,) = plan((128, 128), Outpaint(right=64, blur=4, way=MK2), 128)
    repaint, overlay = np.asarray(step.repaint), np.asarray(step.overlay).astype(int)
    assert (repaint[:, 64 - 8 :] == 255).all()
    assert (repaint[:, : 64 - 8] == 0).all()
    assert (overlay[:, 60:] >= 254).all()
    assert (np.diff(overlay[0]) >= 0).all()
    assert (overlay[:, :19] == 0).all()  # 4 pixels, then 2.5 standard deviations of 16


def test_poor_mans_tiles_overlap_and_leave_out_those_that_lie_in_the_old_picture():
    steps = plan((256, 256), Outpaint(right=64, way=POOR, tile_width=128, tile_height=128), 512)
    boxes = [step.window for step in steps]
    assert max(box[2] for box in boxes) == 320
    assert all(box[2] > 256 for box in boxes)
    assert {(box[2] - box[0], box[3] - box[1]) for box in boxes} == {(128, 128)}


@pytest.mark.parametrize("way", [MK2, POOR])
@pytest.mark.parametrize("sides", [{"right": 64}, {"left": 64, "top": 64}, {"left": 8, "right": 8, "top": 8, "bottom": 8}])
@pytest.mark.parametrize("sampler", ["Euler a", "DDIM"])
def test_pixels_beyond_the_blur_stay(model, way, sides, sampler):
    outpaint = Outpaint(**sides, blur=1, way=way)
    made = np.asarray(pictures(model, replace(REQUEST, sampler=sampler, init=InitImage(image="photo", outpaint=outpaint)))[0].image)
    true = outpaint.settled(64, 64)
    assert made.shape == (64 + true.top + true.bottom, 64 + true.left + true.right, 3)
    assert not any(side % 64 for side in made.shape[:2])
    old = made[true.top : true.top + 64, true.left : true.left + 64]
    reach = 12  # 1 pixel of blur: 2 of rim, then 2.5 standard deviations of 4
    kept = np.s_[reach * (true.top > 0) : 64 - reach * (true.bottom > 0), reach * (true.left > 0) : 64 - reach * (true.right > 0)]
    assert np.array_equal(old[kept], np.asarray(PHOTO)[kept])
    assert np.asarray(made)[:, -4:].std() > 1 or not true.right


@pytest.mark.parametrize("way", [MK2, POOR])
def test_pictures_of_any_size_can_be_extended(model, way):
    init = InitImage(image="uneven", outpaint=Outpaint(right=16, blur=0, way=way))  # 60 x 50
    made = np.asarray(pictures(model, replace(REQUEST, init=init))[0].image)
    assert made.shape == (50, 128, 3)


@pytest.mark.parametrize("content", ["fill", "original", "latent noise", "latent nothing"])
def test_poor_mans_new_area_begins_with_its_masked_content(model, content):
    init = InitImage(image="photo", outpaint=Outpaint(right=64, blur=0, way=POOR, content=content))
    made = np.asarray(pictures(model, replace(REQUEST, init=init))[0].image)
    assert np.array_equal(made[:, :64], np.asarray(PHOTO))


def test_what_was_not_made_when_it_was_stopped_holds_what_it_would_have_begun_with(model):
    init = InitImage(image="photo", outpaint=Outpaint(left=64, right=64, way=MK2))
    made = np.asarray(pictures(model, replace(REQUEST, init=init), Script(interrupt_after=2))[0].image)
    assert made.shape == (64, 192, 3)
    assert made[:, -64:].std() > 1


def test_tiles_take_the_next_seed_each_as_in_the_field(model, monkeypatch):
    seeds = []
    noise = sampling.ImageNoise
    monkeypatch.setattr(sampling, "ImageNoise", lambda given, *rest: seeds.append(given) or noise(given, *rest))
    init = InitImage(image="photo", outpaint=Outpaint(right=64, bottom=64, blur=0, way=POOR))
    pictures(model, replace(REQUEST, steps=1, init=init))
    assert seeds == [[7 + number] for number in range(len(seeds))]
    assert len(seeds) >= 3


def test_noise_has_the_pictures_colours():
    noise = np.asarray(spectral_noise(SKY, (64, 128), 1.0, 0.05, 0)).astype(float)
    assert noise.shape == (128, 64, 3)
    assert np.abs(noise.mean(axis=(0, 1)) - np.asarray(SKY).mean(axis=(0, 1))).max() < 8
    assert np.abs(np.quantile(noise, [0.1, 0.9], axis=(0, 1)) - np.quantile(np.asarray(SKY), [0.1, 0.9], axis=(0, 1))).max() < 12


def test_a_higher_fall_off_makes_smoother_noise():
    def roughness(falloff):
        noise = np.asarray(spectral_noise(SKY, (128, 128), falloff, 0.0, 0)).astype(float)
        return np.abs(np.diff(noise, axis=0)).mean() / noise.std()

    assert roughness(2.0) < roughness(1.0) < roughness(0.3)


def test_colour_variation_gives_the_channels_noise_of_their_own():
    grey = Image.fromarray(np.repeat(np.random.default_rng(1).integers(0, 256, (64, 64, 1), dtype=np.uint8), 3, axis=2))

    def correlation(variation):
        noise = np.asarray(spectral_noise(grey, (64, 64), 1.0, variation, 0)).astype(float)
        return np.corrcoef(noise[..., 0].ravel(), noise[..., 2].ravel())[0, 1]

    assert correlation(0.0) > 0.999 > correlation(0.5) > correlation(1.0)


def test_a_flat_picture_goes_on_flat():
    assert np.asarray(spectral_noise(Image.new("RGB", (32, 32), (10, 20, 30)), (16, 32), 1.0, 0.05, 0)).std(axis=(0, 1)).max() == 0


def test_laying_in_what_was_begun_with_changes_nothing_old():
    outpaint = Outpaint(left=64, way=MK2)
    (step,) = plan((128, 128), outpaint, 128)
    canvas = Image.new("RGB", (192, 128))
    canvas.paste(SKY, (64, 0))
    begun = prepared(canvas, step, outpaint, 0)
    laid = lay_in(canvas, begun, begun.crop(step.window), step)
    assert np.array_equal(np.asarray(laid)[:, 64:], np.asarray(SKY))
    assert np.asarray(laid)[:, :64].std() > 1
