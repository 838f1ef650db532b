"""Words for the pictures of the miniature's world: one scene, many ways to say it."""

from dataclasses import dataclass
from random import Random

from webui.training.world import COLOURS, OBJECTS, PLACES, RADII, SCENERY, STYLES, Scene, Thing

WORDS: dict[str, tuple[str, ...]] = {
    "circle": ("circle", "circle", "disc"),
    "square": ("square", "square", "box"),
    "heart": ("heart", "love heart"),
    "cross": ("cross", "plus sign"),
    "ring": ("ring", "ring", "hoop"),
    "moon": ("moon", "moon", "crescent moon"),
    "tree": ("tree", "tree", "fir tree"),
    "house": ("house", "house", "cottage"),
    "cyan": ("cyan", "cyan", "turquoise"),
    "purple": ("purple", "purple", "violet"),
    "small": ("small", "small", "little", "tiny"),
    "medium": ("medium", "medium sized"),
    "large": ("large", "large", "big", "huge"),
    "left": ("on the left", "on the left", "left", "at the left", "on the left side"),
    "right": ("on the right", "on the right", "right", "at the right", "on the right side"),
    "top": ("at the top", "at the top", "top", "on top", "in the upper part"),
    "bottom": ("at the bottom", "at the bottom", "bottom", "in the lower part"),
    "centre": ("in the centre", "in the center", "centre", "center", "in the middle"),
    "day sky": ("in a day sky", "day sky", "in the daytime sky", "with a day sky", "in the sky by day"),
    "night sky": ("in a night sky", "night sky", "at night", "with a night sky", "in the starry night sky"),
    "sea": ("on the sea", "sea", "at sea", "by the sea", "over the ocean"),
    "grass": ("on grass", "grass", "on a grass field", "on a meadow", "on green grass"),
    "desert": ("in the desert", "desert", "on desert sand", "with a desert"),
    "sunset": ("at sunset", "sunset", "in a sunset sky", "with a sunset"),
    "flat": ("flat", "flat style", "in flat style"),
    "outline": ("outline", "outline style", "in outline style", "line art", "an outline drawing"),
    "pixel art": ("pixel art", "pixel art style", "in pixel art style", "pixelated"),
}
PLAIN = ("on a {} background", "on a {} background", "{} background", "with a {} background", "on {}", "against a {} background")
OPENINGS = ("", "", "", "", "", "a picture of ", "an image of ", "a drawing of ")
PRAISE = ("high quality", "masterpiece", "simple", "clean", "best quality", "beautiful", "detailed", "minimal")


@dataclass(frozen=True)
class Caption:
    """A text, and what it says: a value for each name of ATTRIBUTES, "" where it says nothing."""

    text: str
    said: dict[str, str]


ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "object": ("", *OBJECTS),
    "colour": ("", *COLOURS),
    "size": ("", *RADII),
    "place": ("", *PLACES),
    "object 2": ("", *OBJECTS),
    "colour 2": ("", *COLOURS),
    "place 2": ("", *PLACES),
    "background": ("", *COLOURS, *SCENERY),
    "style": ("", *STYLES),
}


def caption(scene: Scene, rng: Random) -> Caption:
    """One of the many captions of `scene`; what is left unsaid may be anything (an unsaid style is flat)."""
    things = rng.sample(scene.things, len(scene.things))
    said = dict.fromkeys(ATTRIBUTES, "")
    tags = len(things) == 1 and rng.random() < 0.3
    phrases = []
    for number, thing in enumerate(things):
        suffix = " 2" if number else ""
        phrases.append(_thing_phrase(thing, said, suffix, rng, with_place=not tags, pair=len(things) > 1))
    parts = []
    if tags and rng.random() < 0.65:
        said["place"] = things[0].place
        parts.append(_word(things[0].place, rng))
    if rng.random() < 0.9:
        said["background"] = scene.background
        parts.append(_background(scene.background, rng))
    if scene.style != "flat" or rng.random() < 0.2:
        said["style"] = scene.style
        parts.append(_word(scene.style, rng))
    return Caption(_join(" and ".join(phrases), parts, tags, rng), said)


def _thing_phrase(thing: Thing, said: dict[str, str], suffix: str, rng: Random, with_place: bool, pair: bool) -> str:
    """ "a small red circle on the left", less what chance leaves out; notes in `said` what it says."""
    words = []
    if not pair and rng.random() < 0.5:
        said["size"] = thing.size
        words.append(_word(thing.size, rng))
    if rng.random() < 0.96:
        said["colour" + suffix] = thing.colour
        words.append(_word(thing.colour, rng))
    said["object" + suffix] = thing.object
    words.append(_word(thing.object, rng))
    if with_place and rng.random() < (0.9 if pair else 0.55):
        said["place" + suffix] = thing.place
        words.append(_word(thing.place, rng))
    article = rng.choice(("a ", "a ", "one ", "")) if not pair else rng.choice(("a ", ""))
    return article + " ".join(words)


def _join(what: str, parts: list[str], tags: bool, rng: Random) -> str:
    if rng.random() < 0.1:
        parts = [*parts, rng.choice(PRAISE)]
    if tags or rng.random() < 0.3:
        rng.shuffle(parts)
        pieces = [what, *parts]
        if rng.random() < 0.2:
            rng.shuffle(pieces)
        return ", ".join(pieces)
    if rng.random() < 0.12 and parts:
        return f"{', '.join(parts)}, {what}"
    return " ".join([rng.choice(OPENINGS) + what, *parts])


def _background(name: str, rng: Random) -> str:
    return _word(name, rng) if name in SCENERY else rng.choice(PLAIN).format(_word(name, rng))


def _word(name: str, rng: Random) -> str:
    return rng.choice(WORDS.get(name, (name,)))
