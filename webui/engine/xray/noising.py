"""The forward process on a picture: the VAE's copy of it, and what is left when noise of some training timesteps is laid on that."""

import json
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from webui.core.event import Control, Event, Finished, Progress, Record
from webui.core.request import GenerationRequest
from webui.core.xray import Noising
from webui.engine.latents import FACTOR, decode_latents, encode_image
from webui.engine.masking import flatten
from webui.engine.model import DiffusionModel
from webui.engine.rng import noise_source
from webui.engine.xray.panels import channels, coloured, png, strip, webp

LARGEST = 1024  # pixels a side; larger pictures are made smaller first


@torch.inference_mode()
def noise_picture(base: GenerationRequest, study: Noising, control: Control, model: DiffusionModel, image: Image.Image) -> Iterator[Event]:
    """x_t = sqrt(a) x_0 + sqrt(1 - a) noise, a the share of variance left at t (Ho et al. 2020, arXiv:2006.11239, equation 4).

    Records pictures and "noising.json" after each; Finished last. The noise is the request's seed's, the same for all timesteps.
    """
    image = _fitted(image)
    clean = encode_image(model, image)
    kept = decode_latents(model, clean)[0]
    yield Record("picture.png", png(image))
    yield Record("kept.png", png(kept))
    yield Record("latents.webp", webp(strip([coloured(clean[0], model.family)])))
    noise = noise_source(base.rng, model.device)(base.seed).randn(tuple(clean.shape[1:])).to(model.device)[None]
    told: dict[str, Any] = {"psnr": psnr(image, kept), "numbers": image.width * image.height * 3, "kept": clean.numel(), "rows": []}
    for i, t in enumerate(study.timesteps):
        if control.interrupted:
            break
        share = float(model.alphas_cumprod[t])
        noisy = math.sqrt(share) * clean + math.sqrt(1 - share) * noise
        decoded = decode_latents(model, noisy)[0]
        yield Record(f"frame-{i:03d}.png", png(decoded))
        yield Record(f"latents-{i:03d}.webp", webp(coloured(noisy[0], model.family)))
        yield Record(f"channels-{i:03d}.webp", webp(channels(noisy[0]), lossless=True))
        told["rows"].append(_row(i, t, share, psnr(image, decoded), noisy))
        yield Record("noising.json", json.dumps(told).encode())
        yield Progress(1, 1, i + 1, len(study.timesteps), "laying noise on the picture")
    yield Finished(interrupted=len(told["rows"]) < len(study.timesteps))


def _row(number: int, t: int, share: float, quality: float | None, noisy: Tensor) -> dict[str, Any]:
    """signal, noise: what picture and noise are multiplied by; snr: of both, in decibels."""
    rest = 1 - share
    return {
        "t": t,
        "signal": math.sqrt(share),
        "noise": math.sqrt(rest),
        "sigma": math.sqrt(rest / share) if share > 0 else None,
        "snr": 10 * math.log10(share / rest) if share > 0 else None,
        "norm": float(torch.linalg.vector_norm(noisy)),
        "psnr": quality,
        "picture": f"frame-{number:03d}.png",
        "latents": f"latents-{number:03d}.webp",
        "channels": f"channels-{number:03d}.webp",
    }


def psnr(one: Image.Image, other: Image.Image) -> float | None:
    """Peak signal-to-noise ratio of two RGB pictures of one size, in decibels; None where they are equal."""
    first, second = (np.asarray(image.convert("RGB"), np.float64) for image in (one, other))
    error = float(((first - second) ** 2).mean())
    return 10 * math.log10(255**2 / error) if error else None


def _fitted(image: Image.Image) -> Image.Image:
    """RGB, at most LARGEST a side, sides cut to multiples of 8."""
    image = flatten(image)
    image.thumbnail((LARGEST, LARGEST), Image.Resampling.LANCZOS)
    width, height = (max(FACTOR, side // FACTOR * FACTOR) for side in image.size)
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return image.crop((left, top, left + width, top + height))
