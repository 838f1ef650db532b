"""Pictures <-> latents, through the VAE."""

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from webui.core.errors import EngineError
from webui.engine.model import DiffusionModel

FACTOR = 8  # pixels a side for one latent


def encode_image(model: DiffusionModel, image: Image.Image) -> Tensor:
    """Latents of an RGB picture whose sides are multiples of 8: (1, 4, height/8, width/8), float32, in the UNet's scale."""
    return _encode(model, to_pixels(image).to(model.device))


def encode_masked(model: DiffusionModel, images: Sequence[Image.Image], mask: Image.Image) -> Tensor:
    """What an inpainting UNet sees beside the noisy latents: (images, 5, height/8, width/8), float32.

    Channel 0 is the mask, 1 = repaint; the others are the latents of the picture with middle grey where it is masked. mask: of the
    images' size; it counts as painted where it is at least half white: these UNets know no half masks.
    """
    painted = torch.from_numpy(np.array(mask.convert("L")) >= 128).float()[None, None].to(model.device)
    masked = [_encode(model, to_pixels(image).to(model.device) * (1 - painted)) for image in images]
    small = functional.interpolate(painted, size=masked[0].shape[2:])
    return torch.cat([small.expand(len(images), -1, -1, -1), torch.cat(masked)], dim=1)


def encode_nothing(model: DiffusionModel, size: tuple[int, int]) -> Tensor:
    """As `encode_masked` of one picture that is masked all over. size: (width, height) in pixels."""
    return encode_masked(model, [Image.new("RGB", size)], Image.new("L", size, 255))


def to_pixels(image: Image.Image) -> Tensor:
    """(1, 3, height, width), float32, -1 .. 1, on the CPU."""
    pixels = torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)[None]
    return pixels.float() / 127.5 - 1


def _encode(model: DiffusionModel, pixels: Tensor) -> Tensor:
    """The mean of the VAE's posterior, not a sample: same request, same bytes.

    (The field's sample is drawn from no seed that a request names, and lies within the posterior's tiny spread of the mean.)
    """
    mean = model.vae.encode(pixels.to(model.vae.dtype)).latent_dist.mean
    return mean.float() * model.scaling_factor


def decode_latents(model: DiffusionModel, latents: Tensor) -> list[Image.Image]:
    """RGB pictures of latents (batch, 4, h, w), one by one: a picture does not depend on its batch, and memory stays that of one."""
    return [_decode(model, latents[i : i + 1]) for i in range(len(latents))]


def _decode(model: DiffusionModel, latents: Tensor) -> Image.Image:
    decoded = model.vae.decode((latents / model.scaling_factor).to(model.vae.dtype), return_dict=False)[0][0].float()
    if not bool(torch.isfinite(decoded).all()):
        half = model.unet.dtype != torch.float32 or model.vae.dtype != torch.float32
        why = "16-bit arithmetic overflowed; start Easel with --no-half-vae or --no-half" if half else "the model file may be damaged"
        raise EngineError(f"the picture came out as not-a-number: {why}")
    return to_image((decoded + 1) / 2)


def to_image(rgb: Tensor) -> Image.Image:
    """(3, height, width), 0 .. 1 (what lies outside is cut) -> picture; truncated to 8 bits, not rounded, as the field does."""
    return Image.fromarray((rgb.clamp(0, 1) * 255).to(torch.uint8).permute(1, 2, 0).cpu().numpy())
