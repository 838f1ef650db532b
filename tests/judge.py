"""The judge: says what a picture of the miniature's world shows, by drawing candidates; no network, no weights.

`python -m tests.judge` (`make judge`) measures a checkpoint with it: tests/measure.py.
"""

import math
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from webui.training.world import (
    COLOURS,
    NATIVE_SIZE,
    OBJECTS,
    OUTLINE_WIDTH,
    PIXEL,
    RADII,
    SCENERY,
    STYLES,
    Thing,
    background_rows,
    backgrounds,
    object_masks,
    shade_of,
)

Array = NDArray[np.float32]

FRAME = 8  # pixels along each edge that tell the background
FOREIGN = 46.0  # RGB distance from every tone of the background at which a pixel belongs to an object
SMALLEST = 70  # pixels: whatever covers less is a speck
GAP = 3  # empty pixels between two things
GRID = 36  # shapes are compared on GRID x GRID cells stretched over their bounding boxes
CENTRE = 12.0  # pixels (at NATIVE_SIZE) from the middle within which a thing is "centre"
BLOCKY_VARIANTS = tuple((offset, (x, y)) for offset in (-2.0, -1.0, 0.0, 1.0) for x in (0.0, 2.0) for y in (0.0, 2.0))  # on the grid
BLOCKY = 0.5  # share of edge energy on the lines of the pixel art grid that makes a picture pixel art; evenly spread: 0.25


@dataclass(frozen=True)
class SeenThing:
    """One object found in a picture."""

    object: str
    colour: str
    size: str
    place: str
    style: str
    confidence: float  # 0: another object fits as well .. 1: nothing else fits


@dataclass(frozen=True)
class Seen:
    """What a picture shows: names as in webui.training.world; things by area, the largest first."""

    things: tuple[SeenThing, ...]
    background: str

    @property
    def object(self) -> str:
        """The largest thing's object, "" where there is none; so too the properties below."""
        return self.things[0].object if self.things else ""

    @property
    def colour(self) -> str:
        return self.things[0].colour if self.things else ""

    @property
    def size(self) -> str:
        return self.things[0].size if self.things else ""

    @property
    def place(self) -> str:
        return self.things[0].place if self.things else ""

    @property
    def style(self) -> str:
        return self.things[0].style if self.things else ""

    @property
    def confidence(self) -> float:
        return self.things[0].confidence if self.things else 0.0


@dataclass(frozen=True)
class _Box:
    left: int
    top: int
    right: int  # one past the last column
    bottom: int
    area: int

    def of(self, values: Array) -> Array:
        """The part of (height, width, ...) inside the box."""
        return values[self.top : self.bottom, self.left : self.right]


def judge(image: Image.Image) -> Seen:
    """What `image` shows; any size, scaled so that its shorter side is NATIVE_SIZE."""
    scale = NATIVE_SIZE / min(image.size)
    size = (round(image.width * scale), round(image.height * scale))
    pixels = np.asarray(image.convert("RGB").resize(size, Image.Resampling.BICUBIC), np.float32)
    background = _background(pixels)
    distance = _distance(pixels, background)
    mask = _without_specks(distance > FOREIGN)
    boxes = sorted(_boxes(mask), key=lambda box: -box.area)[:2]
    return Seen(tuple(_thing(pixels, distance, mask, box, background) for box in boxes), background)


# ---- background ----


def _background(pixels: Array) -> str:
    """The background whose drawing is nearest along the picture's edges."""
    height, width, _ = pixels.shape
    frame = np.ones((height, width), bool)
    frame[FRAME:-FRAME, FRAME:-FRAME] = False

    def difference(name: str) -> float:
        away = np.linalg.norm(pixels - background_rows(name, width, height), axis=-1)
        return float(np.minimum(away[frame], 120).mean())

    return min(backgrounds(), key=difference)


