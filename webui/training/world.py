"""The miniature's world: what its pictures show, and how they are drawn (Pillow and numpy only)."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from random import Random

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

Rgb = tuple[int, int, int]
Point = tuple[float, float]

NATIVE_SIZE = 128  # pixels, width and height of the pictures that the miniature is made for
PIXEL = 4  # side of one "pixel" of the pixel art style, in pixels at NATIVE_SIZE
OVERSAMPLING = 4  # shapes are drawn this much larger, then averaged: smooth edges

COLOURS: dict[str, Rgb] = {
    "red": (214, 40, 40),
    "orange": (247, 127, 0),
    "yellow": (252, 211, 60),
    "green": (46, 150, 70),
    "cyan": (60, 200, 210),
    "blue": (38, 84, 214),
    "purple": (128, 50, 170),
    "pink": (247, 140, 185),
    "black": (26, 26, 30),
    "white": (248, 248, 246),
}
RADII = {"small": 18.0, "medium": 27.0, "large": 38.0}  # half the width of an object, pixels at NATIVE_SIZE
PLACES: dict[str, Point] = {"left": (-1, 0), "right": (1, 0), "top": (0, -1), "bottom": (0, 1), "centre": (0, 0)}
STYLES = ("flat", "outline", "pixel art")
OFFSET = 33.0  # from the middle of the picture to a side place, pixels at NATIVE_SIZE
MARGIN = 3.0  # between an object and the edge of the picture
OUTLINE_WIDTH = 4.5  # of a stroke in the outline style, pixels at NATIVE_SIZE


@dataclass(frozen=True, kw_only=True)
class Thing:
    """One object of a picture, by name and by exact position."""

    object: str  # a key of OBJECTS
    colour: str  # a key of COLOURS
    size: str  # a key of RADII
    place: str  # a key of PLACES
    shift: Point = (0.0, 0.0)  # away from the middle of its place, pixels at NATIVE_SIZE
    scale: float = 1.0  # of the radius that `size` names


@dataclass(frozen=True, kw_only=True)
class Scene:
    """All that a picture shows: one or two things on a background."""

    things: tuple[Thing, ...]
    background: str  # a key of COLOURS (plain) or of SCENERY
    style: str = "flat"  # one of STYLES
    detail_seed: int = 0  # where clouds, stars and waves lie


@dataclass(frozen=True)
class Contour:
    """A closed line of a shape, in units of the radius: x to the right, y down, both -1 .. 1."""

    points: tuple[Point, ...]
    tone: str = "base"  # filled with: base (the colour), shade (darker), hole (nothing)


@dataclass(frozen=True)
class Scenery:
    """A background that is more than one colour."""

    rows: Callable[[NDArray[np.float32]], NDArray[np.float32]]  # heights 0 (top) .. 1 -> RGB 0 .. 255
    detail: Rgb  # colour of clouds, stars, waves
    draw_details: Callable[[ImageDraw.ImageDraw, Random, float], None]
    clashes: frozenset[str]  # colours that objects on it never have


def draw(scene: Scene, width: int = NATIVE_SIZE, height: int = NATIVE_SIZE) -> Image.Image:
    """The picture of `scene`, RGB. Objects keep the scale of the shorter side; places spread over the longer one."""
    picture = draw_background(scene.background, width, height, scene.detail_seed)
    if scene.style == "pixel art":
        picture = _coarse(picture)
    for thing in scene.things:
        base, shade = object_masks(thing, scene.style, width, height)
        colour = COLOURS[thing.colour]
        picture.paste(colour, mask=base)
        picture.paste(shade_of(colour), mask=shade)
    return picture


def object_masks(thing: Thing, style: str, width: int, height: int) -> tuple[Image.Image, Image.Image]:
    """Where `thing` covers the picture with its colour and with the darker shade: two "L" masks."""
    centre_x, centre_y, radius = geometry(thing, width, height)
    factor = OVERSAMPLING
    canvas = (width * factor, height * factor)
    masks = {"base": Image.new("L", canvas), "shade": Image.new("L", canvas)}
    pens = {tone: ImageDraw.Draw(mask) for tone, mask in masks.items()}
    unit = min(width, height) / NATIVE_SIZE
    for contour in OBJECTS[thing.object]:
        points = [((centre_x + x * radius) * factor, (centre_y + y * radius) * factor) for x, y in contour.points]
        if style == "outline":
            _stroke(pens["base"], points, OUTLINE_WIDTH * unit * factor)
            continue
        for tone, pen in pens.items():
            pen.polygon(points, fill=255 if tone == contour.tone else 0)
    if style == "pixel art":
        return _blocks(masks["base"], width, height), _blocks(masks["shade"], width, height)
    return masks["base"].reduce(factor), masks["shade"].reduce(factor)


def geometry(thing: Thing, width: int, height: int) -> tuple[float, float, float]:
    """Centre x, centre y and radius of `thing` in pixels; the whole object stays inside the picture."""
    unit = min(width, height) / NATIVE_SIZE
    radius = RADII[thing.size] * thing.scale * unit
    toward_x, toward_y = PLACES[thing.place]
    x = width / 2 + toward_x * OFFSET * width / NATIVE_SIZE + thing.shift[0] * unit
    y = height / 2 + toward_y * OFFSET * height / NATIVE_SIZE + thing.shift[1] * unit
    reach = radius + MARGIN * unit
    return min(max(x, reach), width - reach), min(max(y, reach), height - reach), radius


def draw_background(name: str, width: int, height: int, detail_seed: int = 0) -> Image.Image:
    """A plain colour, or a scenery with its details laid out by `detail_seed`."""
    picture = Image.fromarray(background_rows(name, width, height).round().astype(np.uint8))
    if name in SCENERY:
        unit = min(width, height) / NATIVE_SIZE
        mask = Image.new("L", (width * OVERSAMPLING, height * OVERSAMPLING))
        SCENERY[name].draw_details(ImageDraw.Draw(mask), Random(detail_seed), unit * OVERSAMPLING)
        picture.paste(SCENERY[name].detail, mask=mask.reduce(OVERSAMPLING))
    return picture


def background_rows(name: str, width: int, height: int) -> NDArray[np.float32]:
    """A background without its details: (height, width, 3), 0 .. 255."""
    heights = (np.arange(height, dtype=np.float32) + 0.5) / height
    plain = np.broadcast_to(np.array(COLOURS.get(name, (0, 0, 0)), np.float32), (height, 3))
    rows = SCENERY[name].rows(heights) if name in SCENERY else plain
    return np.ascontiguousarray(np.broadcast_to(rows[:, None], (height, width, 3)))


def shade_of(colour: Rgb) -> Rgb:
    """The darker tone for roofs, doors and trunks; black gets a lighter one, having no darker."""
    if sum(colour) < 120:
        return (78, 78, 86)
    red, green, blue = (round(part * 0.62) for part in colour)
    return red, green, blue


def colours_on(background: str) -> tuple[str, ...]:
    """Colours that an object on `background` may have."""
    clashes = SCENERY[background].clashes if background in SCENERY else {background}
    return tuple(colour for colour in COLOURS if colour not in clashes)


def random_scene(rng: Random) -> Scene:
    """Any scene of the world; one in six shows two things."""
    background = rng.choice(tuple(COLOURS)) if rng.random() < 0.6 else rng.choice(tuple(SCENERY))
    style = rng.choices(STYLES, weights=(0.5, 0.25, 0.25))[0]
    colours = colours_on(background)
    if rng.random() < 1 / 6:
        places = rng.choice((("left", "right"), ("top", "bottom")))
        places = places if rng.random() < 0.5 else places[::-1]
        sizes = ("small", "medium")
        pair = rng.sample(colours, 2)
        things = tuple(_random_thing(rng, place, sizes, colour) for place, colour in zip(places, pair, strict=True))
    else:
        things = (_random_thing(rng, rng.choice(tuple(PLACES)), tuple(RADII), rng.choice(colours)),)
    return Scene(things=things, background=background, style=style, detail_seed=rng.randrange(1 << 30))


def _random_thing(rng: Random, place: str, sizes: Sequence[str], colour: str) -> Thing:
    return Thing(
        object=rng.choice(tuple(OBJECTS)),
        colour=colour,
        size=rng.choice(sizes),
        place=place,
        shift=(rng.uniform(-4, 4), rng.uniform(-4, 4)),
        scale=rng.uniform(0.94, 1.06),
    )


# ---- drawing ----


def _stroke(pen: ImageDraw.ImageDraw, points: list[Point], width: float) -> None:
    """A closed line with round corners, `width` wide."""
    pen.line([*points, points[0]], fill=255, width=round(width))
    half = width / 2
    for x, y in points:
        pen.ellipse((x - half, y - half, x + half, y + half), fill=255)


def _coarse(picture: Image.Image) -> Image.Image:
    """The picture in blocks of PIXEL x PIXEL (of the size that fits the picture's)."""
    block = _block(picture.width, picture.height)
    return picture.reduce(block).resize(picture.size, Image.Resampling.NEAREST)


def _blocks(mask: Image.Image, width: int, height: int) -> Image.Image:
    """An oversampled mask as hard-edged blocks, at (width, height)."""
    block = _block(width, height)
    coarse = mask.reduce(block * OVERSAMPLING).point(lambda value: 255 if value >= 118 else 0)
    return coarse.resize((width, height), Image.Resampling.NEAREST)


def _block(width: int, height: int) -> int:
    return max(1, round(PIXEL * min(width, height) / NATIVE_SIZE))


# ---- shapes ----


def _arc(radius: float, start: float, end: float, centre: Point = (0.0, 0.0), count: int = 48) -> tuple[Point, ...]:
    """Points on an arc from angle `start` to `end` (degrees, clockwise from the right)."""
    angles = (math.radians(start + (end - start) * i / count) for i in range(count + 1))
    return tuple((centre[0] + radius * math.cos(a), centre[1] + radius * math.sin(a)) for a in angles)


def _star() -> tuple[Point, ...]:
    radii = (1.06, 0.44)
    angles = (math.radians(-90 + 36 * i) for i in range(10))
    return tuple((radii[i % 2] * math.cos(a), radii[i % 2] * math.sin(a) + 0.06) for i, a in enumerate(angles))


def _heart() -> tuple[Point, ...]:
    turns = (2 * math.pi * i / 64 for i in range(64))
    return tuple(
        (
            math.sin(t) ** 3,
            -(13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t)) / 15.5 - 0.1,
        )
        for t in turns
    )


