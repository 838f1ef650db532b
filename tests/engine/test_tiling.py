"""Tiled decoding and encoding give what the VAE gives in one piece: no seams, far below one grey level."""

from pathlib import Path
from random import Random

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.live import LiveTensors
from tests.tiny import CPU, tiny_parts
from webui.engine.checkpoint import load_vae
from webui.engine.diffusers_parts import AutoencoderKL
from webui.engine.family import load_family
from webui.engine.tiling import decode_tiled, encode_tiled
from webui.training.world import draw, random_scene

MINIATURE = Path(__file__).parents[2] / "models/Stable-diffusion/easel-miniature.safetensors"
GREY_LEVEL = 2 / 255  # of values from -1 to 1


@pytest.fixture(autouse=True)
def no_gradients():
    with torch.no_grad():
        yield


@pytest.fixture(scope="module")
def miniature() -> AutoencoderKL:
    return load_vae(MINIATURE, torch.float32, CPU, load_family("miniature"))


def random_vae(widths: tuple[int, ...] = (32, 64, 64), **changes: object) -> AutoencoderKL:
    """Widths that grow and shrink, so that shortcuts are convolutions; norms and biases of every size."""
    config = dict(tiny_parts("miniature", vocabulary=9)["vae"].config) | changes
    kinds = {"down_block_types": ["DownEncoderBlock2D"] * len(widths), "up_block_types": ["UpDecoderBlock2D"] * len(widths)}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        vae = AutoencoderKL.from_config(config | kinds | {"block_out_channels": list(widths)})
        for parameter in vae.parameters():
            parameter.data += torch.randn(parameter.shape) * 0.05
    return vae.eval()


def random_values(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def world(size: int) -> Tensor:
    """A picture of the miniature's world, side by side with itself until it is `size` wide and high: (1, 3, size, size), -1 .. 1."""
    pixels = torch.from_numpy(np.array(draw(random_scene(Random(3))))).permute(2, 0, 1)[None] / 127.5 - 1
    return pixels.repeat(1, 1, size // pixels.shape[2], size // pixels.shape[3])


@pytest.fixture(scope="module")
def large(miniature: AutoencoderKL) -> tuple[Tensor, Tensor, Tensor]:
    """A picture of the miniature's world, 384 pixels wide and high; its latents; and what is decoded of them in one piece."""
    with torch.no_grad():
        pixels = world(384)
        latents = miniature.encode(pixels).latent_dist.mean
        return pixels, latents, miniature.decode(latents).sample


def test_the_miniatures_pictures_are_the_same_with_tiles(miniature: AutoencoderKL, large: tuple[Tensor, Tensor, Tensor]) -> None:
    pixels, latents, whole = large
    torch.testing.assert_close(encode_tiled(miniature, pixels, tile=100), latents, rtol=1e-4, atol=1e-4)
    decoded = decode_tiled(miniature, latents, tile=100)
    assert decoded.shape == whole.shape
    assert (decoded - whole).abs().max() < 0.01 * GREY_LEVEL  # anywhere; 1 is asked for


def test_tiles_that_knew_nothing_of_each_other_would_show(miniature: AutoencoderKL, large: tuple[Tensor, Tensor, Tensor]) -> None:
    """Why it is not done the simple way: half a picture decoded alone, with a wide overlap, is another picture."""
    _, latents, whole = large
    left = miniature.decode(latents[..., :36]).sample[..., :192]  # an overlap of 96 pixels
    assert (left - whole[..., :192]).abs().max() / GREY_LEVEL > 1


@pytest.mark.parametrize("shape", [(8, 8), (13, 29), (5, 40), (1, 3)])
@pytest.mark.parametrize("widths", [(32, 64, 64), (64, 32, 32), (32, 32, 32, 64)])
def test_random_vaes_of_any_shape_are_the_same_with_tiles(shape: tuple[int, int], widths: tuple[int, ...]) -> None:
    vae, factor = random_vae(widths), 2 ** (len(widths) - 1)
    latents, pixels = random_values(1, 4, *shape), random_values(1, 3, shape[0] * factor, shape[1] * factor)
    decoded, encoded = vae.decode(latents).sample, vae.encode(pixels).latent_dist.mean
    assert (decode_tiled(vae, latents, tile=24) - decoded).abs().max() < GREY_LEVEL / 100 * decoded.abs().max().clamp(min=1)
    assert (encode_tiled(vae, pixels, tile=24) - encoded).abs().max() < 1e-4 * encoded.abs().max().clamp(min=1)


def test_vaes_without_the_small_convolutions_and_the_attention_are_tiled_too() -> None:
    vae = random_vae(use_quant_conv=False, use_post_quant_conv=False, mid_block_add_attention=False)
    latents = random_values(1, 4, 9, 9)
    torch.testing.assert_close(decode_tiled(vae, latents, tile=16), vae.decode(latents).sample, rtol=1e-4, atol=1e-4)
    pixels = random_values(1, 3, 36, 36)
    torch.testing.assert_close(encode_tiled(vae, pixels, tile=16), vae.encode(pixels).latent_dist.mean, rtol=1e-4, atol=1e-4)


def test_what_is_given_is_left_as_it_is() -> None:
    vae, latents = random_vae(), random_values(1, 4, 8, 8)
    before, weights = latents.clone(), {key: tensor.clone() for key, tensor in vae.state_dict().items()}
    decode_tiled(vae, latents, tile=16)
    assert torch.equal(latents, before)
    assert all(torch.equal(tensor, weights[key]) for key, tensor in vae.state_dict().items())


def test_attention_is_the_same_for_some_pixels_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    vae, latents = random_vae(), random_values(1, 4, 8, 8)
    whole = decode_tiled(vae, latents)
    monkeypatch.setattr("webui.engine.tiling.QUERIES", 10)
    torch.testing.assert_close(decode_tiled(vae, latents), whole, rtol=1e-4, atol=1e-5)


def test_half_precision_stays_half_precision() -> None:
    vae, latents = random_vae().bfloat16(), random_values(1, 4, 8, 8).bfloat16()
    decoded, expected = decode_tiled(vae, latents, tile=16), vae.decode(latents).sample
    assert decoded.dtype == torch.bfloat16
    assert (decoded - expected).abs().mean() < 0.02 * expected.abs().mean()


def test_tiles_take_half_the_memory() -> None:
    vae, latents = random_vae((32, 64, 64)), random_values(1, 4, 24, 24)
    peaks = []
    for decode in (lambda: vae.decode(latents), lambda: decode_tiled(vae, latents, tile=16)):
        with LiveTensors() as live:
            decode()
        peaks.append(live.peak)
    assert peaks[1] < 0.55 * peaks[0]
