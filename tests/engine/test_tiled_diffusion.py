"""Tiled diffusion: windows that agree give the whole, those that do not are averaged, and only one is seen at a time."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.engine.test_generate import CFG, REQUEST, decoded_latents, model, pictures, relative
from webui.core.errors import BadRequest
from webui.core.hires import HiresFix
from webui.engine.guidance import Context
from webui.engine.tiled_diffusion import tiled_network

__all__ = ["model"]  # the fixture
CONTEXT = Context(torch.zeros(1, 77, 8))


@pytest.mark.parametrize(("size", "tile", "overlap"), [((16, 24), 8, 2), ((9, 31), 8, 4), ((8, 8), 8, 0), ((8, 40), 16, 100)])
def test_answers_that_do_not_depend_on_the_window_are_those_of_the_whole(size, tile, overlap):
    x = torch.randn(2, 4, *size, generator=torch.Generator().manual_seed(0))
    network = tiled_network(lambda window: lambda x, t, context: x * t + 1, size, tile, overlap)
    assert torch.allclose(network(x, 3.0, CONTEXT), x * 3 + 1, atol=1e-5)


def test_where_windows_overlap_their_answers_are_averaged_by_the_distance_from_their_edges():
    network = tiled_network(lambda window: lambda x, t, context: torch.full_like(x, float(window[0])), (4, 6), 4, 2)
    row = network(torch.zeros(1, 1, 4, 6), 0.0, CONTEXT)[0, 0, 0]  # windows at 0 and 2; weights 1 2 2 1
    assert torch.allclose(row, torch.tensor([0, 0, 2 * 1 / (2 + 1), 2 * 2 / (1 + 2), 2, 2]))


def test_a_picture_no_larger_than_a_tile_is_seen_whole(model, monkeypatch):
    plain, tiled = (decoded_latents(model, replace(REQUEST, tile=tile), monkeypatch) for tile in (0, 64))
    assert torch.equal(plain, tiled)


def test_the_unet_sees_one_tile_at_a_time(model, monkeypatch):
    seen = []
    forward = model.unet.forward
    monkeypatch.setattr(model.unet, "forward", lambda x, t, **rest: seen.append(tuple(x.shape[2:])) or forward(x, t, **rest))
    made = pictures(model, replace(REQUEST, width=160, height=96, tile=64, tile_overlap=16, steps=1))[0].image
    assert made.size == (160, 96)
    assert set(seen) == {(8, 8)}
    assert len(seen) == 3 * 2


def test_the_second_pass_of_hires_fix_works_in_tiles_as_well(model, monkeypatch):
    request = replace(REQUEST, steps=1, tile=64, hires=HiresFix(scale=2, denoising_strength=0.5))
    whole, tiled = (pictures(model, replace(request, tile=tile))[0].image for tile in (0, 64))
    assert tiled.size == (128, 128)
    assert not np.array_equal(np.asarray(whole), np.asarray(tiled))


def test_pictures_of_a_batch_equal_their_seeds_made_alone(model, monkeypatch):
    request = replace(REQUEST, width=96, tile=64, cfg_scale=CFG, batch_size=2)
    together = decoded_latents(model, request, monkeypatch)
    assert relative(together[1:], decoded_latents(model, request.single(1), monkeypatch)) < 5e-4


@pytest.mark.parametrize(
    ("changes", "told"), [({"tile": 8}, "tile 8"), ({"tile": 100}, "multiple of 8"), ({"tile": 64, "tiling": "Both"}, "seam")]
)
def test_what_cannot_be_is_refused(changes, told):
    with pytest.raises(BadRequest, match=told):
        replace(REQUEST, **changes).validate()
