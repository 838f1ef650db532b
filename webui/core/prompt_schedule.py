r"""Prompts that change while a picture is made -> plain data: which text each part of a prompt has at which network call.

[a:b:when] is a, then b; [a:when] nothing, then a; [a::when] a, then nothing; [a|b|c] changes with every call, and an option may be
empty. They nest. AND joins parts with an encoding of their own, each with a weight (`:1.2` or `:-0.5` at its end).
Behaviour of A1111 1.10: `when` with a point is a share of all calls, without one a number of calls. Brackets that do not close, and what
is none of these forms, stay text, and with them all that stands around them; a `|` outside of [a|b] keeps the whole prompt as it is.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from webui.core.errors import BadRequest
from webui.core.prompt import MAX_WEIGHT, check_depth

MAX_PARTS = 32  # joined by AND: each is a row for the UNet
MAX_SPELLED_OUT = 3_000_000  # characters of one part's texts of all calls
MAX_DISTINCT = 500_000  # characters of those among them that differ: each takes memory, encoded
MARKS = frozenset("()[]:|")
CLOSES = {")": "(", "]": "["}
NUMBER = re.compile(r"\s*+[+-]?(?:[0-9]++(?:\.[0-9]*+)?|\.[0-9]++)(?:[eE][+-]?[0-9]++)?\s*+")
WEIGHT = re.compile(r"[+-]?(?:\d++(?:\.\d*+)?|\.\d++)")


class Until(NamedTuple):
    """`text` is used up to and with network call `call`, counted from 0, where no earlier entry is."""

    call: int
    text: str


@dataclass(frozen=True)
class PromptPart:
    """What stands between two ANDs. schedule: by rising call, the last one that of all calls."""

    schedule: tuple[Until, ...]
    weight: float = 1.0


def parse_prompt(text: str, calls: int, first_pass: int | None = None, old: bool = False) -> tuple[PromptPart, ...]:
    """The parts of a prompt; negative prompts have one part only, which is `parse_schedule`'s.

    calls: the network's calls of a full run, steps times the sampler's calls per step. first_pass: for the second pass of hires fix, the
    calls of the first: it takes the numbers below that, and shares below 1. old: numbers below 1 are shares, the others are not, and both
    passes go by the calls of the first.
    Raises BadRequest for more than MAX_PARTS parts, weights beyond MAX_WEIGHT, and as `parse_schedule`. Time is linear in the length.
    """
    pieces = re.split(r"\bAND\b", text)
    if len(pieces) > MAX_PARTS:
        raise BadRequest(f"the prompt joins {len(pieces)} parts with AND; use at most {MAX_PARTS}")
    return tuple(PromptPart(parse_schedule(piece, calls, first_pass, old), weight) for piece, weight in map(_weighted, pieces))


def parse_schedule(text: str, calls: int, first_pass: int | None = None, old: bool = False) -> tuple[Until, ...]:
    """The texts of a prompt without AND, in order; two in a row may be the same. The rest as for `parse_prompt`.

    Raises BadRequest for brackets that are nested too deeply, and for texts that are too long for so many changes.
    """
    calls = first_pass if old and first_pass is not None else calls
    cell = _Reader(text).read()
    if cell is None or all(isinstance(piece, str) for piece in cell):
        return (Until(calls, text),)
    clock = _Clock(calls, 0, 0.0, old) if first_pass is None or old else _Clock(calls, first_pass, 1.0, old)
    ends = sorted({calls, *_changes(cell, clock)})
    if len(ends) * len(text) > MAX_SPELLED_OUT:
        raise _too_long(text, ends)
    texts = [_spelled(cell, end, clock) for end in ends]
    if sum(map(len, set(texts))) > MAX_DISTINCT:
        raise _too_long(text, ends)
    return tuple(map(Until, ends, texts))


def _too_long(text: str, ends: Sequence[int]) -> BadRequest:
    return BadRequest(
        f"the prompt has {len(text)} characters and changes {len(ends)} times, which is too much to encode; "
        "shorten it, or change it at fewer steps"
    )


@dataclass(frozen=True)
class _Change:
    """[before:after:when]; before None: [after:when]"""

    before: "_Cell | None"
    after: "_Cell"
    when: str

    def as_text(self) -> "_Cell":
        return ["[", *([] if self.before is None else [*self.before, ":"]), *self.after, ":", self.when, "]"]


@dataclass(frozen=True)
class _Alternation:
    """[a|b|c]"""

    options: list["_Cell"]


_Piece = str | _Change | _Alternation | list["_Piece"]
_Cell = list[_Piece]


@dataclass
class _Frame:
    """An open bracket: what came since, in cells with a ":" or "|" between each two."""

    bracket: str
    cells: list[_Cell]
    marks: list[str]

    def as_text(self) -> Iterator[_Piece]:
        """What it is if it is nothing but text with more elaborate pieces in it."""
        for mark, cell in zip([self.bracket, *self.marks], self.cells, strict=True):
            yield mark
            yield from cell

    def closed(self) -> _Piece | None:
        """What the bracket and its closing one mean; None: they are text."""
        marks = "".join(self.marks)
        if self.bracket == "(":
            return [*self.as_text(), ")"] if marks in ("", ":") else None
        if not marks:
            return [*self.as_text(), "]"]
        if marks == "|" * len(marks):
            return _Alternation(self.cells)
        if marks in (":", "::"):
            when = "".join(piece if isinstance(piece, str) else "x" for piece in self.cells[-1])
            return _Change(self.cells[0] if len(self.cells) == 3 else None, self.cells[-2], when) if NUMBER.fullmatch(when) else None
        return None


class _Reader:
    """One pass over a text. A group holds complete groups only: what breaks one breaks all that are open around it."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._done: _Cell = []
        self._open: list[_Frame] = []
        self._literal = False  # the whole text stands for itself

    def read(self) -> _Cell | None:
        """The text's pieces; None where there is nothing in it but text."""
        at = 0
        while at < len(self._text):
            if self._text[at] in MARKS:
                self._mark(self._text[at])
                at += 1
            else:
                end = self._plain_end(at)
                self._cell.append(self._text[at:end])
                at = end
        self._break()
        return None if self._literal else _without_crowded(self._done)

    @property
    def _cell(self) -> _Cell:
        return self._open[-1].cells[-1] if self._open else self._done

    def _plain_end(self, at: int) -> int:
        text = self._text
        while at < len(text) and text[at] not in MARKS:
            if text[at] == "\\":
                self._literal |= text[at + 1 : at + 2] in ("", "\n")
                at += 1
            at += 1
        return min(at, len(text))

    def _mark(self, mark: str) -> None:
        if mark in "([":
            check_depth(len(self._open))
            self._open.append(_Frame(mark, [[]], []))
        elif mark in CLOSES:
            self._close(mark)
        elif self._open:
            self._open[-1].marks.append(mark)
            self._open[-1].cells.append([])
        else:
            self._literal |= mark == "|"
            self._done.append(mark)

    def _close(self, mark: str) -> None:
        group = self._open[-1].closed() if self._open and self._open[-1].bracket == CLOSES[mark] else None
        if group is None:
            self._break()
            self._done.append(mark)
        else:
            self._open.pop()
            self._cell.append(group)

    def _break(self) -> None:
        """All that is open is text."""
        for frame in self._open:
            self._literal |= "|" in frame.marks
            self._done += frame.as_text()
        self._open.clear()