def _moon() -> tuple[Point, ...]:
    """A crescent open to the right: a disc less a smaller disc beside it; both rims meet at +-52 degrees."""
    meet = (math.cos(math.radians(52)), math.sin(math.radians(52)))
    bite = (0.42, 0.0)
    bite_radius = math.hypot(meet[0] - bite[0], meet[1])
    angle = math.degrees(math.atan2(meet[1], meet[0] - bite[0]))
    outer = _arc(1.0, 52, 308)
    inner = _arc(bite_radius, 360 - angle, angle, bite)
    return tuple((x + 0.18, y) for x, y in outer + inner)


def _box(left: float, top: float, right: float, bottom: float) -> tuple[Point, ...]:
    return ((left, top), (right, top), (right, bottom), (left, bottom))


_FIR = ((0.0, -1.0), (0.5, -0.38), (0.28, -0.38), (0.7, 0.14), (0.42, 0.14), (0.9, 0.66))
_CROSS_ARM = 0.34

OBJECTS: dict[str, tuple[Contour, ...]] = {
    "circle": (Contour(_arc(1.0, 0, 360, count=64)),),
    "square": (Contour(_box(-0.86, -0.86, 0.86, 0.86)),),
    "triangle": (Contour(((0.0, -0.95), (1.0, 0.8), (-1.0, 0.8))),),
    "star": (Contour(_star()),),
    "heart": (Contour(_heart()),),
    "cross": (
        Contour(
            tuple(
                (x * sign_x, y * sign_y)
                for sign_x, sign_y, order in ((1, -1, 1), (1, 1, -1), (-1, 1, 1), (-1, -1, -1))
                for x, y in ((_CROSS_ARM, 0.95), (_CROSS_ARM, _CROSS_ARM), (0.95, _CROSS_ARM))[::order]
            )
        ),
    ),
    "ring": (Contour(_arc(1.0, 0, 360, count=64)), Contour(_arc(0.54, 0, 360, count=48), "hole")),
    "moon": (Contour(_moon()),),
    "tree": (
        Contour(_box(-0.16, 0.6, 0.16, 1.0), "shade"),
        Contour(_FIR + tuple((-x, y) for x, y in _FIR[:0:-1])),
    ),
    "house": (
        Contour(_box(-0.74, -0.1, 0.74, 0.95)),
        Contour(((-1.0, -0.1), (0.0, -0.95), (1.0, -0.1)), "shade"),
        Contour(_box(-0.2, 0.36, 0.2, 0.95), "shade"),
    ),
}


