"""A1111's two ways to extend a picture: "Outpainting mk2", side by side from noise of the picture's spectrum, and "Poor man's", in tiles.

Both work on a canvas that holds the old picture from the beginning. Their masks overlap the old picture's rim, and the overlay through
which what was made is seen is blurred further into it; where the overlay is 0 the old pixels stay.
"""

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from webui.core.request import Outpaint
from webui.engine import grid
from webui.engine.masking import Box, Size, blur, fill

SPREAD = 4  # standard deviations of mk2's overlay, per pixel of blur
REACH = 2  # pixels by which mk2 repaints the old picture's rim in the latents, per pixel of blur
EDGE = 0.25  # of the picture's sides: over which it is faded to its mean before its spectrum is taken


@dataclass(frozen=True)
class Step:
    """One run of the model. Boxes in pixels of the canvas; repaint, overlay: "L" of the window's size."""

    window: Box  # what the model sees
    repaint: Image.Image  # 255: new, in the latents
    overlay: Image.Image  # how much of what was made shows
    known: Box | None = None  # of mk2: what there is before
    new: Box | None = None  # of mk2: what it adds
    tile: grid.Tile | None = None  # of Poor man's


def plan(size: Size, outpaint: Outpaint, native: int) -> list[Step]:
    """The runs that extend a picture of `size`; outpaint: settled; native: the side in pixels that the model was trained on."""
    seen = (outpaint.tile_width or native, outpaint.tile_height or native)
    return _mk2_steps(size, outpaint, seen) if outpaint.way == "Outpainting mk2" else _tile_steps(size, outpaint, seen)


