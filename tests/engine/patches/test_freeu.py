"""FreeU: diffusers' own on the same UNet, Forge's formula by hand, which layers it is for, and no trace."""

import pytest
import torch
from diffusers.utils.torch_utils import fourier_filter

from tests.tiny import tiny_model
from webui.core.guidance_options import GuidanceOptions
from webui.engine.patches.freeu import coarse_weighed, freeu

FACTORS = {"b1": 1.4, "b2": 1.6, "s1": 0.9, "s2": 0.2}
OPTIONS = GuidanceOptions(freeu=True, **{f"freeu_{name}": value for name, value in FACTORS.items()})
PLAIN = GuidanceOptions(freeu=True, freeu_plain=True, **{f"freeu_{name}": value for name, value in FACTORS.items()})


@pytest.fixture(autouse=True)
def no_gradients():
    with torch.no_grad():
        yield


def values(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def answer(unet, x):
    return unet(x, torch.tensor(500.0), encoder_hidden_states=values(len(x), 77, 768, seed=1))[0]


@pytest.mark.parametrize("size", [(16, 16), (24, 8)])
def test_plain_factors_equal_diffusers(size):
    unet, x = tiny_model("sd1").unet, values(2, 4, *size)
    plain = answer(unet, x)
    unet.enable_freeu(**FACTORS)
    try:
        theirs = answer(unet, x)
    finally:
        unet.disable_freeu()
    with freeu(unet, PLAIN):
        ours = answer(unet, x)
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
    assert float((ours - plain).norm() / plain.norm()) > 1e-2


@pytest.mark.parametrize("size", [(8, 8), (5, 6), (2, 2)])
def test_the_coarse_parts_are_those_of_the_published_filter(size):
    x = values(2, 3, *size)
    torch.testing.assert_close(coarse_weighed(x, 0.3), fourier_filter(x, threshold=1, scale=0.3), rtol=1e-4, atol=1e-5)


def test_forges_way_goes_by_the_width_of_what_comes_from_below_and_by_where_its_mean_is_high():
    unet = tiny_model("sd1").unet  # of widths 32, 64, 64, 64: none has four times the base, and 64 is twice
    below = unet.mid_block.resnets[-1].out_channels
    tried = []
    with freeu(unet, OPTIONS):
        for block in unet.up_blocks:
            for layer in block.resnets:
                given = values(2, layer.in_channels, 6, 4)
                made = given
                for hook in layer._forward_pre_hooks.values():
                    made = hook(layer, (made, None))[0]
                seen, skipped = given[:, :below], given[:, below:]
                if below == 64:
                    mean = seen.mean(1)
                    least, most = mean.flatten(1).min(1).values, mean.flatten(1).max(1).values
                    height = (mean - least[:, None, None]) / (most - least)[:, None, None]
                    seen = seen.clone()
                    seen[:, :32] = seen[:, :32] * (0.6 * height + 1)[:, None]
                    skipped = fourier_filter(skipped, threshold=1, scale=0.2)
                torch.testing.assert_close(made, torch.cat([seen, skipped], dim=1), rtol=1e-4, atol=1e-5)
                tried.append(below)
                below = layer.out_channels
    assert set(tried) == {64, 32}


@pytest.mark.parametrize("options", [OPTIONS, PLAIN])
def test_it_leaves_no_trace_and_off_it_is_not_there(options):
    unet, x = tiny_model("sd1").unet, values(1, 4, 8, 8)
    plain = answer(unet, x)
    with freeu(unet, options):
        assert not torch.equal(answer(unet, x), plain)
    for off in (None, GuidanceOptions(freeu_b1=1.9)):
        with freeu(unet, off):
            assert not any(part._forward_pre_hooks for part in unet.modules())
            assert torch.equal(answer(unet, x), plain)
    assert not any(part._forward_pre_hooks for part in unet.modules())
