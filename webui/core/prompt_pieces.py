"""A prompt taken apart: what can be left out of it, and the prompt without each piece."""

import re
from typing import NamedTuple

from webui.core.networks import extract_networks

PIECES = ("parts", "words")
MAX_PIECES = 40
SEPARATOR = re.compile(r"[,\n]|\bAND\b|\bBREAK\b")
WORD = re.compile(r"[^\W\d_][\w'’-]*")
KEYWORDS = ("AND", "BREAK")
OPENING, CLOSING = "([{<", ")]}>"


class Piece(NamedTuple):
    """`text` of a prompt, and `without`, the prompt without it."""

    text: str
    without: str


def pieces(prompt: str, by: str) -> list[Piece]:
    """What a prompt consists of: by "parts", what commas, lines, AND and BREAK outside of brackets part; by "words", each word.

    Tags of networks are no pieces; they stand at the end of every `without`.
    """
    text, uses = extract_networks(prompt)
    tags = "".join(use.tag for use in uses)
    spans = _parts(text) if by == PIECES[0] else _words(text)
    return [Piece(text[start:end].strip(), (text[:cut] + text[on:]).strip() + tags) for start, end, cut, on in spans]


def _parts(text: str) -> list[tuple[int, int, int, int]]:
    """(start, end) of each part, and from where to where the prompt is cut to leave it out: with the separator after it, or with that
    before it where that is a comma and the one after it a keyword or none."""
    marks = [match for match in SEPARATOR.finditer(text) if not _depth(text, match.start())]
    starts = [0, *(match.end() for match in marks)]
    ends = [*(match.start() for match in marks), len(text)]
    spans = []
    for i, (start, end) in enumerate(zip(starts, ends, strict=True)):
        if text[start:end].strip():
            before, after = marks[i - 1].group() if i else "", marks[i].group() if i < len(marks) else ""
            backwards = not after or (after in KEYWORDS and bool(before) and before not in KEYWORDS)
            on = len(text[:end].rstrip()) if backwards else starts[i + 1]  # a keyword keeps the space before it
            spans.append((start, end, ends[i - 1] if backwards and i else start, on))
    return spans


def _words(text: str) -> list[tuple[int, int, int, int]]:
    found = [match for match in WORD.finditer(text) if match.group() not in KEYWORDS]
    return [(match.start(), match.end(), match.start(), match.end()) for match in found]


def _depth(text: str, at: int) -> int:
    """How many brackets are open at a place."""
    before = re.sub(r"\\.", "", text[:at])
    return max(0, sum(map(before.count, OPENING)) - sum(map(before.count, CLOSING)))