def _mk2_steps(size: Size, outpaint: Outpaint, seen: Size) -> list[Step]:
    known = [outpaint.left, outpaint.top, outpaint.left + size[0], outpaint.top + size[1]]
    steps = []
    for index, missing in ((0, outpaint.left), (2, outpaint.right), (1, outpaint.top), (3, outpaint.bottom)):
        axis = index % 2
        while missing > 0:
            width = min(missing, max(seen[axis] // 2, 8))  # so that at least half of what the model sees is there
            steps.append(_mk2_step(tuple(known), index, width, seen[axis], outpaint.blur))
            known[index] += width if index > 1 else -width
            missing -= width
    return steps


def _mk2_step(known: tuple[int, ...], index: int, width: int, seen: int, rim: int) -> Step:
    """A strip of `width` along the side `index` of the box `known`, seen with what lies beside it, `seen` pixels in all."""
    axis, after = index % 2, index > 1
    new, window = list(known), list(known)
    if after:
        new[axis], new[index], window[index] = known[index], known[index] + width, known[index] + width
        window[axis] = max(window[index] - seen, known[axis])
    else:
        new[axis + 2], new[index], window[index] = known[index], known[index] - width, known[index] - width
        window[axis + 2] = min(window[index] + seen, known[axis + 2])
    masks = [_strip(window, new, axis, after, reach) for reach in (REACH * rim, rim)]
    sigma = SPREAD * rim
    overlay = blur(masks[1], *((sigma, 0) if axis == 0 else (0, sigma)))
    return Step(tuple(window), masks[0], overlay.point(_doubled), tuple(known), tuple(new))


def _doubled(value: int) -> int:
    return min(2 * value, 255)


def _strip(window: list[int], new: list[int], axis: int, after: bool, reach: int) -> Image.Image:
    """ "L" of the window's size: 255 in the new area and `reach` pixels beyond it into the old picture."""
    box = [new[0] - window[0], new[1] - window[1], new[2] - window[0], new[3] - window[1]]
    box[axis if after else axis + 2] += -reach if after else reach
    mask = Image.new("L", (window[2] - window[0], window[3] - window[1]))
    mask.paste(255, tuple(np.clip(box, 0, [*mask.size, *mask.size]).tolist()))
    return mask


def _tile_steps(size: Size, outpaint: Outpaint, seen: Size) -> list[Step]:
    canvas = (size[0] + outpaint.left + outpaint.right, size[1] + outpaint.top + outpaint.bottom)
    overlap = min(max(outpaint.left, outpaint.right, outpaint.top, outpaint.bottom), min(seen) // 2)
    old = (outpaint.left, outpaint.top, outpaint.left + size[0], outpaint.top + size[1])
    shown, hidden = (_around(canvas, old, outpaint, reach) for reach in (2 * outpaint.blur, outpaint.blur // 2))
    overlay = blur(shown, 2 * outpaint.blur, 2 * outpaint.blur).point(_doubled)
    skipped = [box for box in grid.boxes(canvas, seen, overlap) if _within(box, old)]
    tiles = grid.split(canvas, seen, overlap, skipped)
    return [Step(tile.box, hidden.crop(tile.box), overlay.crop(tile.box), tile=tile) for tile in tiles]


def _within(box: Box, old: Box) -> bool:
    return box[0] >= old[0] and box[1] >= old[1] and box[2] <= old[2] and box[3] <= old[3]


def _around(canvas: Size, old: Box, outpaint: Outpaint, reach: int) -> Image.Image:
    """ "L": 255 around the old picture, and `reach` pixels into it from the sides that are extended."""
    mask = Image.new("L", canvas, 255)
    inner = (
        old[0] + reach * (outpaint.left > 0),
        old[1] + reach * (outpaint.top > 0),
        old[2] - reach * (outpaint.right > 0),
        old[3] - reach * (outpaint.bottom > 0),
    )
    if inner[2] > inner[0] and inner[3] > inner[1]:
        ImageDraw.Draw(mask).rectangle((inner[0], inner[1], inner[2] - 1, inner[3] - 1), fill=0)
    return mask


def prepared(canvas: Image.Image, step: Step, outpaint: Outpaint, seed: int) -> Image.Image:
    """`canvas` as the model begins with it: mk2's new area holds noise, Poor man's what its masked content says."""
    if step.new is None or step.known is None:
        if outpaint.content == "original":
            return canvas
        result = canvas.copy()
        result.paste(fill(canvas.crop(step.window), step.repaint), step.window[:2])
        return result
    result = canvas.copy()
    size = (step.new[2] - step.new[0], step.new[3] - step.new[1])
    result.paste(spectral_noise(canvas.crop(step.known), size, outpaint.falloff, outpaint.colour_variation, seed), step.new[:2])
    return result


def spectral_noise(picture: Image.Image, size: Size, falloff: float, colour_variation: float, seed: int) -> Image.Image:
    """Noise of `size` with the picture's spectrum, to the power `falloff`, and the picture's distribution of colours.

    colour_variation: 0 for the same noise in all channels, 1 for noise of their own.
    """
    pixels = np.asarray(picture.convert("RGB"), dtype=np.float64)
    windows = [np.clip(np.minimum(np.arange(side) + 1, side - np.arange(side)) / max(EDGE * side, 1), 0, 1) for side in pixels.shape[:2]]
    faded = (pixels - pixels.mean(axis=(0, 1))) * np.outer(*windows)[..., None]
    side = max(*picture.size, *size)
    amplitudes = np.abs(np.fft.fft2(faded, (side, side), axes=(0, 1))) ** falloff
    generator = np.random.default_rng(seed)
    white = generator.standard_normal((side, side, 3))
    grey = white.mean(axis=2, keepdims=True)
    mixed = grey + colour_variation * (white - grey)
    noise = np.fft.ifft2(np.fft.fft2(mixed, axes=(0, 1)) * amplitudes, axes=(0, 1)).real[: size[1], : size[0]]
    noise *= 1000 / max(float(noise.std()), 1e-9)  # so that no two values count as one
    coloured = np.stack([_matched(noise[..., channel], pixels[..., channel]) for channel in range(3)], axis=-1)
    return Image.fromarray(np.clip(np.rint(coloured), 0, 255).astype(np.uint8))


def lay_in(canvas: Image.Image, begun: Image.Image, made: Image.Image, step: Step) -> Image.Image:
    """`canvas` with what the model made of the window of `begun`, seen through the overlay."""
    left, top, right, bottom = step.window
    seen = begun.crop(step.window)
    window = Image.composite(made.crop((0, 0, right - left, bottom - top)), seen, step.overlay)
    if step.tile is not None:
        return step.tile.lay_in(canvas, window)
    result = canvas.copy()
    result.paste(window, (left, top))
    return result


def _matched(values: np.ndarray, model: np.ndarray) -> np.ndarray:
    """`values` moved, in their order, so that they are distributed as `model` is."""
    _, place, counts = np.unique(np.round(values, 3), return_inverse=True, return_counts=True)
    others, other_counts = np.unique(model, return_counts=True)
    quantiles = np.cumsum(counts) / values.size
    moved = np.interp(quantiles, np.cumsum(other_counts) / model.size, others)
    return moved[place].reshape(values.shape)
