"""Seamless tiling: torch's own circular padding, pictures without a seam, axes apart, and no trace."""

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from tests.engine.test_generate import REQUEST, model, pictures
from tests.tiny import CPU, tiny_model
from webui.core.choices import TILINGS
from webui.core.errors import BadRequest
from webui.engine.checkpoint import load_vae
from webui.engine.family import load_family
from webui.engine.patches.seamless import seamless
from webui.engine.stage import AXES
from webui.engine.tiling import decode_tiled, encode_tiled

__all__ = ["model"]  # the fixture
MINIATURE = Path(__file__).parents[3] / "models/Stable-diffusion/easel-miniature.safetensors"
BOTH = AXES["Both"]


@pytest.fixture(autouse=True)
def no_gradients():
    with torch.no_grad():
        yield


def values(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("settings", [{"padding": 1}, {"padding": (2, 1), "stride": 2}, {"padding": 1, "bias": False, "groups": 2}])
def test_both_axes_are_torchs_circular_padding(settings):
    layer = nn.Conv2d(4, 6, 3, **settings)
    torchs = copy.deepcopy(layer)
    torchs.padding_mode, torchs._reversed_padding_repeated_twice = "circular", [side for side in reversed(layer.padding) for _ in range(2)]
    with seamless(layer, **BOTH):
        assert torch.allclose(layer(values(2, 4, 8, 12)), torchs(values(2, 4, 8, 12)), atol=1e-6)


def test_one_axis_leaves_zeros_beyond_the_other():
    layer = nn.Conv2d(1, 1, 3, padding=1)
    x = values(1, 1, 6, 6)
    plain = layer(x)
    with seamless(layer, horizontally=True, vertically=False):
        across = layer(x)
    with seamless(layer, horizontally=False, vertically=True):
        down = layer(x)
    assert torch.equal(across[..., 1:-1], plain[..., 1:-1])
    assert not torch.equal(across[..., 0], plain[..., 0])
    assert torch.equal(down[..., 1:-1, :], plain[..., 1:-1, :])
    assert torch.equal(layer(x), plain)


@pytest.mark.parametrize(("axes", "moved"), [("Both", (8, 8)), ("Horizontal", (0, 8)), ("Vertical", (8, 0))])
def test_a_picture_that_is_moved_around_its_edges_is_seen_moved(axes, moved):
    unet = tiny_model().unet
    states = values(1, 77, unet.config.cross_attention_dim)
    x = values(1, 4, 16, 16)
    with seamless(unet, **AXES[axes]):
        answers = [unet(shown, 500, encoder_hidden_states=states).sample for shown in (x, x.roll(moved, (2, 3)))]
    assert torch.allclose(answers[0].roll(moved, (2, 3)), answers[1], atol=1e-4)
    assert not torch.allclose(answers[0], unet(x, 500, encoder_hidden_states=states).sample, atol=1e-3)


@pytest.mark.parametrize("axes", ["Both", "Horizontal", "Vertical"])
def test_the_vae_in_tiles_goes_around_as_in_one_piece(axes):
    vae = load_vae(MINIATURE, torch.float32, CPU, load_family("miniature"))
    latents = values(1, 4, 12, 10)
    with seamless(vae, **AXES[axes]):
        whole = vae.decode(latents).sample
        assert torch.allclose(decode_tiled(vae, latents, tile=24), whole, atol=1e-3)
        mean = vae.encode(whole).latent_dist.mean
        assert torch.allclose(encode_tiled(vae, whole, tile=24), mean, atol=1e-3)
        if axes == "Both":
            assert torch.allclose(vae.decode(latents.roll((5, 3), (2, 3))).sample, whole.roll((40, 24), (2, 3)), atol=1e-3)


def test_nothing_is_left_of_it(model):
    before = [dict(vars(part)) for part in (*model.unet.modules(), *model.vae.modules())]
    with pytest.raises(RuntimeError), seamless(model.unet, **BOTH), seamless(model.vae, **BOTH):
        raise RuntimeError
    pictures(model, replace(REQUEST, tiling="Both"))
    after = [dict(vars(part)) for part in (*model.unet.modules(), *model.vae.modules())]
    assert [sorted(each) for each in after] == [sorted(each) for each in before]
    assert all(now["_parameters"] == then["_parameters"] for now, then in zip(after, before, strict=True))


def test_a_copy_within_the_block_goes_around_as_well(model):
    with seamless(model.vae, **BOTH):
        wide = copy.deepcopy(model.vae).double()
        assert torch.allclose(
            wide.decode(values(1, 4, 8, 8).double()).sample.float(), model.vae.decode(values(1, 4, 8, 8)).sample, atol=1e-4
        )


def test_the_request_chooses_the_axes(model):
    made = {tiling: np.asarray(pictures(model, replace(REQUEST, tiling=tiling))[0].image) for tiling in TILINGS}
    for one in TILINGS:
        for other in TILINGS:
            assert np.array_equal(made[one], made[other]) == (one == other)
    with pytest.raises(BadRequest, match="tiling 'Sideways'"):
        replace(REQUEST, tiling="Sideways").validate()