# ---- scenery ----


def _gradient(*stops: tuple[float, Rgb]) -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
    """Colours by height, linear between stops; two stops at one height make a horizon."""
    at = [position for position, _ in stops]

    def rows(heights: NDArray[np.float32]) -> NDArray[np.float32]:
        channels = [np.interp(heights, at, [colour[i] for _, colour in stops]) for i in range(3)]
        return np.stack(channels, axis=-1).astype(np.float32)

    return rows


def _clouds(pen: ImageDraw.ImageDraw, rng: Random, unit: float) -> None:
    """Three clouds of three puffs each; positions in units of `unit` (canvas pixels per native pixel)."""
    width, height = _canvas_size(pen)
    for third in range(3):
        x = width * (third + rng.uniform(0.25, 0.75)) / 3
        y = height * rng.uniform(0.08, 0.92)
        for dx, dy, radius in ((-9, 1, 5), (0, -2, 7), (9, 1, 5)):
            cx, cy, r = x + dx * unit, y + dy * unit, radius * unit
            pen.ellipse((cx - r, cy - r * 0.8, cx + r, cy + r * 0.8), fill=255)


def _stars(pen: ImageDraw.ImageDraw, rng: Random, unit: float) -> None:
    width, height = _canvas_size(pen)
    for _ in range(22):
        x, y, radius = rng.random() * width, rng.random() * height, rng.uniform(0.8, 1.6) * unit
        pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=255)


