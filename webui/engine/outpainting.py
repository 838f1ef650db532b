"""Outpainting: which windows extend a picture, what lies in the new area before the model paints it, and how its work is laid in.

One side at a time (left, right, top, bottom), in strips of at most a quarter of the model's native size, so that each window, of the
native size where the picture is that large, shows the model three times as much old picture as it adds: with half of each, models begin a
scene anew where the old picture ends, since that is where horizons mostly lie. Strips longer than a window are made in pieces.
"""

from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from webui.core.request import Outpaint
from webui.engine.latents import FACTOR
from webui.engine.masking import Box, Size

RIM = 48  # pixels of the old picture, next to the new area, whose colours and grain are continued
EDGE = 4  # pixels whose mean is the colour at the edge
SPREAD = 0.15  # standard deviation of the blur along the edge, per pixel away from it: horizons go on, objects at the edge fade
FINE = 3  # pixels: structure smaller than this is grain
HELD = (0.4, 0.6, 0.8)  # of the noise, at which the first, second and third cell beside the old picture are let go
MOSTLY = 204  # of 255: mean of a cell of the blend mask from which on the model paints it
FLAT = 0.5  # grey levels: less grain than this is none
GRAINY = 2  # grey levels: less grain than this is not missed where the model paints none
MANY = 100_003  # more than a side has pixels: each strip and piece has grain of its own
OFF_COLOUR = 32  # grey levels: where model and old picture are farther apart, they show different things
ALONG, ACROSS = 5, 4  # pixels: standard deviations of the blur, along and across the border, that leaves colour and takes detail away


@dataclass(frozen=True)
class Pass:
    """One run of the model. Boxes are in pixels of the finished canvas."""

    window: Box  # what the model sees
    new: Box  # what it adds
    side: str  # of the picture: "left", "right", "top" or "bottom"


def canvas_size(size: Size, outpaint: Outpaint) -> Size:
    return size[0] + outpaint.left + outpaint.right, size[1] + outpaint.top + outpaint.bottom


