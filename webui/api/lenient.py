"""How lenient request bodies are: as A1111's clients need it, and no more than can be stored and sent back.

Unknown keys are ignored; null means the default; numbers may come as text ("1.0"), whole numbers with a fraction (2.5 is 2), truth as 0/1.
"""

import math
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, model_validator

MAX_DEPTH = 32  # nested lists and objects in one field
MAX_ITEMS = 100_000  # values in one field
MAX_TEXT = 200_000  # characters of a text that is not a picture


def _whole(value: Any) -> Any:
    """An int from 2.5, "2", "1.0" or True."""
    try:
        return int(value)
    except (TypeError, ValueError, OverflowError):
        return int(_number(value))


def _number(value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        raise ValueError("is not a number") from None
    if not math.isfinite(number):
        raise ValueError("is not a finite number")
    return number


def _text(value: Any) -> Any:
    text = str(value) if isinstance(value, (int, float)) else value
    if isinstance(text, str) and len(text) > MAX_TEXT:
        raise ValueError(f"has {len(text)} characters; at most {MAX_TEXT} are taken")
    return text


Int = Annotated[int, BeforeValidator(_whole)]
Float = Annotated[float, BeforeValidator(_number)]
Text = Annotated[str, BeforeValidator(_text)]
OpenText = Annotated[str | None, BeforeValidator(_text)]
Object = Annotated[dict[str, Any], BeforeValidator(lambda value: {} if value == [] else value)]  # PHP sends an empty one as a list


def rounded_side(pixels: int) -> int:
    """A picture's side as A1111 makes it: whole cells of latents, so 500 pixels are 496. What is too small for any stays to be refused."""
    return pixels // 8 * 8 if pixels >= 64 else pixels


class Lenient(BaseModel):
    """A request body: drops nulls, refuses what no field may hold (endless nesting, NaN, broken Unicode)."""

    model_config = ConfigDict(extra="ignore", protected_namespaces=())

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        known = {key: value for key, value in data.items() if key in cls.model_fields and value is not None}
        for key, value in known.items():
            check_plain(key, value)
        return known


def check_plain(key: str, value: Any) -> None:
    """Raise ValueError unless `value` can be stored and sent back: nesting, number of values, finite numbers, whole Unicode."""
    level, seen = [value], 0
    for _ in range(MAX_DEPTH):
        deeper: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                deeper += [*item.keys(), *item.values()]
            elif isinstance(item, list):
                deeper += item
            else:
                _check_leaf(key, item)
        seen += len(deeper)
        if seen > MAX_ITEMS:
            raise ValueError(f"{key} holds more than {MAX_ITEMS} values")
        if not deeper:
            return
        level = deeper
    raise ValueError(f"{key} is nested deeper than {MAX_DEPTH} levels")


def _check_leaf(key: str, item: Any) -> None:
    if isinstance(item, float) and not math.isfinite(item):
        raise ValueError(f"{key} holds a number that is not finite")
    if isinstance(item, str) and not item.isascii():
        try:
            item.encode("utf-8")
        except UnicodeEncodeError:
            raise ValueError(f"{key} holds half a Unicode character (a lone surrogate)") from None
    if isinstance(item, str) and "\0" in item:
        raise ValueError(f"{key} holds a NUL character")
