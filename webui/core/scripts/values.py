"""The values that a person types for an axis: `1-5`, `1-5(+2)`, `1-5[4]`, and texts in CSV."""

import csv
import io
import math
import re
from collections.abc import Iterator
from fractions import Fraction

from webui.core.errors import BadRequest
from webui.core.key_values import short

MAX_VALUES = 1000  # on one axis
NUMBER = r"[+-]?(?:\d{1,20}(?:\.\d{0,20})?|\.\d{1,20})"
RANGE = re.compile(rf"({NUMBER})\s*-\s*({NUMBER})\s*(?:\(\s*({NUMBER})\s*\)|\[\s*(\d{{1,20}})\s*\])?", re.ASCII)


def texts(typed: str) -> list[str]:
    """The values of a CSV line (or several): "a, b" in quotes is one value, "" in quotes one quotation mark. Raises BadRequest."""
    try:
        found = [value.strip() for row in csv.reader(io.StringIO(typed), skipinitialspace=True) for value in row]
    except csv.Error as error:
        raise BadRequest(f"the values {short(typed)!r} cannot be taken apart at their commas ({error}); put them in quotes") from None
    if len(found) > MAX_VALUES:
        raise BadRequest(f"there are {len(found)} values; at most {MAX_VALUES} are taken on one axis")
    return found


def wholes(typed: str) -> list[int]:
    """Whole numbers, singly or as ranges; `1-10[5]` cuts off what is behind the point, as the field does. Raises BadRequest."""
    return [value for text in texts(typed) if text for value in _wholes(text)]


def decimals(typed: str) -> list[float]:
    """Numbers, singly or as ranges; those of `0-1[4]` are rounded to 4 digits, as in the field. Raises BadRequest."""
    return [value for text in texts(typed) if text for value in _decimals(text)]


def truths(typed: str) -> list[bool]:
    """True or False, each in any case. Raises BadRequest."""
    words = {"true": True, "false": False}
    for text in texts(typed):
        if text and text.casefold() not in words:
            raise BadRequest(f"{short(text)!r} is neither True nor False: use one of them")
    return [words[text.casefold()] for text in texts(typed) if text]


def sizes(typed: str) -> list[tuple[int, int]]:
    """Pixels as `512x768`. Raises BadRequest."""
    found = []
    for text in filter(None, texts(typed)):
        size = re.fullmatch(r"(\d{1,6})\s*[x×]\s*(\d{1,6})", text, re.ASCII | re.IGNORECASE)
        if size is None:
            raise BadRequest(f"{short(text)!r} is no size; write width x height, such as 512x768")
        found.append((int(size[1]), int(size[2])))
    return found


def _wholes(text: str) -> Iterator[int]:
    for value in _range(text) or [_number(text, "whole number")]:
        if "[" not in text and value.denominator != 1:
            raise BadRequest(f"{short(text)!r} is not a whole number, nor a range such as 1-5, 1-5(+2) or 1-5[4]")
        yield int(value)


def _decimals(text: str) -> Iterator[float]:
    for value in _range(text) or [_number(text, "number")]:
        yield round(float(value), 4) if "[" in text else float(value)


def _number(text: str, kind: str) -> Fraction:
    try:
        value = float(text) if len(text) <= 60 else math.nan
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise BadRequest(f"{short(text)!r} is not a {kind}, nor a range such as 1-5, 1-5(+2) or 1-5[4]")
    return Fraction(text.strip()) if re.fullmatch(NUMBER, text, re.ASCII) else Fraction(value)


def _range(text: str) -> list[Fraction]:
    """The values of `1-5` (also downwards), `1-5(+2)` or `1-5[4]`, exactly; [] where `text` is no range."""
    found = RANGE.fullmatch(text)
    if found is None:
        return []
    start, end = Fraction(found[1]), Fraction(found[2])
    if found[4] is not None:
        count = int(found[4])
        step = (end - start) / (count - 1) if count > 1 else Fraction(0)
    else:
        step = Fraction(found[3] or (1 if start <= end else -1))
        count = int((end - start) / step) + 1 if step and (end - start) / step >= 0 else 0
    if count < 1:
        raise BadRequest(f"the range {text} holds no value; from {found[1]} to {found[2]} go with a step such as (+1), (-1) or a count [4]")
    if count > MAX_VALUES:
        raise BadRequest(f"the range {text} holds {count} values; at most {MAX_VALUES} are taken on one axis: use a larger step")
    return [start + step * i for i in range(count)]
