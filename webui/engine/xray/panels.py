"""Latents as small pictures, without the VAE: what the preview's matrix makes of them, and each channel as grey."""

import io
import math
from collections.abc import Sequence

import torch
from PIL import Image
from torch import Tensor

from webui.engine.family import Family
from webui.engine.latents import FACTOR, to_image

LONGEST = 256  # pixels of a panel's longer side
PANELS = ("noisy", "noise", "denoised", "guidance")  # of a strip, from the left
QUALITY = 90
SPREAD = 2.5  # standard deviations from a channel's mean that grey shows


def coloured(latents: Tensor, family: Family, *, offset: bool = True) -> Image.Image:
    """(channels, h, w) as the preview's matrix colours it, at most LONGEST a side; without `offset`: a difference, 0 is grey."""
    matrix = torch.tensor(family.preview_matrix)
    rgb = (latents.float().cpu().permute(1, 2, 0) @ matrix).permute(2, 0, 1)
    if offset:
        rgb = rgb + torch.tensor(family.preview_bias)[:, None, None]
    small = to_image((rgb + 1) / 2)
    scale = min(FACTOR, LONGEST / max(small.size))
    return small.resize((max(1, round(small.width * scale)), max(1, round(small.height * scale))), Image.Resampling.BICUBIC)


def strip(images: Sequence[Image.Image]) -> Image.Image:
    """Side by side; all of one size."""
    whole = Image.new("RGB", (sum(image.width for image in images), images[0].height))
    left = 0
    for image in images:
        whole.paste(image, (left, 0))
        left += image.width
    return whole


def panels(noisy: Tensor, noise: Tensor, denoised: Tensor, guidance: Tensor | None, sigma: float, family: Family) -> Image.Image:
    """The four PANELS of a step, all (channels, h, w): the noisy latents at unit variance, the guidance difference at unit spread."""
    difference = torch.zeros_like(noise) if guidance is None else guidance / guidance.std().clamp(min=1e-8)
    return strip(
        [
            coloured(noisy / math.hypot(1, sigma), family),
            coloured(noise, family),
            coloured(denoised, family),
            coloured(difference, family, offset=False),
        ]
    )


def channels(*rows: Tensor) -> Image.Image:
    """Each channel of each of `rows` (channels, h, w) in grey, a latent a pixel; grey goes SPREAD standard deviations both ways."""
    lines = []
    for latents in rows:
        values = latents.float().cpu()
        mean, spread = values.mean(dim=(1, 2), keepdim=True), values.std(dim=(1, 2), keepdim=True).clamp(min=1e-8)
        lines.append(torch.cat(list((values - mean) / (2 * SPREAD * spread) + 0.5), dim=1))
    return to_image(torch.cat(lines)[None].expand(3, -1, -1))


def webp(image: Image.Image, lossless: bool = False) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=QUALITY, lossless=lossless)
    return buffer.getvalue()


def png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()
