"""Making pictures and latents larger: the upscalers of hires fix, and what is cut off where a size of other proportions is wanted."""

from collections.abc import Sequence

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from webui.core.choices import LATENT_UPSCALERS
from webui.core.errors import BadRequest
from webui.core.hires import HiresFix
from webui.engine import masking
from webui.engine.latents import FACTOR, decode_latents, encode_image
from webui.engine.masking import LANCZOS, Size
from webui.engine.model import DiffusionModel

MODES: dict[str, tuple[str, bool]] = {  # upscaler -> interpolation and whether it is antialiased
    "Latent": ("bilinear", False),
    "Latent (antialiased)": ("bilinear", True),
    "Latent (bicubic)": ("bicubic", False),
    "Latent (bicubic antialiased)": ("bicubic", True),
    "Latent (nearest)": ("nearest", False),
    "Latent (nearest-exact)": ("nearest-exact", False),
}
FILTERS = {"Nearest": Image.Resampling.NEAREST, "Lanczos": LANCZOS, "None": LANCZOS}

Larger = Tensor | list[Image.Image]
"""What hires fix's second pass begins with: latents (batch, 4, h, w), or pictures to be encoded by the model of that pass."""


def upscale_latents(latents: Tensor, size: Size, upscaler: str) -> Tensor:
    """Latents (batch, 4, h, w) of pictures that are `size` pixels large, by one of LATENT_UPSCALERS; nothing is decoded."""
    mode, antialias = MODES[upscaler]
    return functional.interpolate(latents, (size[1] // FACTOR, size[0] // FACTOR), mode=mode, antialias=antialias)


def upscale_image(image: Image.Image, size: Size, upscaler: str) -> Image.Image:
    """The picture in `size` by one of PIXEL_UPSCALERS. Those that enlarge both sides alike leave what is missing to Lanczos."""
    scale = max(size[0] / image.width, size[1] / image.height)
    if scale > 1:
        image = image.resize((int(image.width * scale), int(image.height * scale)), FILTERS[upscaler])
    return image if image.size == size else image.resize(size, LANCZOS)


def larger_latents(model: DiffusionModel, latents: Tensor, hires: HiresFix, first: Size) -> Larger:
    """The first pass's latents as the second pass begins with them. model: of the first pass; first: the size of its pictures."""
    if hires.upscaler in LATENT_UPSCALERS:
        return upscale_latents(latents, hires.scaled(first), hires.upscaler)
    return [upscale_image(image, hires.scaled(first), hires.upscaler) for image in decode_latents(model, latents)]


def larger_images(model: DiffusionModel, images: Sequence[Image.Image], hires: HiresFix, first: Size) -> Larger:
    """Finished pictures as the second pass begins with them. first: the size that the first pass's pictures would have."""
    images = [masking.flatten(image) for image in images]
    if hires.upscaler not in LATENT_UPSCALERS:
        return [upscale_image(image, hires.scaled(first), hires.upscaler) for image in images]
    whole = [image if image.size == first else image.resize(first, LANCZOS) for image in images]
    return upscale_latents(torch.cat([encode_image(model, image) for image in whole]), hires.scaled(first), hires.upscaler)


def begin_again(model: DiffusionModel, larger: Larger, hires: HiresFix, first: Size) -> Tensor:
    """The second pass's clean latents, what is too much cut off: (batch, 4, height/8, width/8). model: of the second pass."""
    latents = larger if isinstance(larger, Tensor) else torch.cat([encode_image(model, image) for image in larger])
    columns, rows = hires.cut(first)
    bottom, right = latents.shape[2] - (rows + 1) // 2, latents.shape[3] - (columns + 1) // 2
    return latents[:, :, rows // 2 : bottom, columns // 2 : right]


def have_same_latents(first: DiffusionModel, second: DiffusionModel) -> bool:
    """Whether one model can go on with the other's latents."""
    return first.family.scaling_factor == second.family.scaling_factor


def check_same_latents(first: DiffusionModel, second: DiffusionModel, upscaler: str) -> None:
    """Raises BadRequest where one checkpoint cannot go on with the other's latents."""
    if upscaler in LATENT_UPSCALERS and not have_same_latents(first, second):
        raise BadRequest(
            f"{second.path.name} ({second.family.title}) cannot go on with the latents of {first.path.name} ({first.family.title}): "
            "choose a hires upscaler that works on pictures, Lanczos for instance"
        )