def plan_passes(size: Size, outpaint: Outpaint, native: int) -> list[Pass]:
    """The passes that extend a picture of `size`, in order; native: the side in pixels that the model was trained on."""
    known = [outpaint.left, outpaint.top, outpaint.left + size[0], outpaint.top + size[1]]
    strip = max(native // 4 // FACTOR * FACTOR, FACTOR)
    passes = []
    for side, missing in (("left", outpaint.left), ("right", outpaint.right), ("top", outpaint.top), ("bottom", outpaint.bottom)):
        while missing > 0:
            width = min(strip, missing)
            passes += _strip_passes(known, side, width, native)
            known[SIDES.index(side)] += width if side in ("right", "bottom") else -width
            missing -= width
    return passes


SIDES = ("left", "top", "right", "bottom")  # the order of a box's numbers


def _strip_passes(known: list[int], side: str, width: int, native: int) -> list[Pass]:
    """One strip of `width` along the whole side of the box `known`, in windows of at most native size."""
    axis = 0 if side in ("left", "right") else 1  # of the direction outwards; the strip runs along the other
    if side in ("left", "top"):
        strip = (known[axis] - width, known[axis])
        depth = (strip[0], min(strip[0] + max(native, 2 * width), known[axis + 2]))
    else:
        strip = (known[axis + 2], known[axis + 2] + width)
        depth = (max(strip[1] - max(native, 2 * width), known[axis]), strip[1])
    start, end = known[1 - axis], known[3 - axis]
    passes, done = [], start
    while done < end:
        first = max(min(done - native // 4, end - native), start) if done > start else start  # a quarter of what was made just before
        last = min(first + native, end)
        passes.append(Pass(_box(axis, depth, (first, last)), _box(axis, strip, (done, last)), side))
        done = last
    return passes


def _box(axis: int, outwards: tuple[int, int], along: tuple[int, int]) -> Box:
    horizontal, vertical = (outwards, along) if axis == 0 else (along, outwards)
    return horizontal[0], vertical[0], horizontal[1], vertical[1]


def place_on_canvas(image: Image.Image, outpaint: Outpaint) -> Image.Image:
    """The old picture in its place on the finished canvas, the rest black."""
    canvas = Image.new("RGB", canvas_size(image.size, outpaint))
    canvas.paste(image, (outpaint.left, outpaint.top))
    return canvas


def prefill(canvas: Image.Image, step: Pass, seed: int) -> Image.Image:
    """`canvas` with the pass's new area continuing its neighbours: edge colours that spread outwards, and grain of the rim's spectrum."""
    left, top, right, bottom = step.new
    pixels = np.asarray(canvas, dtype=np.float64)
    inwards = pixels if step.side in ("right", "bottom") else pixels[::-1, ::-1]
    if step.side in ("left", "top"):
        left, top, right, bottom = (canvas.width - right, canvas.height - bottom, canvas.width - left, canvas.height - top)
    if step.side in ("top", "bottom"):
        inwards, left, top, right, bottom = inwards.transpose(1, 0, 2), top, left, bottom, right
    begin = max(left - RIM, 0)
    rim = inwards[top:bottom, begin:left]  # old pixels, the edge last
    known = rim[:, -min(RIM, _known_depth(step)) :]
    filled = _spread(known[:, -EDGE:].mean(axis=1), right - left) + _grain(known, right - left, seed)
    if step.side in ("top", "bottom"):
        filled = filled.transpose(1, 0, 2)
    if step.side in ("left", "top"):
        filled = filled[::-1, ::-1]
    result = canvas.copy()
    result.paste(Image.fromarray(np.clip(np.rint(filled), 0, 255).astype(np.uint8)), step.new[:2])
    return result


def _known_depth(step: Pass) -> int:
    """Pixels of old picture between the window's inner edge and the new area."""
    axis = 0 if step.side in ("left", "right") else 1
    return (step.window[axis + 2] - step.window[axis]) - (step.new[axis + 2] - step.new[axis])


def _spread(edge: np.ndarray, distance: int) -> np.ndarray:
    """(length, distance, 3): the colours along an edge (length, 3), blurred the more, the farther they are carried."""
    return _blurred(edge[:, None], SPREAD * np.arange(1, distance + 1))


def _blurred(values: np.ndarray, widths: np.ndarray) -> np.ndarray:
    """(length, distance, 3): (length, distance or 1, 3) blurred along the first axis; widths (distance,): standard deviations, pixels."""
    mirrored = np.concatenate([values, values[::-1]])  # so that the blur has no seam at the ends
    frequencies = 2 * np.pi * np.fft.rfftfreq(len(mirrored))[:, None, None]
    spectrum = np.fft.rfft(mirrored, axis=0) * np.exp(-0.5 * (frequencies * widths[None, :, None]) ** 2)
    return np.fft.irfft(spectrum, n=len(mirrored), axis=0)[: len(values)]


def _grain(rim: np.ndarray, distance: int, seed: int) -> np.ndarray:
    """(length, distance, 3): noise with the spectrum of the rim's fine structure, its phases drawn at random.

    The amplitude is that of the rim's ordinary pixels (median deviation): a lone object at the edge does not count as grain.
    """
    detail = _detail(rim)
    spread, ordinary = detail.std(axis=(0, 1)), _ordinary(detail)
    if ordinary.max() <= FLAT:
        return np.zeros((len(rim), distance, 3))
    repeats = np.pad(detail, ((0, 0), (0, max(distance - detail.shape[1], 0)), (0, 0)), mode="symmetric")[:, :distance]
    generator = torch.Generator("cpu").manual_seed(seed)
    white = torch.randn(repeats.shape[:2], generator=generator, dtype=torch.float64).numpy()
    turned = np.exp(1j * np.angle(np.fft.fft2(white)))[:, :, None]  # the same for all colours: their correlation stays
    noise = np.fft.ifft2(np.fft.fft2(repeats, axes=(0, 1)) * turned, axes=(0, 1)).real
    return noise * np.minimum(ordinary / np.maximum(spread, 1e-6), 1.0).max()


def _detail(pixels: np.ndarray) -> np.ndarray:
    """What (height, width, 3) shows that is smaller than FINE pixels."""
    smooth = _blurred(_blurred(pixels, np.array([FINE])).transpose(1, 0, 2), np.array([FINE])).transpose(1, 0, 2)
    return pixels - smooth


def _ordinary(detail: np.ndarray) -> np.ndarray:
    """(3,): the standard deviation of most pixels of (height, width, 3): 1.4826 of a normal distribution's median deviation is its own."""
    return 1.4826 * np.median(np.abs(detail), axis=(0, 1))


def blend_mask(canvas: Size, step: Pass, blur: int) -> Image.Image:
    """ "L" of the canvas's size: 255 in the new area, falling to 0 over `blur` pixels of what lies beside it."""
    left, top, right, bottom = step.new
    x, y = np.arange(canvas[0]), np.arange(canvas[1])
    beside = np.maximum(np.maximum(left - x, x - right + 1), 0)[None, :]
    above = np.maximum(np.maximum(top - y, y - bottom + 1), 0)[:, None]
    distance = np.maximum(beside, above)  # 0 inside, then 1, 2, ...
    falling = 1 - (distance - 0.5) / max(blur, 1)
    values = np.where(distance == 0, 1.0, np.where(distance <= blur, falling, 0.0))
    return Image.fromarray(np.rint(values * 255).astype(np.uint8))


def cut_window(picture: Image.Image, window: Box) -> Image.Image:
    """What the model sees of a canvas-sized picture, its last rows and columns repeated up to a multiple of 8."""
    pixels = np.asarray(picture.crop(window))
    more = [(0, -side % FACTOR) for side in pixels.shape[:2]]
    return Image.fromarray(np.pad(pixels, [*more, (0, 0)][: pixels.ndim], mode="edge"))


def latent_mask(mask: Image.Image) -> Tensor:
    """(1, 1, height/8, width/8) of 0 and 1 (repaint) from a window of `blend_mask`: 1 where a cell is new, or is to be for the most part.

    The model sees the old rim as it is then, and goes on with it; where it paints the rim anew, it draws an edge of its own there.
    """
    cells = np.asarray(mask, dtype=np.float32).reshape(mask.height // FACTOR, FACTOR, mask.width // FACTOR, FACTOR)
    repaint = (cells.mean(axis=(1, 3)) >= MOSTLY) | (cells.max(axis=(1, 3)) == 255)
    return torch.from_numpy(repaint.astype(np.float32))[None, None]


def free_at(step: Pass) -> Tensor:
    """(1, 1, height/8, width/8) for the pass's window: the share of the noise at which each cell is let go, see `denoiser.held_back`.

    Next to the old picture the new one is held to its continuation while the model decides what lies where: nothing begins at the border.
    """
    axis = 0 if step.side in ("left", "right") else 1
    cells = [-(-(step.window[side + 2] - step.window[side]) // FACTOR) for side in (0, 1)]
    middles = step.window[axis] + FACTOR * torch.arange(cells[axis]) + FACTOR // 2
    distance = middles - step.new[axis] if step.side in ("right", "bottom") else step.new[axis + 2] - middles
    shares = torch.tensor([*HELD, 1.0])[(distance // FACTOR).clamp(0, len(HELD))]
    return (shares[None, :] if axis == 0 else shares[:, None]).expand(cells[1], cells[0])[None, None]


def lay_in(canvas: Image.Image, made: Image.Image, step: Pass, mask: Image.Image) -> Image.Image:
    """`canvas` with the model's window, in the colours of the rim, laid in through the mask; where the mask is 0 no pixel changes."""
    left, top, right, bottom = step.window
    painted = canvas.copy()
    painted.paste(match_colours(made.crop((0, 0, right - left, bottom - top)), canvas.crop(step.window), step), (left, top))
    return Image.composite(painted, canvas, mask)


def match_colours(made: Image.Image, old: Image.Image, step: Pass) -> Image.Image:
    """`made` in the colours, and with the grain, that `old` has beside the new area. Both: the pass's window.

    Models paint a sky a little lighter than the one it goes on from: a border that no feather hides.
    """
    pixels, known = np.array(made, dtype=np.float64), np.asarray(old, dtype=np.float64)
    axis = 0 if step.side in ("left", "right") else 1
    _match(_outwards(pixels, step.side), _outwards(known, step.side), _known_depth(step))
    earlier = step.new[1 - axis] - step.window[1 - axis]  # pixels of the strip's piece before this one
    if earlier > 0:
        start, end = step.new[axis] - step.window[axis], step.new[axis + 2] - step.window[axis]
        strip = np.s_[:, start:end] if axis == 0 else np.s_[start:end]
        side = "bottom" if axis == 0 else "right"
        _match(_outwards(pixels[strip], side), _outwards(known[strip], side), earlier)
    _add_grain(_outwards(pixels, step.side), _outwards(known, step.side), _known_depth(step), MANY * step.new[0] + step.new[1])
    return Image.fromarray(np.clip(np.rint(pixels), 0, 255).astype(np.uint8))


def _outwards(pixels: np.ndarray, side: str) -> np.ndarray:
    """A view of (height, width, 3) whose second axis runs towards `side`."""
    turned = pixels.transpose(1, 0, 2) if side in ("top", "bottom") else pixels
    return turned[:, ::-1] if side in ("left", "top") else turned


def _match(made: np.ndarray, known: np.ndarray, depth: int) -> None:
    """Change the colours of `made` (length, outwards, 3) so that they go on from those of `known`, of which `depth` columns are old.

    Beyond the border the difference that is seen there is carried outwards, blurred the more, the farther.
    """
    difference = np.clip(known[:, :depth] - made[:, :depth], -OFF_COLOUR, OFF_COLOUR)
    new = made.shape[1] - depth
    whole = np.pad(difference, ((0, 0), (0, new), (0, 0)), mode="edge")
    across = _blurred(whole.transpose(1, 0, 2), np.array([ACROSS])).transpose(1, 0, 2)
    made += _blurred(across, ALONG + np.maximum(np.arange(-depth, new) + 1, 0))


def _add_grain(made: np.ndarray, known: np.ndarray, depth: int, seed: int) -> None:
    """Give `made` (length, outwards, 3) the grain that the rim has in `known` and lost on its way through the model's latents."""
    rim = known[:, max(depth - RIM, 0) : depth]
    there, left = (_noise(pixels[:, max(depth - RIM, 0) : depth]) for pixels in (known, made))
    if there > max(GRAINY, left):
        made += _grain(rim, made.shape[1], seed) * (1 - (left / there) ** 2) ** 0.5


def _noise(pixels: np.ndarray) -> float:
    """Standard deviation of the noise in (height, width, 3): of second differences both ways, which strokes and gradients have none of.

    After J. Immerkaer, Fast Noise Variance Estimation, 1996: in white noise they are 6 times as wide; the median leaves edges out.
    """
    if min(pixels.shape[:2]) < 3:
        return 0.0
    return float(_ordinary(np.diff(np.diff(pixels, 2, axis=0), 2, axis=1)).max()) / 6
