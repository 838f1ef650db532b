"""Lines of "key: value, key: value": quoting, scanning, reading values. By hand and in one pass, so that no text can make it slow."""

import json
import math
from collections.abc import Container, Iterable, Iterator

MAX_KEY = 80  # characters


def joined(pairs: Iterable[tuple[str, str]]) -> str:
    """One line of "key: value" items, each value quoted where it must be."""
    return ", ".join(f"{key}: {_quoted(value)}" for key, value in pairs)


def _quoted(value: str) -> str:
    """`value` as it is, or as a JSON string where a reader would not find its end or its edges."""
    plain = not any(char in value for char in ",:\n") and value == value.strip() and value[:1] not in ('"', "[", "{")
    return value if plain and value else json.dumps(value, ensure_ascii=False)


def items(text: str) -> Iterator[tuple[str, str]]:
    """The "key: value" items of a line, in order. What has no colon or no sensible key before it is passed over.

    A value is a JSON string, a bracketed [..] or {..} whole, or what stands before the next comma. One pass: a bracket that never
    closes is looked for once.
    """
    at = 0
    closes = True  # whether brackets opened from here on may still close
    while (colon := text.find(":", at)) >= 0:
        at = max(at, text.rfind(",", at, colon) + 1)
        comma = text.find(",", colon)
        comma = len(text) if comma < 0 else comma
        key = text[at:colon].strip()
        if not _is_key(key):
            at = comma + 1
            continue
        start = _skip_blanks(text, colon + 1, comma)
        end = -1
        if text[start : start + 1] == '"':
            end = _string_end(text, start)
        elif text[start : start + 1] in ("[", "{") and closes:
            end = _bracket_end(text, start)
            closes = end >= 0
        stop = _skip_blanks(text, end, len(text)) if end >= 0 else comma
        if stop < len(text) and text[stop] != ",":  # something follows the closing quote: not a quoted value after all
            end, stop = -1, comma
        yield key, _unquoted(text[start : end if end >= 0 else comma].strip())
        at = stop + 1


def _is_key(key: str) -> bool:
    return 1 < len(key) <= MAX_KEY and (key[0].isalnum() or key[0] == "_") and all(char.isalnum() or char in "_ -/.()+&'" for char in key)


def _skip_blanks(text: str, at: int, end: int) -> int:
    while at < end and text[at] in " \t\r\n":
        at += 1
    return at


def _string_end(text: str, at: int) -> int:
    """Where the JSON string that begins at `at` is over, -1 if it is not."""
    at += 1
    while at < len(text) and text[at] != '"':
        at += 2 if text[at] == "\\" else 1
    return at + 1 if at < len(text) else -1


def _bracket_end(text: str, at: int) -> int:
    """Where the bracket that opens at `at` is closed again, strings passed over; -1 if it is not."""
    depth = 0
    while at < len(text):
        char = text[at]
        if char == '"':
            at = _string_end(text, at)
            if at < 0:
                return -1
            continue
        depth += (char in "[{") - (char in "]}")
        at += 1
        if depth == 0:
            return at
    return -1


def _unquoted(value: str) -> str:
    if value.startswith('"'):
        try:
            decoded = json.loads(value, strict=False)
        except (ValueError, RecursionError):
            return value
        return decoded if isinstance(decoded, str) else value
    return value


class Values:
    """Params being read: each is taken once; those that cannot be used leave a sentence in `problems`."""

    def __init__(self, params: dict[str, str]) -> None:
        self.told = frozenset(params)  # all keys, the taken ones too
        self._left = params
        self.problems: list[str] = []

    def text(self, key: str) -> str:
        """The value, "" if absent."""
        return self._left.pop(key, "")

    def number(self, key: str, absent: float, least: float, most: float) -> float:
        """The number in least .. most that the key names."""
        text = self.text(key)
        if not text:
            return absent
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not least <= value <= most:
            self.problems.append(f"{key} {short(text)} is not used: it should be a number from {least} to {most}")
            return absent
        return value

    def whole(self, key: str, absent: int, least: int, most: int) -> int:
        """The whole number in least .. most that the key names."""
        text = self.text(key)
        if not text:
            return absent
        if not is_digits(text.removeprefix("-")) or len(text) > 20 or not least <= int(text) <= most:
            self.problems.append(f"{key} {short(text)} is not used: it should be a whole number from {least} to {most}")
            return absent
        return int(text)

    def size(self, key: str, absent: tuple[int, int], most: int) -> tuple[int, int]:
        """The pair that was "key: WxH"; both or neither."""
        found = len(self.problems)
        pair = self.whole(f"{key}-1", absent[0], 0, most), self.whole(f"{key}-2", absent[1], 0, most)
        return absent if len(self.problems) > found else pair

    def choice(self, key: str, choices: tuple[str, ...], absent: str) -> str:
        """The one of `choices` that the key names."""
        text = self.text(key)
        if text and text not in choices:
            self.problems.append(f"{key} {short(text)} is not used: it should be one of {', '.join(choices)}")
        return text if text in choices else absent

    def left(self) -> list[str]:
        """The keys that were not taken yet."""
        return list(self._left)

    def unused(self, silent: Container[str]) -> list[str]:
        """A sentence for each key that nobody asked for and that is not among `silent`."""
        left = [(key, value) for key, value in self._left.items() if key not in silent]
        return [f"{short(key)}: {short(value)} is not used: Easel does not know it" for key, value in left[:20]]


def written(value: float) -> str:
    """As short as can be without loss: 7.0 is "7"."""
    return str(int(value)) if value == int(value) else repr(float(value))


def short(text: str) -> str:
    """`text`, cut to what fits into a sentence."""
    return text if len(text) <= 60 else text[:60] + "..."


def is_digits(text: str) -> bool:
    """Whether `text` is a whole number without a sign."""
    return text.isascii() and text.isdigit()
