"""Pictures <-> latents, through the VAE."""

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from webui.core.errors import EngineError
from webui.engine.model import DiffusionModel

FACTOR = 8  # pixels a side for one latent


def encode_image(model: DiffusionModel, image: Image.Image) -> Tensor:
    """Latents of an RGB picture whose sides are multiples of 8: (1, 4, height/8, width/8), float32, in the UNet's scale.

    The mean of the VAE's posterior, not a sample: same request, same bytes. (The field's sample is drawn from no seed that a request
    names, and lies within the posterior's tiny spread of the mean.)
    """
    pixels = torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)[None]
    scaled = pixels.to(model.device, torch.float32) / 127.5 - 1
    mean = model.vae.encode(scaled.to(model.vae.dtype)).latent_dist.mean
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
