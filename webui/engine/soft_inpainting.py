"""Soft inpainting: a mask with greys, through which the old picture is mixed into the new one at every step, ever less.

At a noise level sigma a cell that is masked to m (0 .. 1) takes the part m ** (strength * sigma ** bias) from the new picture: early, at
high sigma, almost only what is wholly masked, at the end everything. A mixture of two latents is shorter than either, which shows as lost
contrast; it is stretched to the power mean of their lengths. At the end, pixels whose latents have hardly changed are the old ones.
"""

import torch
from PIL import Image, ImageChops, ImageFilter
from torch import Tensor

from webui.core.soft_inpainting import SoftInpainting
from webui.engine.denoiser import Denoise
from webui.engine.latents import FACTOR
from webui.engine.masking import Region

SHORTEST = 1e-5  # length of a latent that is not stretched any more
SPREAD = 12  # pixels: the standard deviation by which the map of changes is blurred


def softly_kept(denoise: Denoise, mask: Tensor, init: Tensor, soft: SoftInpainting) -> Denoise:
    """`denoise` whose answers are mixed with the init latents. mask: (1, 1, h, w), 0 .. 1; init: (batch, 4, h, w), clean."""

    def mixed_answer(x: Tensor, sigma: Tensor, call: int) -> Tensor:
        part = mask ** (soft.preservation_strength * float(sigma) ** soft.schedule_bias)
        return mixed(init, denoise(x, sigma, call), part, soft.contrast_boost)

    return mixed_answer


def mixed(old: Tensor, new: Tensor, part: Tensor, boost: float) -> Tensor:
    """`part` of new, the rest old, per cell; as long (over the channels) as the power mean of both, with exponent `boost`."""
    line = torch.lerp(old, new, part)
    lengths = [torch.linalg.vector_norm(latents, dim=1, keepdim=True) for latents in (old, new, line)]
    wanted = ((1 - part) * lengths[0] ** boost + part * lengths[1] ** boost) ** (1 / boost)
    return line * (wanted / lengths[2].clamp(min=SHORTEST))


def changed(mask: Tensor, old: Tensor, new: Tensor, soft: SoftInpainting) -> Tensor:
    """How new each cell is, 0 .. 1: (h, w). mask: (1, 1, h, w); old, new: (1, 4, h, w), the clean latents before and after."""
    distance = torch.linalg.vector_norm(new - old, dim=1)[0]
    unmasked = 1 - mask[0, 0].clamp(0, 1) ** (soft.preservation_strength / 2)
    scale = 0.5 * (1 - soft.mask_influence) + unmasked * soft.mask_influence
    half = soft.difference_threshold * scale / (1 - scale).clamp(min=SHORTEST)  # distance at which old and new count alike
    old_part = 1 / (1 + (distance / half.clamp(min=SHORTEST)) ** soft.difference_contrast)
    return 1 - old_part**3 * (old_part * (6 * old_part - 15) + 10)  # Perlin's smoother step


def soft_region(region: Region, mask: Tensor, old: Tensor, new: Tensor, soft: SoftInpainting) -> Region:
    """`region` for one picture, in which only that shows which has changed; outside its mask nothing does, as ever."""
    cells = (changed(mask, old, new, soft) * 255).round().to(torch.uint8).cpu().numpy()
    shown = Image.fromarray(cells).resize(region.mask.size, Image.Resampling.BICUBIC).filter(ImageFilter.GaussianBlur(SPREAD))
    left, top, right, bottom = region.box
    whole = Image.new("L", region.original.size)
    whole.paste(shown.resize((right - left, bottom - top), Image.Resampling.BICUBIC), (left, top))
    allowed = region.overlay.point(lambda value: 255 if value else 0)
    return Region(region.image, region.mask, region.original, ImageChops.darker(whole, allowed), region.box)


def soft_mask(mask: Image.Image) -> Tensor:
    """(1, 1, height/8, width/8), 0 .. 1, from an "L" mask of the picture's size."""
    small = mask.resize((mask.width // FACTOR, mask.height // FACTOR), Image.Resampling.BICUBIC)
    return torch.frombuffer(bytearray(small.tobytes()), dtype=torch.uint8).reshape(1, 1, small.height, small.width) / 255