def _distance(pixels: Array, background: str) -> Array:
    """RGB distance (height, width) of each pixel from the nearest tone that the background has there.

    Tones: blends of the colours a little above and below (a blurred horizon), and of the colour here and the details'.
    """
    height, width, _ = pixels.shape
    rows = background_rows(background, width, height)
    if background not in SCENERY:
        frame = np.concatenate([pixels[:FRAME].reshape(-1, 3), pixels[-FRAME:].reshape(-1, 3)])
        near = frame[np.linalg.norm(frame - rows[0, 0], axis=-1) < 60]
        return np.linalg.norm(pixels - (np.median(near, axis=0) if len(near) else rows[0, 0]), axis=-1)
    reach = PIXEL + 1
    above = np.concatenate([rows[:1].repeat(reach, 0), rows[:-reach]])
    below = np.concatenate([rows[reach:], rows[-1:].repeat(reach, 0)])
    detail = np.broadcast_to(np.array(SCENERY[background].detail, np.float32), rows.shape)
    return np.minimum(_from_segment(pixels, above, below), _from_segment(pixels, rows, detail))


def _from_segment(points: Array, start: Array, end: Array) -> Array:
    """Distance of each point (..., 3) from the line between `start` and `end`."""
    along = end - start
    share = ((points - start) * along).sum(-1) / np.maximum((along * along).sum(-1), 1e-6)
    return np.linalg.norm(points - start - np.clip(share, 0, 1)[..., None] * along, axis=-1)


# ---- where things are ----