def _waves(pen: ImageDraw.ImageDraw, rng: Random, unit: float) -> None:
    width, height = _canvas_size(pen)
    for row in range(5):
        y = height * (0.5 + row * 0.105)
        start = rng.uniform(-24, 0) * unit
        for i in range(int(width / (24 * unit)) + 2):
            x = start + i * 24 * unit
            pen.arc((x, y - 4 * unit, x + 12 * unit, y + 4 * unit), 20, 160, fill=255, width=round(2.2 * unit))


def _tufts(pen: ImageDraw.ImageDraw, rng: Random, unit: float) -> None:
    width, height = _canvas_size(pen)
    for _ in range(16):
        x, y = rng.random() * width, height * rng.uniform(0.56, 0.98)
        for lean in (-3, 0, 3):
            pen.line((x, y, x + lean * unit, y - 5 * unit), fill=255, width=round(1.6 * unit))


def _dunes(pen: ImageDraw.ImageDraw, rng: Random, unit: float) -> None:
    width, height = _canvas_size(pen)
    for share, phase in ((0.68, rng.random()), (0.86, rng.random())):
        crest = [(x, height * share + 5 * unit * math.sin(2 * math.pi * (x / (70 * unit) + phase))) for x in range(0, width + 8, 8)]
        pen.line(crest, fill=255, width=round(2.5 * unit))


def _streaks(pen: ImageDraw.ImageDraw, rng: Random, unit: float) -> None:
    width, height = _canvas_size(pen)
    for _ in range(4):
        x, y, half = rng.random() * width, height * rng.uniform(0.08, 0.5), rng.uniform(10, 18) * unit
        pen.ellipse((x - half, y - 2 * unit, x + half, y + 2 * unit), fill=255)


def _canvas_size(pen: ImageDraw.ImageDraw) -> tuple[int, int]:
    width, height = pen.im.size
    return width, height


SCENERY: dict[str, Scenery] = {
    "day sky": Scenery(_gradient((0, (92, 168, 238)), (1, (176, 216, 248))), (250, 252, 255), _clouds, frozenset({"white", "cyan"})),
    "night sky": Scenery(_gradient((0, (14, 18, 52)), (1, (46, 48, 108))), (168, 172, 200), _stars, frozenset({"black"})),
    "sea": Scenery(
        _gradient((0, (190, 222, 238)), (0.4, (214, 234, 240)), (0.4, (24, 108, 158)), (1, (10, 72, 124))),
        (84, 164, 196),
        _waves,
        frozenset({"blue", "cyan", "white"}),
    ),
    "grass": Scenery(
        _gradient((0, (170, 214, 248)), (0.5, (212, 234, 248)), (0.5, (128, 196, 84)), (1, (94, 164, 62))),
        (74, 140, 52),
        _tufts,
        frozenset({"green", "white"}),
    ),
    "desert": Scenery(
        _gradient((0, (255, 236, 204)), (0.5, (254, 222, 180)), (0.5, (226, 178, 112)), (1, (208, 152, 88))),
        (184, 128, 72),
        _dunes,
        frozenset({"orange", "yellow", "white"}),
    ),
    "sunset": Scenery(
        _gradient((0, (84, 50, 118)), (0.5, (226, 96, 92)), (1, (255, 190, 98))),
        (250, 150, 110),
        _streaks,
        frozenset({"red", "orange", "yellow", "purple", "pink"}),
    ),
}


@cache
def backgrounds() -> tuple[str, ...]:
    """Names of all backgrounds: the plain colours, then the scenery."""
    return (*COLOURS, *SCENERY)
