"""Soft inpainting: its formulas, and that hard masks are what they were."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from tests.engine.test_generate import INPUTS, PHOTO, REQUEST, decoded_latents, model, pictures, relative
from webui.core.errors import BadRequest
from webui.core.request import InitImage, Inpaint
from webui.core.soft_inpainting import SoftInpainting, soft_from_arguments
from webui.engine.latents import encode_image
from webui.engine.soft_inpainting import among_neighbours, changed, mixed, soft_mask, softly_kept, softly_shown

__all__ = ["model"]  # the fixture
SOFT = SoftInpainting()
OLD, NEW = torch.randn(2, 1, 4, 6, 6, generator=torch.Generator().manual_seed(0))


def test_wholly_masked_is_new_and_unmasked_is_old():
    for part, expected in ((0.0, OLD), (1.0, NEW)):
        assert torch.allclose(mixed(OLD, NEW, torch.full((1, 1, 6, 6), part), 4.0), expected, atol=1e-5)


def test_a_mixture_is_as_long_as_the_power_mean_of_both():
    part = torch.full((1, 1, 6, 6), 0.25)
    lengths = [latents.norm(dim=1) for latents in (OLD, NEW, mixed(OLD, NEW, part, 3.0))]
    assert torch.allclose(lengths[2] ** 3, 0.75 * lengths[0] ** 3 + 0.25 * lengths[1] ** 3, rtol=1e-3)


@pytest.mark.parametrize(("sigma", "bias", "strength"), [(14.6, 1.0, 0.5), (2.0, 2.0, 0.25), (0.03, 0.5, 1.0)])
def test_the_mask_is_raised_to_a_power_that_falls_with_sigma(sigma, bias, strength):
    mask = torch.rand(1, 1, 6, 6, generator=torch.Generator().manual_seed(1))
    soft = SoftInpainting(schedule_bias=bias, preservation_strength=strength)
    answer = softly_kept(lambda x, sigma, call: NEW, mask, OLD, soft)(NEW, torch.tensor(sigma), 0)
    assert torch.allclose(answer, mixed(OLD, NEW, mask ** (strength * sigma**bias), 4.0), atol=1e-5)


@pytest.mark.parametrize("sampler", ["Euler", "Euler a", "DPM++ 2M"])
def test_a_mask_without_greys_gives_the_latents_that_it_always_gave(model, monkeypatch, sampler):
    INPUTS["halves"] = Image.new("L", (64, 64))
    INPUTS["halves"].paste(255, (0, 0, 32, 64))
    monkeypatch.setattr("webui.engine.sources.soft_mask", lambda mask: (soft_mask(mask) > 0.5).float())  # the edge's cells, too
    monkeypatch.setattr("webui.engine.sources.masking.latent_mask", lambda mask: (soft_mask(mask) > 0.5).float())
    hard = InitImage(image="photo", inpaint=Inpaint(mask="halves", blur_x=0, blur_y=0))
    soft = replace(hard, inpaint=replace(hard.inpaint, soft=SOFT))
    made = [decoded_latents(model, replace(REQUEST, sampler=sampler, cfg_scale=1.5, init=init), monkeypatch) for init in (hard, soft)]
    assert relative(made[1], made[0]) < 1e-4


@pytest.mark.parametrize("sampler", ["Euler", "DDIM", "LCM"])
@pytest.mark.parametrize("only_masked", [False, True])
def test_pixels_outside_the_blurred_mask_stay(model, sampler, only_masked):
    inpaint = Inpaint(mask="mask", blur_x=3, blur_y=3, only_masked=only_masked, padding=8, soft=replace(SOFT, difference_threshold=0.01))
    made = np.asarray(pictures(model, replace(REQUEST, sampler=sampler, init=InitImage(image="photo", inpaint=inpaint)))[0].image)
    outside = np.ones((64, 64), dtype=bool)
    outside[24 - 8 : 40 + 8, 24 - 8 : 40 + 8] = False
    assert np.array_equal(made[outside], np.asarray(PHOTO)[outside])
    assert not np.array_equal(made, np.asarray(PHOTO))


def test_what_has_not_changed_is_old_and_what_has_is_new():
    mask = torch.full((1, 1, 6, 6), 0.5)
    assert changed(mask, OLD, OLD, SOFT).max() == 0
    assert changed(mask, OLD, OLD + 10, SOFT).min() > 0.99
    at_threshold = OLD.clone()
    at_threshold[:, 0] += SOFT.difference_threshold
    assert torch.allclose(changed(mask, OLD, at_threshold, SOFT), torch.tensor(0.5), atol=1e-5)


def test_the_masks_influence_makes_masked_cells_new_sooner():
    soft = replace(SOFT, mask_influence=1.0)
    new = OLD + 0.1
    little, much = (changed(torch.full((1, 1, 6, 6), value), OLD, new, soft).mean() for value in (0.1, 0.9))
    assert little < much


@pytest.mark.parametrize(("low", "high"), [(0.9, 1.0), (0.25, 0.75), (0.0, 1.0)])
def test_a_place_has_the_mean_of_what_lies_between_two_quantiles_of_its_neighbours(low, high):
    values = np.random.default_rng(0).random((5, 7))
    made = among_neighbours(torch.tensor(values, dtype=torch.float32), low, high).numpy()
    bell = lambda square: (np.exp(-square / 2.25) - np.exp(-4)) / (1 - np.exp(-4))  # noqa: E731
    for row, column in ((0, 0), (2, 3), (4, 5)):
        near = [(values[y, x], bell((y - row) ** 2 + (x - column) ** 2)) for y in range(5) for x in range(7)]
        near = sorted((v, w) for (v, w), (y, x) in zip(near, np.ndindex(5, 7), strict=True) if max(abs(y - row), abs(x - column)) <= 2)
        whole = sum(max(w, 0) for _, w in near)
        start, end = low * whole, high * whole
        if end - start < 1:
            middle = (start + end) / 2
            start, end = (whole - 1, whole) if middle + 0.5 > whole else (middle - 0.5, middle + 0.5)
        total = seen = at = 0.0
        for value, weight in near:
            share = max(0.0, min(at + max(weight, 0), end) - max(at, start))
            total, seen, at = total + value * share, seen + share, at + max(weight, 0)
        assert made[row, column] == pytest.approx(total / seen, abs=1e-5)


def test_timestep_samplers_see_the_mixture_and_keep_their_own_latents():
    mask = torch.rand(1, 1, 6, 6, generator=torch.Generator().manual_seed(1))
    length = (1 + 3.0**2) ** 0.5
    seen = []

    def denoise(x, sigma, call):
        seen.append(x / length)
        return x * 0.5

    made = softly_shown(denoise, mask, OLD, SOFT, lambda sigma: 2.0)(NEW * length, torch.tensor(3.0), 0)
    mixture = mixed(OLD, NEW, mask ** (0.5 * 2.0), 4.0)  # sigma's place has the timestep
    assert torch.allclose(seen[0], mixture, atol=1e-5)
    assert torch.allclose(made, (NEW - mixture * 0.5) * length, atol=1e-4)


def test_the_latent_mask_keeps_its_greys():
    mask = Image.fromarray(np.tile(np.linspace(0, 255, 64).astype(np.uint8), (64, 1)))
    greys = soft_mask(mask)
    assert greys.shape == (1, 1, 8, 8)
    assert len(greys[0, 0, 0].unique()) == 8


def test_half_masked_latents_are_half_repainted_where_greys_count(model, monkeypatch):
    inpaint = Inpaint(mask="mask", blur_x=12, blur_y=12, greys=True)
    made = {}
    for greys in (True, False):
        init = InitImage(image="photo", denoising_strength=0.9, inpaint=replace(inpaint, greys=greys))
        made[greys] = decoded_latents(model, replace(REQUEST, cfg_scale=1.5, init=init), monkeypatch)
    with torch.no_grad():
        old = encode_image(model, PHOTO)
    changes = {greys: (latents - old).norm(dim=1)[0] for greys, latents in made.items()}
    assert (changes[False] == 0).sum() > (changes[True] == 0).sum()  # wholly kept cells
    assert relative(made[True], made[False]) > 1e-2


def test_batches_have_an_overlay_for_each_picture(model):
    init = InitImage(image="photo", inpaint=Inpaint(mask="mask", blur_x=4, blur_y=4, soft=SOFT))
    request = replace(REQUEST, cfg_scale=1.5, init=init, batch_size=2)
    together = [np.asarray(picture.image, dtype=int) for picture in pictures(model, request)]
    alone = np.asarray(pictures(model, request.single(1))[0].image, dtype=int)
    assert np.abs(together[1] - alone).max() <= 2


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], None),
        ([False, 2], None),
        ([True], SOFT),
        ([True, 2, 0.25], SoftInpainting(schedule_bias=2, preservation_strength=0.25)),
        ([{"Soft inpainting": True, "Mask influence": 0.5}], SoftInpainting(mask_influence=0.5)),
        ([{"Schedule bias": 3}], SoftInpainting(schedule_bias=3)),
        ([{"Soft inpainting": False}], None),
    ],
)
def test_arguments_of_the_script_are_read(arguments, expected):
    assert soft_from_arguments(arguments) == expected


@pytest.mark.parametrize("arguments", [[True, "much"], [{"Softness": 1}], [True, None]])
def test_wrong_arguments_are_refused(arguments):
    with pytest.raises(BadRequest, match="soft inpainting"):
        soft_from_arguments(arguments)


def test_numbers_out_of_range_are_refused(model):
    inpaint = Inpaint(mask="mask", soft=SoftInpainting(contrast_boost=0.0))
    with pytest.raises(BadRequest, match="contrast boost 0"):
        replace(REQUEST, init=InitImage(image="photo", inpaint=inpaint)).validate()
