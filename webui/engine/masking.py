"""Init images and masks: fitting them to the picture's size, blurring, filling what is masked, cropping to it and pasting back."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from PIL import Image, ImageFilter, ImageOps
from torch import Tensor

from webui.core.errors import BadRequest
from webui.core.request import MAX_SIDE, Inpaint
from webui.engine.latents import FACTOR

Box = tuple[int, int, int, int]  # left, top, right, bottom
Size = tuple[int, int]  # width, height
LANCZOS = Image.Resampling.LANCZOS
FILL_RADII = (256, 64, 16, 16, 4, 4, 4, 4, 2, 2, 0)  # pixels; blurred copies of what is known, from wide to sharp
WHITE = (255, 255, 255)
MOST_SCALED = 16 * MAX_SIDE  # pixels a side of a picture that is scaled up to be cropped


@dataclass(frozen=True)
class Region:
    """An inpainting prepared for the VAE: what the model works on, and how its result goes back.

    image: RGB, of the model's size, filled where masked. mask: "L", of the same size, 255 = repaint, blurred.
    original: RGB, the whole picture; overlay: "L", of its size, how much of the new picture shows.
    box: where in `original` the model's picture belongs. latents: as `mask`, where latents are made anew, if not there.
    """

    image: Image.Image
    mask: Image.Image
    original: Image.Image
    overlay: Image.Image
    box: Box
    latents: Image.Image | None = None

    @property
    def remade(self) -> Image.Image:
        """ "L", of the model's size: 255 where its latents are made anew."""
        return self.latents or self.mask

    def paste_back(self, made: Image.Image) -> Image.Image:
        """The whole picture with `made` in its place; where the overlay is 0 the original's pixels are untouched."""
        left, top, right, bottom = self.box
        canvas = self.original.convert("RGBA")
        canvas.paste(crop_to_size(made, (right - left, bottom - top)), (left, top))
        kept = Image.new("RGBa", canvas.size)  # premultiplied: roundings as in the field
        kept.paste(self.original.convert("RGBA").convert("RGBa"), mask=ImageOps.invert(self.overlay))
        canvas.alpha_composite(kept.convert("RGBA"))
        return canvas.convert("RGB")


def prepare_inpaint(
    image: Image.Image, mask: Image.Image, inpaint: Inpaint, resize_mode: str, size: Size, latents: Image.Image | None = None
) -> Region:
    """image: the init image; mask: any picture, white = repaint; size: of the model's picture, multiples of 8.

    latents: any picture, laid over the model's as it is: red where its latents are made anew; None: where the mask is.
    """
    image, painted = flatten(image), painted_area(mask, inpaint.greys or inpaint.soft is not None)
    if inpaint.only_masked and painted.size != image.size:
        painted = painted.resize(image.size, Image.Resampling.NEAREST)
    if inpaint.invert:
        painted = ImageOps.invert(painted)
    if painted.getbbox() is None:
        raise BadRequest("the mask is empty, so nothing would change: paint over the area that is to be made anew")
    blurred = blur(painted, inpaint.blur_x, inpaint.blur_y)
    if inpaint.only_masked:
        box = crop_box(blurred, inpaint.padding, size)
        part, part_mask = (resize_and_fill(picture.crop(box), size) for picture in (image, blurred))
        region = Region(part, part_mask, image, blurred, box)
    else:
        fitted, fitted_mask = (resize(picture, size, resize_mode) for picture in (image, blurred))
        overlay = fitted_mask.point(lambda value: min(2 * value, 255))
        region = Region(fitted, fitted_mask, fitted, overlay, (0, 0, *size))
    if latents is not None:
        region = replace(region, latents=latents.convert("RGB").getchannel("R").resize(size))
    if inpaint.content == "original":
        return region
    return replace(region, image=fill(region.image, region.remade))


def resize(image: Image.Image, size: Size, mode: str) -> Image.Image:
    """`image` in a new size by one of RESIZE_MODES; the latent one stretches pictures too, where pictures must be resized."""
    if mode == "Crop and resize":
        return crop_to_size(image, size)
    if mode == "Resize and fill":
        return resize_and_fill(image, size)
    return image.resize(size, LANCZOS)


