"""A study as files to take along: strips and moving pictures of its panels or frames, and its numbers as CSV."""

import csv
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from webui.core.errors import BadRequest, MissingModel

PANELS = ("noisy", "noise", "denoised", "guidance")  # of a step's strip, from the left
MOST_WIDE = 32_000  # pixels of a strip, before it goes on below
FRAME = 160  # milliseconds of a moving picture's frames
LAST_FRAME = 1200
FORMULA = ("=", "+", "-", "@", "\t", "\r")  # what spreadsheets would carry out
ENDINGS = {"png": "image/png", "gif": "image/gif", "csv": "text/csv; charset=utf-8"}
OpenFile = Callable[[str], Path]
"""name -> its path; raises MissingModel."""


def exported(told: dict[str, Any], kind: str, panel: str, find: OpenFile) -> bytes:
    """kind: "strip.png", "steps.gif", or "numbers", "tokens", "channels" with ".csv". panel: one of PANELS, for a recording's pictures.

    Raises BadRequest, MissingModel, where the study has nothing of that kind.
    """
    if kind.endswith(".csv"):
        return _csv(_table(told, kind.removesuffix(".csv")))
    images = _pictures(told, panel, find)
    if not images:
        raise MissingModel("this X-ray has no pictures yet; wait for its first step")
    return _strip(images) if kind == "strip.png" else _moving(images)


def _pictures(told: dict[str, Any], panel: str, find: OpenFile) -> list[Image.Image]:
    frames = (told.get("frames") or {}).get("frames") or (told.get("noising") or {}).get("rows")
    if frames:
        return [_open(find(frame["picture"])) for frame in frames]
    if told.get("words"):
        return [_open(find(name)) for name in (told["words"]["base"], *(row["picture"] for row in told["words"]["rows"]))]
    if panel not in PANELS:
        raise BadRequest(f"there is no panel {panel[:40]!r}; choose one of: {', '.join(PANELS)}")
    return [_cut(_open(find(f"panels-{step['step']:03d}.webp")), PANELS.index(panel)) for step in told["steps"] if step["kept"]]


def _open(path: Path) -> Image.Image:
    with Image.open(path) as image:
        return image.convert("RGB")


def _cut(strip: Image.Image, place: int) -> Image.Image:
    width = strip.width // len(PANELS)
    return strip.crop((place * width, 0, (place + 1) * width, strip.height))


def _strip(images: Sequence[Image.Image]) -> bytes:
    """Side by side, in several lines where one would be too wide; each as large as the largest (hires fix grows on the way)."""
    width, height = max(image.width for image in images), max(image.height for image in images)
    columns = max(1, min(len(images), MOST_WIDE // width))
    whole = Image.new("RGB", (columns * width, -(-len(images) // columns) * height))
    for i, image in enumerate(images):
        whole.paste(image.resize((width, height)), (i % columns * width, i // columns * height))
    buffer = io.BytesIO()
    whole.save(buffer, "PNG")
    return buffer.getvalue()


def _moving(images: Sequence[Image.Image]) -> bytes:
    size = max(image.width for image in images), max(image.height for image in images)
    frames = [image.resize(size) for image in images]
    buffer = io.BytesIO()
    durations = [FRAME] * (len(frames) - 1) + [LAST_FRAME]
    frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:], duration=durations, loop=0)
    return buffer.getvalue()


def _table(told: dict[str, Any], kind: str) -> list[list[Any]]:
    """Header and rows. "numbers" are the study's own; "tokens" and "channels" those of a recording."""
    if kind == "numbers":
        return _numbers(told)
    if kind == "tokens" and told.get("whole"):
        names = ["id", "text", "chunk", "place", "weight", "norm"]
        rows = [[text["part"], *(token[name] for name in names)] for text in told["whole"]["texts"] for token in text["tokens"]]
        return [["part", *names], *rows]
    if kind == "channels" and told["steps"]:
        rows = [
            [step["step"], which, channel, *numbers]
            for step in told["steps"]
            for which, each in step["channels"].items()
            for channel, numbers in enumerate(each)
        ]
        return [["step", "latents", "channel", "mean", "deviation", "least", "most"], *rows]
    raise MissingModel(f"this X-ray has no table of {kind[:40]}")


def _numbers(told: dict[str, Any]) -> list[list[Any]]:
    for name, key in (("words", "rows"), ("frames", "frames"), ("noising", "rows")):
        rows = (told.get(name) or {}).get(key)
        if rows:
            return [list(rows[0]), *(list(row.values()) for row in rows)]
    header = ["step", "pass", "calls", "sigma", "t", "seconds", "cosine"]
    norms = ["noisy", "noise", "denoised", "guidance"]
    rows = [[*(step[name] for name in header), *(step["norms"][name] for name in norms)] for step in told["steps"]]
    return [[*header, *(f"norm {name}" for name in norms)], *rows]


def _csv(table: Sequence[Sequence[Any]]) -> bytes:
    text = io.StringIO()
    csv.writer(text).writerows([[_cell(value) for value in row] for row in table])
    return text.getvalue().encode()


def _cell(value: Any) -> Any:
    """Texts that a spreadsheet would take for a formula get a mark before them; numbers stay numbers."""
    if value is None:
        return ""
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value
