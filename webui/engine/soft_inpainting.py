"""Soft inpainting: a mask with greys, through which the old picture is mixed into the new one at every step, ever less.

At a noise level sigma a cell that is masked to m (0 .. 1) takes the part m ** (strength * sigma ** bias) from the new picture: early, at
high sigma, almost only what is wholly masked, at the end everything. A mixture of two latents is shorter than either, which shows as lost
contrast; it is stretched to the power mean of their lengths. At the end, pixels whose latents have hardly changed are the old ones.
"""

import math
from collections.abc import Callable

import torch
from PIL import Image, ImageChops, ImageFilter
from torch import Tensor
from torch.nn import functional

from webui.core.soft_inpainting import SoftInpainting
from webui.engine.denoiser import Denoise
from webui.engine.latents import FACTOR
from webui.engine.masking import LANCZOS, Region, crop_to_size

SHORTEST = 1e-5  # added to lengths that something is divided by
SPREAD = 4  # pixels: the standard deviation by which the map of changes is blurred
NEAR, NEAR_SPREAD = 2, 1.5  # cells: how far neighbours count, and how fast less


def softly_kept(denoise: Denoise, mask: Tensor, init: Tensor, soft: SoftInpainting) -> Denoise:
    """`denoise` whose answers are mixed with the init latents. mask: (1, 1, h, w), 0 .. 1; init: (batch, 4, h, w), clean."""

    def mixed_answer(x: Tensor, sigma: Tensor, call: int) -> Tensor:
        part = mask ** (soft.preservation_strength * float(sigma) ** soft.schedule_bias)
        return mixed(init, denoise(x, sigma, call), part, soft.contrast_boost)

    return mixed_answer


def softly_shown(denoise: Denoise, mask: Tensor, init: Tensor, soft: SoftInpainting, t: Callable[[Tensor], float]) -> Denoise:
    """`denoise` whose network sees the mixture, of latents of unit variance with clean ones: the way of timestep samplers.

    t: sigma -> its timestep, which stands in sigma's place here, as in the field.
    """

    def mixed_in(x: Tensor, sigma: Tensor, call: int) -> Tensor:
        part = mask ** (soft.preservation_strength * t(sigma) ** soft.schedule_bias)
        length = math.hypot(1, float(sigma))
        seen = mixed(init, x / length, part, soft.contrast_boost) * length
        return x - (seen - denoise(seen, sigma, call))

    return mixed_in


def mixed(old: Tensor, new: Tensor, part: Tensor, boost: float) -> Tensor:
    """`part` of new, the rest old, per cell; as long (over the channels) as the power mean of both, with exponent `boost`."""
    line = torch.lerp(old, new, part)
    lengths = [torch.linalg.vector_norm(latents, dim=1, keepdim=True) for latents in (old, new, line)]
    wanted = ((1 - part) * lengths[0] ** boost + part * lengths[1] ** boost) ** (1 / boost)
    return line * (wanted / (lengths[2] + SHORTEST))


def changed(mask: Tensor, old: Tensor, new: Tensor, soft: SoftInpainting) -> Tensor:
    """How new each cell is, 0 .. 1: (h, w). mask: (1, 1, h, w); old, new: (1, 4, h, w), the clean latents before and after."""
    distance = torch.linalg.vector_norm(new - old, dim=1)[0]
    for low, high in ((0.9, 1.0), (0.25, 0.75)):  # the farthest of the neighbours, then what most of them agree on
        distance = among_neighbours(distance, low, high)
    unmasked = 1 - mask[0, 0].clamp(0, 1) ** (soft.preservation_strength / 2)
    scale = 0.5 * (1 - soft.mask_influence) + unmasked * soft.mask_influence
    half = soft.difference_threshold * scale / (1 - scale).clamp(min=SHORTEST)  # distance at which old and new count alike
    old_part = 1 / (1 + (distance / half.clamp(min=SHORTEST)) ** soft.difference_contrast)
    return 1 - old_part**3 * (old_part * (6 * old_part - 15) + 10)  # Perlin's smoother step


def among_neighbours(values: Tensor, low: float, high: float) -> Tensor:
    """(h, w): at each place the mean of the values around it that lie between two quantiles; near ones weigh more.

    low, high: shares of the weight; between them lies at least the weight of the place itself.
    """
    reach = torch.arange(-NEAR, NEAR + 1, device=values.device).float()
    bell = torch.exp(-(reach[:, None] ** 2 + reach**2) / NEAR_SPREAD**2)
    end = math.exp(-(((NEAR + 1) / NEAR_SPREAD) ** 2))
    bell = ((bell - end) / (1 - end)).clamp(min=0).flatten()

    def around(image: Tensor) -> Tensor:
        """(h * w, neighbours), 0 beyond the edge"""
        return functional.unfold(image[None, None], len(reach), padding=NEAR)[0].T

    sorted_values, order = around(values).sort(dim=1)
    weights = (around(torch.ones_like(values)) * bell).gather(1, order)
    upto = weights.cumsum(dim=1)
    whole = upto[:, -1:]
    width = (whole * (high - low)).clamp(min=1.0)
    start = torch.minimum(whole * (low + high) / 2 - width / 2, whole - width).clamp(min=0)
    share = (torch.minimum(upto, start + width) - torch.maximum(upto - weights, start)).clamp(min=0)
    return ((sorted_values * share).sum(dim=1) / share.sum(dim=1)).reshape(values.shape)


def soft_region(region: Region, mask: Tensor, old: Tensor, new: Tensor, soft: SoftInpainting) -> Region:
    """`region` for one picture, in which only that shows which has changed; outside its mask nothing does, as ever."""
    cells = (changed(mask, old, new, soft) * 255).to(torch.uint8).cpu().numpy()
    shown = Image.fromarray(cells).resize(region.mask.size, LANCZOS).filter(ImageFilter.GaussianBlur(SPREAD))
    left, top, right, bottom = region.box
    whole = Image.new("L", region.original.size)
    whole.paste(crop_to_size(shown, (right - left, bottom - top)), (left, top))
    allowed = region.overlay.point(lambda value: 255 if value else 0)
    return Region(region.image, region.mask, region.original, ImageChops.darker(whole, allowed), region.box)


def soft_mask(mask: Image.Image) -> Tensor:
    """(1, 1, height/8, width/8), 0 .. 1, from an "L" mask of the picture's size."""
    small = mask.resize((mask.width // FACTOR, mask.height // FACTOR), Image.Resampling.BICUBIC)
    return torch.frombuffer(bytearray(small.tobytes()), dtype=torch.uint8).reshape(1, 1, small.height, small.width) / 255
