r"""Prompts that leave something to chance: {a|b} takes one, {2$$a|b|c} two of them, {1-2$$ and $$a|b|c} one or two joined by " and ",
__name__ a line of a wildcard file. They nest, and lines of files may hold more of them.

A backslash before a brace, bar or underscore makes it text (and stays). Braces without a `|` or `$$` are text, as they are in prompts
that were written for programs without this; a `|` within square brackets is that of [a|b].
"""

import random
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from webui.core.errors import BadRequest

MAX_NESTED = 32  # groups in groups, and wildcards in the lines of wildcards
MAX_LENGTH = 100_000  # characters of a finished prompt
MAX_TAKEN = 10_000  # options and lines in one prompt
TOKEN = re.compile(r"\\.|[{}|\[\]]|__(?:[^\W_]|[-/.*]|_(?!_))+__", re.DOTALL)
COUNT = re.compile(r"\s*+(\d{0,4})(-?)(\d{0,4})\$\$(?:([^$]*+)\$\$)?")

Lines = Callable[[str], Sequence[str]]
"""A wildcard's name, with * for any characters -> the lines it may become. Raises BadRequest where there are none."""


def resolve(prompt: str, chance: random.Random, lines: Lines) -> str:
    """`prompt` with everything decided. The same `chance` decides the same. What is decided stays so: resolving it again changes nothing.

    Raises BadRequest for wildcards without a file, and where groups or files go round in circles or make too long a prompt.
    """
    return _Resolver(chance, lines).text(prompt) if "{" in prompt or "__" in prompt else prompt


def leaves_to_chance(prompt: str) -> bool:
    """Whether `resolve` would not leave the prompt as it is."""
    try:
        return any(isinstance(item, _Choice | _Wildcard) for item in parse(prompt))
    except BadRequest:
        return True


def literal(prompt: str) -> str:
    """The template of a prompt that was not ours to decide: itself, where chance would have a say; "" where it needs none."""
    return prompt if leaves_to_chance(prompt) else ""


@dataclass(frozen=True)
class _Wildcard:
    name: str


@dataclass(frozen=True)
class _Choice:
    """{least-most$$joiner$$a|b|c}"""

    options: list["_Items"]
    least: int
    most: int
    joiner: str


@dataclass(frozen=True)
class _Bar:
    """A | and how many square brackets were open there."""

    depth: int


_Items = list[str | _Wildcard | _Choice | _Bar]


def parse(text: str) -> _Items:
    """The text's pieces; bars that part nothing are text. Time is linear in the length."""
    groups: list[tuple[_Items, int]] = []  # what stands before each open brace, and the square brackets open there
    items: _Items = []
    depth = at = 0
    for token in TOKEN.finditer(text):
        if token.start() > at:
            items.append(text[at : token.start()])
        at, mark = token.end(), token[0]
        if mark == "{":
            if len(groups) == MAX_NESTED:
                raise BadRequest(f"the prompt opens more than {MAX_NESTED} braces within each other; write \\{{ for a brace that is text")
            groups.append((items, depth))
            items, depth = [], 0
        elif mark == "}" and groups:
            group = _closed(items, depth)
            items, depth = groups.pop()
            items += group
        elif mark == "|":
            items.append(_Bar(depth))
        else:
            depth = max(0, depth + {"[": 1, "]": -1}.get(mark, 0))
            items.append(_Wildcard(mark[2:-2]) if mark.startswith("__") else mark)
    items.append(text[at:])
    for before, _ in reversed(groups):  # braces that are never closed
        items = [*before, "{", *items]
    return items


def _closed(items: _Items, depth: int) -> _Items:
    """What a group stands for. depth: square brackets that are open at its end, which makes them text."""
    options: list[_Items] = [[]]
    for item in items:
        if isinstance(item, _Bar) and (item.depth == 0 or depth):
            options.append([])
        else:
            options[-1].append(item)
    count = COUNT.match(options[0][0]) if options[0] and isinstance(options[0][0], str) else None
    if count is None:
        return [_Choice(options, 1, 1, "")] if len(options) > 1 else ["{", *items, "}"]
    options[0][0] = options[0][0][count.end() :] if isinstance(options[0][0], str) else ""
    low, dash, high, joiner = count.groups()
    least = int(low or 0) if low or dash else 1
    most = int(high or len(options)) if dash else least
    return [_Choice(options, min(least, most), max(least, most), ", " if joiner is None else joiner)]


class _Resolver:
    def __init__(self, chance: random.Random, lines: Lines) -> None:
        self._chance, self._lines = chance, lines
        self._known: dict[str, Sequence[str]] = {}
        self._taken = self._length = 0

    def text(self, prompt: str, depth: int = 0) -> str:
        if depth > MAX_NESTED:
            raise BadRequest("wildcards call each other in a circle, or more than 32 deep: look into the files that the prompt names")
        return "".join(self._spelled(parse(prompt), depth))

    def _spelled(self, items: _Items, depth: int) -> Iterator[str]:
        for item in items:
            if isinstance(item, _Choice):
                for place, option in enumerate(self._some(item)):
                    yield self._measured(item.joiner if place else "")
                    yield from self._spelled(option, depth)
            elif isinstance(item, _Wildcard):
                yield self.text(self._one(item.name), depth + 1)
            else:
                yield self._measured("|" if isinstance(item, _Bar) else item)

    def _measured(self, text: str) -> str:
        self._length += len(text)
        if self._length > MAX_LENGTH:
            raise BadRequest(f"with its wildcards the prompt would have more than {MAX_LENGTH} characters; use fewer or shorter ones")
        return text

    def _some(self, choice: _Choice) -> list[_Items]:
        """As many options as are asked for, or as there are, in an order that chance decides."""
        count = min(choice.least + self._below(choice.most - choice.least + 1), len(choice.options))
        left = list(choice.options)
        return [left.pop(self._below(len(left))) for _ in range(count)]

    def _one(self, name: str) -> str:
        """A line of a wildcard, whose files are read once for a prompt."""
        if name not in self._known:
            self._known[name] = self._lines(name)
        return self._known[name][self._below(len(self._known[name]))]

    def _below(self, end: int) -> int:
        self._taken += 1
        if self._taken > MAX_TAKEN:
            raise BadRequest(
                f"the prompt leaves more than {MAX_TAKEN} things to chance; use fewer, or look for wildcards that call themselves"
            )
        return int(self._chance.random() * end)  # of Random's methods the one whose numbers never change between versions