def _without_crowded(cell: _Cell) -> _Cell:
    """`cell`, the whole prompt; changes right before an even number of loose brackets and colons are text, as the field's parser has it.

    A group that is no more than text counts as loose brackets where another one stands right behind it.
    """
    left = cell.copy()  # to look at, the next one last
    done: _Cell = []  # from behind
    loose = 0  # brackets and colons right behind
    while left:
        piece = left.pop()
        if isinstance(piece, list) and loose >= 1:
            left += piece
        elif isinstance(piece, _Change) and loose and loose % 2 == 0:
            left += piece.as_text()
        else:
            loose = loose + 1 if isinstance(piece, str) and piece in MARKS else 0
            done.append(piece)
    return done[::-1]


@dataclass(frozen=True)
class _Clock:
    """calls: of this run; number, share: what lies before it; old: see `parse_prompt`."""

    calls: int
    number: int
    share: float
    old: bool

    def call(self, when: str) -> int:
        """The last call, counted from 1, before what changes at `when`; 0: it has changed from the first on."""
        value = float(when)
        shared = value < 1 if self.old else "." in when
        value = (value - self.share) * self.calls if shared else value - self.number
        return int(max(0.0, min(value, float(self.calls))))


def _changes(cell: Sequence[_Piece], clock: _Clock) -> Iterator[int]:
    """The calls, counted from 1, after which a piece of `cell` changes."""
    for piece in cell:
        if isinstance(piece, list):
            yield from _changes(piece, clock)
        elif isinstance(piece, _Alternation):
            yield from range(1, clock.calls + 1)
            return
        elif isinstance(piece, _Change):
            call = clock.call(piece.when)
            if call:
                yield call
            yield from _changes(piece.before or (), clock)
            yield from _changes(piece.after, clock)


def _spelled(cell: Sequence[_Piece], call: int, clock: _Clock) -> str:
    """The text of `cell` at `call`, counted from 1."""
    pieces: list[str] = []
    _spell(cell, call, clock, pieces)
    return "".join(pieces)


def _spell(cell: Sequence[_Piece], call: int, clock: _Clock, into: list[str]) -> None:
    for piece in cell:
        if isinstance(piece, str):
            into.append(piece)
            continue
        if isinstance(piece, _Change):
            piece = piece.before or [] if call <= clock.call(piece.when) else piece.after
        elif isinstance(piece, _Alternation):
            piece = piece.options[(call - 1) % len(piece.options)]
        _spell(piece, call, clock, into)


def _weighted(part: str) -> tuple[str, float]:
    """A part without the `:1.2` at its end, and the number."""
    text, colon, end = part.rpartition(":")
    number = WEIGHT.fullmatch(end.strip())
    if not colon or number is None:
        return part.rstrip(), 1.0
    weight = float(number[0])
    if not abs(weight) <= MAX_WEIGHT:
        raise BadRequest(f"the prompt gives {text.strip()[:40]!r} a weight of {weight:g}; use at most {MAX_WEIGHT:g}")
    return text.rstrip(), weight
