import copy

import numpy as np
import pytest
import torch
from PIL import Image

from tests.families import family_model
from tests.tiny import tiny_model
from webui.core.errors import EngineError, OutOfMemory
from webui.engine.diffusers_parts import AutoencoderKL
from webui.engine.latents import decode_latents, encode_image, encode_masked, encode_nothing, to_image

PHOTO = Image.fromarray(np.random.default_rng(0).integers(0, 255, (16, 24, 3), dtype=np.uint8))


@pytest.fixture(autouse=True)
def no_gradients():
    with torch.no_grad():
        yield


def test_eight_bits_are_truncated_not_rounded():
    values = torch.tensor([-0.1, 0.0, 0.999 / 255, 1.999 / 255, 254.9 / 255, 1.0, 1.5])
    assert np.asarray(to_image(values.expand(3, 1, 7)))[0, :, 0].tolist() == [0, 0, 0, 1, 254, 255, 255]


def test_encoding_is_the_scaled_mean_of_the_posterior():
    model = family_model("sd1")
    pixels = torch.from_numpy(np.array(PHOTO)).permute(2, 0, 1)[None] / 127.5 - 1
    expected = model.vae.encode(pixels).latent_dist.mode() * 0.18215
    torch.testing.assert_close(encode_image(model, PHOTO), expected)
    assert encode_image(model, PHOTO).shape == (1, 4, 2, 3)


def test_a_picture_does_not_depend_on_the_batch_it_is_decoded_in():
    model = family_model("sd1")
    latents = torch.randn(3, 4, 2, 3, generator=torch.Generator().manual_seed(0))
    together = decode_latents(model, latents)
    assert [image.size for image in together] == [(24, 16)] * 3
    assert together[1].tobytes() == decode_latents(model, latents[1:2])[0].tobytes()


def test_not_a_number_is_an_error_that_blames_the_file():
    with pytest.raises(EngineError, match="not-a-number, in 32-bit arithmetic too: the model file may be damaged"):
        decode_latents(family_model("sd1"), torch.full((1, 4, 2, 3), float("nan")))


def test_sdxls_latents_have_their_own_scale():
    model = family_model("sdxl")
    pixels = torch.from_numpy(np.array(PHOTO)).permute(2, 0, 1)[None] / 127.5 - 1
    latents = model.vae.encode(pixels).latent_dist.mode()
    torch.testing.assert_close(encode_image(model, PHOTO), latents * 0.13025)
    expected = to_image((model.vae.decode(latents).sample[0] + 1) / 2)
    difference = np.asarray(decode_latents(model, latents * 0.13025)[0]).astype(int) - np.asarray(expected)
    assert np.abs(difference).max() <= 1


def test_an_inpainting_unet_sees_the_mask_and_the_picture_with_grey_under_it():
    model = family_model("sd1")
    mask = Image.fromarray(np.array([[0] * 8 + [128] * 8 + [127] * 8] * 16, dtype=np.uint8))
    pixels = torch.from_numpy(np.array(PHOTO)).permute(2, 0, 1)[None] / 127.5 - 1
    pixels[..., 8:16] = 0
    shown = encode_masked(model, [PHOTO, PHOTO], mask)
    assert shown[:, 0].tolist() == [[[0, 1, 0]] * 2] * 2
    torch.testing.assert_close(shown[1:, 1:], model.vae.encode(pixels).latent_dist.mode() * 0.18215)


def test_nothing_is_a_grey_picture_that_is_masked_all_over():
    model = family_model("sd1")
    shown = encode_nothing(model, (24, 16))
    assert shown.shape == (1, 5, 2, 3)
    assert bool((shown[:, 0] == 1).all())
    torch.testing.assert_close(shown[:, 1:], model.vae.encode(torch.zeros(1, 3, 16, 24)).latent_dist.mode() * 0.18215)


def overflowing(vae: AutoencoderKL) -> AutoencoderKL:
    """A VAE whose first layers answer beyond fp16's 65504; group norm brings it back to the same picture."""
    vae = copy.deepcopy(vae)
    for layer in (vae.decoder.conv_in, vae.encoder.conv_in):
        layer.weight *= 60_000
    return vae


def test_a_vae_that_overflows_in_fp16_is_run_again_in_a_wider_type(caplog: pytest.LogCaptureFixture):
    model = tiny_model("sd1")
    vae, latents = overflowing(model.vae), torch.randn(1, 4, 2, 3, generator=torch.Generator().manual_seed(0))
    exact, half = model.with_vae(vae), model.with_vae(copy.deepcopy(vae).half())
    assert not torch.isfinite(half.vae.decode(latents.half() / model.scaling_factor).sample).all()
    difference = np.asarray(decode_latents(half, latents)[0], int) - np.asarray(decode_latents(exact, latents)[0], int)
    assert np.abs(difference).mean() < 2  # of 255: bfloat16 has 8 bits
    assert "run again in torch.bfloat16" in caplog.text
    assert half.vae.dtype == torch.float16
    encoded = encode_image(half, PHOTO)
    assert encoded.dtype == torch.float32
    torch.testing.assert_close(encoded, encode_image(exact, PHOTO), rtol=0.05, atol=0.05)


def without_memory(vae: AutoencoderKL, monkeypatch: pytest.MonkeyPatch) -> AutoencoderKL:
    """A VAE that cannot work on a whole picture."""

    def fail(*_: object, **how: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    vae = copy.copy(vae)
    monkeypatch.setattr(vae, "decode", fail, raising=False)
    monkeypatch.setattr(vae, "encode", fail, raising=False)
    return vae


def test_without_memory_for_the_whole_picture_it_is_made_in_tiles(monkeypatch: pytest.MonkeyPatch):
    model = tiny_model("sd1")
    latents = torch.randn(1, 4, 2, 3, generator=torch.Generator().manual_seed(0))
    poor = model.with_vae(without_memory(model.vae, monkeypatch))
    difference = np.asarray(decode_latents(poor, latents)[0], int) - np.asarray(decode_latents(model, latents)[0], int)
    assert np.abs(difference).max() <= 1  # of 255: truncation shows a rounding now and then
    torch.testing.assert_close(encode_image(poor, PHOTO), encode_image(model, PHOTO), rtol=1e-4, atol=1e-5)


def test_without_memory_for_tiles_the_size_is_told(monkeypatch: pytest.MonkeyPatch):
    poor = tiny_model("sd1").with_vae(without_memory(tiny_model("sd1").vae, monkeypatch))
    monkeypatch.setattr("webui.engine.latents.decode_tiled", lambda *_, **how: poor.vae.decode())
    with pytest.raises(OutOfMemory, match="memory ran out in the VAE, in tiles too, at 24x16 pixels; make the picture smaller"):
        decode_latents(poor, torch.zeros(1, 4, 2, 3))


def test_large_pictures_are_not_tried_whole(monkeypatch: pytest.MonkeyPatch):
    model, called = tiny_model("sd1"), []
    monkeypatch.setattr("webui.engine.latents.TILED_ABOVE", 16 * 24)
    monkeypatch.setattr("webui.engine.latents.decode_tiled", lambda vae, latents, **how: called.append(how) or torch.zeros(1, 3, 8, 8))
    decode_latents(model, torch.zeros(1, 4, 2, 3))
    assert called == []
    decode_latents(model, torch.zeros(1, 4, 2, 4))
    assert called == [{"keep_on": torch.device("cpu")}]