def _without_specks(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    picture = Image.fromarray(mask.astype(np.uint8) * 255)
    return np.asarray(picture.filter(ImageFilter.MedianFilter(3))) > 127


def _boxes(mask: NDArray[np.bool_]) -> list[_Box]:
    """Boxes around what stands apart in `mask`: split at empty columns, then at empty rows."""
    found = []
    for left, right in _runs(mask.any(axis=0)):
        part = mask[:, left:right]
        for top, bottom in _runs(part.any(axis=1)):
            block = part[top:bottom]
            columns = np.flatnonzero(block.any(axis=0))
            area = int(block.sum())
            if area >= SMALLEST:
                found.append(_Box(left + int(columns[0]), top, left + int(columns[-1]) + 1, bottom, area))
    return found


def _runs(there: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """(start, end) of the stretches of True, joined over gaps shorter than GAP."""
    runs: list[tuple[int, int]] = []
    for i in np.flatnonzero(there).tolist():
        if runs and i - runs[-1][1] < GAP:
            runs[-1] = (runs[-1][0], i + 1)
        else:
            runs.append((i, i + 1))
    return runs


# ---- what a thing is ----


def _thing(pixels: Array, distance: Array, mask: NDArray[np.bool_], box: _Box, background: str) -> SeenThing:
    colour = _colour(box.of(pixels), box.of(distance), box.of(mask), background)
    seen = _tones(box.of(pixels), box.of(distance), box.of(mask), colour)
    fits = _fits(box, seen, _is_blocky(pixels, box))
    (_, object_name, style, radius), *others = sorted(fits)
    second = min(fit[0] for fit in others if fit[1] != object_name)
    height, width, _ = pixels.shape
    return SeenThing(
        object=object_name,
        colour=colour,
        size=min(RADII, key=lambda size: abs(math.log(RADII[size] / radius))),
        place=_place((box.left + box.right) / 2 / width, (box.top + box.bottom) / 2 / height),
        style=style,
        confidence=1 - sorted(fits)[0][0] / second,
    )


def _colour(pixels: Array, distance: Array, mask: NDArray[np.bool_], background: str) -> str:
    """The colour that most of the thing's purest pixels are nearest to, in itself or in its shade."""
    depth = np.where(mask, distance, 0)
    inner = np.asarray(Image.fromarray(mask.astype(np.uint8) * 255).filter(ImageFilter.MinFilter(3))) > 127
    chosen = inner if inner.sum() >= 25 else mask
    chosen = chosen & (depth >= 0.75 * np.quantile(depth[chosen], 0.6))
    names = [name for name in COLOURS if name != background]
    tones = np.array([COLOURS[name] for name in names] + [shade_of(COLOURS[name]) for name in names], np.float32)
    nearest = np.linalg.norm(pixels[chosen][:, None] - tones, axis=-1).argmin(axis=-1)
    votes = np.bincount(nearest % len(names), weights=np.where(nearest < len(names), 1.0, 0.6), minlength=len(names))
    return names[int(votes.argmax())]


def _place(x: float, y: float) -> str:
    """The place of a point, both coordinates 0 .. 1."""
    dx, dy = (x - 0.5) * NATIVE_SIZE, (y - 0.5) * NATIVE_SIZE
    if max(abs(dx), abs(dy)) < CENTRE:
        return "centre"
    if abs(dx) > abs(dy):
        return "left" if dx < 0 else "right"
    return "top" if dy < 0 else "bottom"


def _is_blocky(pixels: Array, box: _Box) -> bool:
    """Whether the edges inside the box lie on the lines of the pixel art grid."""
    top, left = max(0, box.top - 2), max(0, box.left - 2)
    region = pixels[top : box.bottom + 2, left : box.right + 2]
    shares = []
    for axis, start in ((0, top), (1, left)):
        energy = (np.diff(region, axis=axis) ** 2).sum(axis=(1 - axis, 2))  # between line i and line i + 1
        on_grid = (np.arange(len(energy)) + start + 1) % PIXEL == 0
        shares.append((energy[on_grid].sum(), energy.sum()))
    return bool(sum(share[0] for share in shares) > BLOCKY * sum(share[1] for share in shares))


def _fits(box: _Box, seen: Array, blocky: bool) -> list[tuple[float, str, str, float]]:
    """(difference, object, style, radius) for each object in each style that the picture's edges allow."""
    width, height = box.right - box.left, box.bottom - box.top
    fits = []
    for style in STYLES:
        if (style == "pixel art") != blocky:
            continue
        for name in OBJECTS:
            unit_width, unit_height = _extent(name)
            stroke = OUTLINE_WIDTH if style == "outline" else 0.0
            radius = max((width - stroke) / unit_width, (height - stroke) / unit_height)
            differences = []
            for offset, shift in BLOCKY_VARIANTS if blocky else ((0.0, (0.0, 0.0)),):
                template, proportion = _template(name, style, max(6, round(radius + offset)), shift)
                stretch = abs(math.log(width / height / proportion))
                differences.append(float(np.abs(seen - template).mean()) + 0.25 * stretch)
            fits.append((min(differences), name, style, radius))
    return fits


def _tones(pixels: Array, distance: Array, mask: NDArray[np.bool_], colour: str) -> Array:
    """How much each pixel shows the thing, and how much of that is its shade: two layers on the grid."""
    full = float(np.quantile(distance[mask], 0.4))  # at least this far from the background: wholly covered
    covered = np.clip(distance / full, 0, 1)
    base, shade = COLOURS[colour], shade_of(COLOURS[colour])
    from_base, from_shade = (np.linalg.norm(pixels - np.array(tone, np.float32), axis=-1) for tone in (base, shade))
    shaded = mask & (from_shade < from_base)
    return np.stack([_on_grid(covered * 255), _on_grid(shaded * np.float32(255))])


@cache
def _extent(name: str) -> tuple[float, float]:
    """Width and height of an object, in radii."""
    points = np.array([point for contour in OBJECTS[name] for point in contour.points])
    width, height = (points.max(axis=0) - points.min(axis=0)).tolist()
    return width, height


@cache
def _template(name: str, style: str, radius: int, shift: tuple[float, float]) -> tuple[Array, float]:
    """What an object of this radius covers and shades, as `_tones` gives it; and its width over its height."""
    scale = min(radius, 56) / RADII["large"]
    thing = Thing(object=name, colour="black", size="large", place="centre", scale=scale, shift=shift)
    base, shade = (np.asarray(mask, np.float32) for mask in object_masks(thing, style, NATIVE_SIZE, NATIVE_SIZE))
    covered = np.maximum(base, shade)
    rows, columns = np.flatnonzero((covered > 127).any(axis=1)), np.flatnonzero((covered > 127).any(axis=0))
    box = _Box(int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1, 0)
    proportion = (box.right - box.left) / (box.bottom - box.top)
    return np.stack([_on_grid(box.of(covered)), _on_grid(box.of(shade))]), proportion


def _on_grid(coverage: Array) -> Array:
    """Coverage 0 .. 255 of any size as 0 .. 1 on the grid."""
    picture = Image.fromarray(coverage.astype(np.uint8))
    return np.asarray(picture.resize((GRID, GRID), Image.Resampling.BILINEAR), np.float32) / 255


if __name__ == "__main__":
    from tests.measure import main

    main()
