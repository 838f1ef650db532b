"""The arguments of a script: one table for the API's positions, for the page's widgets and for what is typed into them."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from webui.core.errors import BadRequest
from webui.core.key_values import short
from webui.core.scripts.values import texts

MAX_TEXT = 1_000_000  # characters


@dataclass(frozen=True, kw_only=True)
class Argument:
    """One argument; its default's type says what it holds: bool, int, float, str (with `choices`: one of them) or a list of texts."""

    name: str
    label: str
    default: Any
    minimum: float | None = None
    maximum: float | None = None
    step: float | None = None
    choices: tuple[str, ...] = ()  # the index is the wire number
    others: bool = False  # whether it may be a text that is not among `choices`
    lines: int = 1  # of a text box
    shown: bool = True  # False: a place on the wire alone, where A1111 has a note

    def read(self, value: Any) -> Any:
        """`value` as what the argument holds; None is the default. Raises BadRequest."""
        if value is None:
            return self.default
        if isinstance(self.default, bool):
            return self._truth(value)
        if isinstance(self.default, int | float):
            return self._number(value)
        if isinstance(self.default, list):
            if isinstance(value, str):  # clients send "" for an empty list
                return texts(value)
            if isinstance(value, list | tuple) and all(isinstance(item, str | int | float) for item in value):
                return [str(item) for item in value]
            raise BadRequest(f"{self.label} should be a list of texts")
        return self._choice(value) if self.choices else self._text(value)

    def _truth(self, value: Any) -> bool:
        words = {"true": True, "1": True, "false": False, "0": False, "": False}
        found = words.get(str(value).strip().casefold())
        if found is None:
            raise BadRequest(f"{self.label} {short(str(value))!r} is neither true nor false: use one of them")
        return found

    def _number(self, value: Any) -> int | float:
        try:
            number = float(value)
        except (TypeError, ValueError, OverflowError):
            number = math.nan
        least, most = self.minimum if self.minimum is not None else -math.inf, self.maximum if self.maximum is not None else math.inf
        if not math.isfinite(number) or not least <= number <= most:
            raise BadRequest(f"{self.label} {short(str(value))} is out of range: use a number from {least:g} to {most:g}")
        return int(number) if isinstance(self.default, int) else number

    def _choice(self, value: Any) -> str:
        """By its name in any case, or by its index."""
        names = {choice.casefold(): choice for choice in reversed(self.choices)}
        text = str(value).strip().casefold()
        if text in names:
            return names[text]
        if not isinstance(value, bool) and text.removesuffix(".0").isdecimal() and len(text) < 9:
            index = int(text.removesuffix(".0"))
            if index < len(self.choices):
                return self.choices[index]
        if self.others and isinstance(value, str) and not text.isdecimal():
            return value.strip()
        listed = ", ".join(f"{index} ({choice})" for index, choice in enumerate(self.choices))
        raise BadRequest(f"{self.label} {short(str(value))!r} is not known; use one of: {listed}")

    def _text(self, value: Any) -> str:
        if not isinstance(value, str | int | float):
            raise BadRequest(f"{self.label} should be a text")
        text = str(value)
        if len(text) > MAX_TEXT:
            raise BadRequest(f"{self.label} has {len(text)} characters; at most {MAX_TEXT} are taken: shorten it")
        return text


def read_arguments(arguments: Sequence[Argument], given: Mapping[str, Any]) -> dict[str, Any]:
    """Every argument by name; what is not given has its default. Raises BadRequest."""
    return {argument.name: argument.read(given.get(argument.name)) for argument in arguments}


def by_position(title: str, arguments: Sequence[Argument], given: Sequence[Any]) -> dict[str, Any]:
    """The API's positional arguments by name; missing ones at the end keep their defaults. Raises BadRequest."""
    if len(given) > len(arguments):
        raise BadRequest(f"{title} takes {len(arguments)} script_args; {len(given)} were sent: leave the last ones out")
    return read_arguments(arguments, {argument.name: value for argument, value in zip(arguments, given, strict=False)})