def crop_to_size(image: Image.Image, size: Size) -> Image.Image:
    """Scaled until it covers the size, the rest cut off at both ends."""
    width, height = size
    if width * image.height > image.width * height:
        scaled = (width, image.height * width // image.width)
    else:
        scaled = (image.width * height // image.height, height)
    if max(scaled) > MOST_SCALED:  # a hair-thin picture, of which almost nothing would be left, in more memory than there is
        raise BadRequest(
            f"a picture of {image.width}x{image.height} is too thin to be cropped to {width}x{height}; use another resize mode"
        )
    return _centred(image.resize(scaled, LANCZOS), size)


def resize_and_fill(image: Image.Image, size: Size) -> Image.Image:
    """Scaled until it fits into the size; the bars at both ends continue its outermost rows or columns."""
    width, height = size
    if width * image.height < image.width * height:
        scaled = (width, max(1, image.height * width // image.width))
    else:
        scaled = (max(1, image.width * height // image.height), height)
    inner = image.resize(scaled, LANCZOS)
    left, top = width // 2 - scaled[0] // 2, height // 2 - scaled[1] // 2
    whole = Image.new(image.mode, size)
    whole.paste(inner, (left, top))
    for axis, bar in ((0, (left, height)), (1, (width, top))):
        if bar[axis] > 0:
            for start, edge in ((0, 0), (scaled[axis] + bar[axis], scaled[axis])):
                line = (edge, 0, edge, scaled[1]) if axis == 0 else (0, edge, scaled[0], edge)  # of no width: what lies beyond the edge
                whole.paste(inner.resize(bar, box=line), (start, 0) if axis == 0 else (0, start))
    return whole


def flatten(image: Image.Image) -> Image.Image:
    """RGB, with what is transparent laid on white."""
    if not image.has_transparency_data:
        return image.convert("RGB")
    layer = image.convert("RGBA")
    canvas = Image.new("RGB", image.size, WHITE)
    canvas.paste(layer, mask=layer.getchannel("A"))
    return canvas


def painted_area(mask: Image.Image, greys: bool = False) -> Image.Image:
    """Mode "L", 255 = repaint. A mask with transparency counts by its opacity, others by brightness. greys: opacities count in part."""
    if mask.mode != "RGBA" or mask.getchannel("A").getextrema() == (255, 255):
        return mask.convert("L")
    opacity = mask.getchannel("A")
    return opacity if greys else opacity.point(lambda value: 255 if value > 128 else 0)


def blur(mask: Image.Image, sigma_x: int, sigma_y: int) -> Image.Image:
    """Gaussian blur by axis, standard deviations in pixels; it reaches int(2.5 sigma + 0.5) pixels far, and mirrors at the edges."""
    values = np.asarray(mask, dtype=np.int64)
    for sigma, axis in ((sigma_x, 1), (sigma_y, 0)):
        if sigma > 0:
            values = _blurred(values, sigma, axis)
    return Image.fromarray(values.astype(np.uint8))


def fill(image: Image.Image, mask: Image.Image) -> Image.Image:
    """`image` with what is masked painted over by its surroundings: blurred copies of the rest, from wide to sharp, laid on one another."""
    known = Image.new("RGBa", image.size)
    known.paste(image.convert("RGBA").convert("RGBa"), mask=ImageOps.invert(mask))
    layers = Image.new("RGBA", image.size)
    for radius in FILL_RADII:
        layers.alpha_composite(known.filter(ImageFilter.GaussianBlur(radius)).convert("RGBA"))
    return layers.convert("RGB")


def crop_box(mask: Image.Image, padding: int, size: Size) -> Box:
    """What is masked, with padding, widened to the aspect ratio of `size` as far as the picture allows."""
    bounds = mask.getbbox()
    if bounds is None:
        raise BadRequest("the mask is empty, so nothing would change: paint over the area that is to be made anew")
    left, top, right, bottom = bounds
    left, right = max(left - padding, 0), min(right + padding, mask.width)
    top, bottom = max(top - padding, 0), min(bottom + padding, mask.height)
    proportions = size[0] / size[1]  # rounded, and with it the crop by a pixel here and there, as in the field
    if (right - left) / (bottom - top) > proportions:
        top, bottom = _widened(top, bottom, int((right - left) / proportions), mask.height)
    else:
        left, right = _widened(left, right, int((bottom - top) * proportions), mask.width)
    return left, top, right, bottom


def latent_mask(mask: Image.Image) -> Tensor:
    """(1, 1, height/8, width/8) of 0 and 1 (repaint) from an "L" mask of the picture's size."""
    small = mask.resize((mask.width // FACTOR, mask.height // FACTOR), Image.Resampling.BICUBIC)
    return torch.from_numpy(np.around(np.asarray(small, dtype=np.float32) / 255))[None, None]


def _centred(image: Image.Image, size: Size) -> Image.Image:
    """The middle of `image`, cut to size."""
    left, top = image.width // 2 - size[0] // 2, image.height // 2 - size[1] // 2
    return image.crop((left, top, left + size[0], top + size[1]))


def _widened(start: int, end: int, length: int, limit: int) -> tuple[int, int]:
    """The span start .. end made `length` long around its middle, pushed back into 0 .. limit, cut where it is too long."""
    more = max(length - (end - start), 0)
    start, end = start - more // 2, end + more - more // 2
    if end > limit:
        start, end = start - (end - limit), limit
    if start < 0:
        start, end = 0, min(end - start, limit)
    return start, end


def _blurred(values: np.ndarray, sigma: int, axis: int) -> np.ndarray:
    """In whole 256ths, as OpenCV blurs 8 bits: half a grey level more or less decides whether a cell of latents is made anew."""
    reach = int(2.5 * sigma + 0.5)
    margins = [(0, 0), (0, 0)]
    margins[axis] = (reach, reach)
    padded = np.pad(values, margins, mode="reflect" if values.shape[axis] > 1 else "edge")
    return (np.apply_along_axis(np.convolve, axis, padded, _kernel(sigma, reach), mode="valid") + 128) >> 8


def _kernel(sigma: int, reach: int) -> np.ndarray:
    """(2 * reach + 1,) whole numbers whose sum is 256; what rounding takes from one goes to the next, and to the middle at last."""
    weights = np.exp(-0.5 * (np.arange(-reach, 1) / sigma) ** 2)
    shares, left = [], 0.0
    for share in (256 * weights / (2 * weights.sum() - 1))[:-1]:
        shares.append(round(share + left))
        left += share - shares[-1]
    return np.array([*shares, 256 - 2 * sum(shares), *reversed(shares)])
