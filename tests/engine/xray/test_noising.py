import io

import numpy as np
import pytest
import torch
from PIL import Image

from tests.engine.xray.conftest import PHOTO, REQUEST, Alone
from webui.core.xray import Noising
from webui.engine.latents import decode_latents, encode_image
from webui.engine.model import alphas_cumprod
from webui.engine.rng import TorchGenerator
from webui.engine.xray import noising
from webui.engine.xray.noising import noise_picture, psnr

TIMESTEPS = (0, 200, 999)


@pytest.fixture(scope="module")
def seen(lab):
    return lab.study(REQUEST, Noising(image="photo", timesteps=TIMESTEPS))


def test_noise_is_laid_on_as_the_training_does(lab, seen):
    clean = encode_image(lab.model, PHOTO)
    noise = TorchGenerator(REQUEST.seed).randn((4, 8, 8))
    for t, row in zip(TIMESTEPS, seen.json("noising.json")["rows"], strict=True):
        share = float(alphas_cumprod()[t])
        noisy = share**0.5 * clean + (1 - share) ** 0.5 * noise
        assert (row["signal"] ** 2, row["noise"] ** 2) == pytest.approx((share, 1 - share))
        assert row["sigma"] == pytest.approx(((1 - share) / share) ** 0.5)
        assert row["norm"] == pytest.approx(float(noisy.norm()), rel=1e-5)
        assert row["snr"] == pytest.approx(10 * np.log10(share / (1 - share)))
        with torch.inference_mode():
            decoded = decode_latents(lab.model, noisy)[0]
        assert seen.image(row["picture"]).tobytes() == decoded.tobytes()
        assert row["psnr"] == pytest.approx(psnr(PHOTO, decoded))


def test_what_the_vae_keeps_is_measured(lab, seen):
    with torch.inference_mode():
        kept = decode_latents(lab.model, encode_image(lab.model, PHOTO))[0]
    assert seen.image("kept.png").tobytes() == kept.tobytes()
    told = seen.json("noising.json")
    assert told["psnr"] == pytest.approx(psnr(PHOTO, kept))
    assert (told["numbers"], told["kept"]) == (64 * 64 * 3, 4 * 8 * 8)


def test_psnr_is_as_defined():
    grey, brighter = (Image.new("RGB", (8, 8), (level,) * 3) for level in (100, 110))
    assert psnr(grey, brighter) == pytest.approx(20 * np.log10(255 / 10))
    assert psnr(grey, grey) is None


@pytest.mark.parametrize(("given", "used"), [((70, 33), (64, 32)), ((300, 150), (128, 64)), ((5, 90), (8, 88))])
def test_pictures_are_fitted(lab, given, used, monkeypatch):
    monkeypatch.setattr(noising, "LARGEST", 128)
    events = noise_picture(REQUEST, Noising(image="x", timesteps=(0,)), Alone(), lab.model, Image.new("RGB", given))
    first = next(events)
    events.close()
    assert Image.open(io.BytesIO(first.data)).size == used
