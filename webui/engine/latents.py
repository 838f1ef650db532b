"""Pictures <-> latents, through the VAE."""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from webui.engine.diffusers_parts import AutoencoderKL
from webui.engine.ladders import check_unet, with_less_memory, with_more_precision
from webui.engine.model import DiffusionModel
from webui.engine.tiling import decode_tiled, encode_tiled

FACTOR = 8  # pixels a side for one latent
TILED_ABOVE = 1536 * 1536  # pixels; larger pictures go through the VAE in tiles without being tried whole
CPU = torch.device("cpu")


def encode_image(model: DiffusionModel, image: Image.Image) -> Tensor:
    """Latents of an RGB picture: (1, 4, height/8, width/8), float32, in the UNet's scale; of no full latents nothing is left."""
    return _encode(model, to_pixels(image).to(model.device))


def encode_masked(model: DiffusionModel, images: Sequence[Image.Image], mask: Image.Image, weight: float = 1.0) -> Tensor:
    """What an inpainting UNet sees beside the noisy latents: (images, 5, height/8, width/8), float32.

    Channel 0 is the mask, 1 = repaint; the others are the latents of the picture with middle grey where it is masked. mask: of the
    images' size; it counts as painted where it is at least half white: these UNets know no half masks. weight: 0 .. 1, how much
    of the picture the grey takes away.
    """
    painted = torch.from_numpy(np.array(mask.convert("L")) >= 128).float()[None, None].to(model.device)
    masked = [_encode(model, to_pixels(image).to(model.device) * (1 - painted * weight)) for image in images]
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
    with model.at_work(model.vae):
        mean = with_more_precision(model.vae, lambda vae: _mean(vae, pixels))
    return mean.to(model.device, torch.float32) * model.scaling_factor


def decode_latents(model: DiffusionModel, latents: Tensor) -> list[Image.Image]:
    """RGB pictures of latents (batch, 4, h, w), one by one: a picture does not depend on its batch, and memory stays that of one."""
    with model.at_work(model.vae):
        return [_decode(model, latents[i : i + 1]) for i in range(len(latents))]


def _decode(model: DiffusionModel, latents: Tensor) -> Image.Image:
    check_unet(latents)
    scaled = latents / model.scaling_factor
    decoded = with_more_precision(model.vae, lambda vae: _pixels(vae, scaled))[0].float()
    return to_image((decoded + 1) / 2)


def _pixels(vae: AutoencoderKL, latents: Tensor) -> Tensor:
    """(1, 3, height, width), -1 .. 1; whole where memory allows, else in tiles."""
    given = latents.to(vae.dtype)
    size = (latents.shape[3] * FACTOR, latents.shape[2] * FACTOR)
    return _whole_or_tiled(
        vae, lambda: vae.decode(given, return_dict=False)[0], lambda place: decode_tiled(vae, given, keep_on=place), size
    )


def _mean(vae: AutoencoderKL, pixels: Tensor) -> Tensor:
    """(1, channels, height/8, width/8), in the VAE's scale; whole where memory allows, else in tiles."""
    given = pixels.to(vae.dtype)
    size = (pixels.shape[3], pixels.shape[2])
    return _whole_or_tiled(vae, lambda: vae.encode(given).latent_dist.mean, lambda place: encode_tiled(vae, given, keep_on=place), size)


def _whole_or_tiled(
    vae: AutoencoderKL, whole: Callable[[], Tensor], tiled: Callable[[torch.device], Tensor], size: tuple[int, int]
) -> Tensor:
    """size: of the picture in pixels, width and height."""
    attempts = [whole] if size[0] * size[1] <= TILED_ABOVE else []
    attempts += [partial(tiled, place) for place in dict.fromkeys((vae.device, CPU))]
    advice = f"memory ran out in the VAE, in tiles too, at {size[0]}x{size[1]} pixels; make the picture smaller, or close other programs"
    return with_less_memory(attempts, advice)


def to_image(rgb: Tensor) -> Image.Image:
    """(3, height, width), 0 .. 1 (what lies outside is cut) -> picture; truncated to 8 bits, not rounded, as the field does."""
    return Image.fromarray((rgb.clamp(0, 1) * 255).to(torch.uint8).permute(1, 2, 0).cpu().numpy())
