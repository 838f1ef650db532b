r"""Attention syntax of prompts -> plain data: which piece of text has which weight.

(x) is 1.1, [x] is 1/1.1, (x:1.2) is 1.2, nested ones multiply; \( \) \[ \] \\ are the plain characters; BREAK ends a 75-token chunk.
Behaviour of A1111 1.10: brackets that are never closed close at the end, closing ones that were never opened are text.
"""

from webui.core.errors import BadRequest

BREAK = ("BREAK", -1.0)  # the item that stands for the word BREAK
MAX_DEPTH = 64  # brackets open at once
MAX_WEIGHT = 10_000.0
ROUND = 1.1
SQUARE = 1 / 1.1
SPECIAL = frozenset("\\()[]:")
EMPHASIS = ("Original", "No norm", "Ignore", "None")  # what weights do: see `pieces_of`, and `text_encoding` for the first two


def without_comments(text: str) -> str:
    """`text` without what follows a # up to the end of its line; lines that are nothing but a comment go whole."""
    if "#" not in text:
        return text
    lines = [line.partition("#") for line in text.split("\n")]
    return "\n".join(kept for kept, mark, _ in lines if kept or not mark)


def pieces_of(text: str, emphasis: str = "Original") -> list[tuple[str, float]]:
    """`parse_attention` of `text`. emphasis "Ignore": as if no weight were there; "None": brackets, colons and BREAK are text."""
    if emphasis == "None":
        return [(text, 1.0)]
    pieces = parse_attention(text)
    return [piece if piece == BREAK else (piece[0], 1.0) for piece in pieces] if emphasis == "Ignore" else pieces


def parse_attention(text: str) -> list[tuple[str, float]]:
    r"""The pieces of `text` in order, each with its weight (1.0: neutral); neighbours differ in weight; BREAK items stand alone.

    'a (red:1.2) [cat]' -> [('a ', 1.0), ('red', 1.2), (' ', 1.0), ('cat', 0.909...)]; '' -> [('', 1.0)].
    BREAK within brackets is a plain word with a negative weight, as in A1111. Raises BadRequest for brackets nested deeper than
    MAX_DEPTH and for weights beyond MAX_WEIGHT. Time is linear in the length.
    """
    pieces: list[tuple[str, float]] = []
    opened: dict[str, list[int]] = {"(": [], "[": []}  # indices into pieces where brackets were opened
    at = 0
    while at < len(text):
        char = text[at]
        if char not in SPECIAL:
            end = _plain_end(text, at)
            _add_plain(pieces, text[at:end])
            at = end
        elif char == "\\":
            escaped = text[at + 1 : at + 2]
            at += 2 if escaped and escaped in "\\()[]" else 1
            pieces.append((escaped if escaped and escaped in "\\()[]" else "", 1.0))
        elif char in "([":
            check_depth(len(opened["("]) + len(opened["["]))
            opened[char].append(len(pieces))
            at += 1
        else:
            at = _close(pieces, opened, text, at)
    for bracket, factor in (("(", ROUND), ("[", SQUARE)):
        for start in opened[bracket]:
            _multiply(pieces, start, factor)
    return _merged(pieces)


def _plain_end(text: str, at: int) -> int:
    while at < len(text) and text[at] not in SPECIAL:
        at += 1
    return at


def _add_plain(pieces: list[tuple[str, float]], text: str) -> None:
    """Append `text`; the word BREAK, with the white space around it, becomes an item of its own."""
    start = at = 0
    while (at := text.find("BREAK", at)) >= 0:
        end = at + 5
        if (at > 0 and _is_word(text[at - 1])) or (end < len(text) and _is_word(text[end])):
            at = end
            continue
        pieces.append((text[start:at].rstrip(), 1.0))
        pieces.append(BREAK)
        while end < len(text) and text[end].isspace():
            end += 1
        start = at = end
    pieces.append((text[start:], 1.0))


def _is_word(char: str) -> bool:
    return char.isalnum() or char == "_"


def check_depth(depth: int) -> None:
    if depth >= MAX_DEPTH:
        raise BadRequest(f"the prompt opens more than {MAX_DEPTH} brackets within each other; write \\( or \\[ for a bracket that is text")


def _close(pieces: list[tuple[str, float]], opened: dict[str, list[int]], text: str, at: int) -> int:
    """Handle the ':', ')' or ']' at `at`; return where to go on."""
    char = text[at]
    if char == ":":
        end, weight = _read_weight(text, at)
        if weight is None or not opened["("]:
            pieces.append((text[at:end], 1.0))
        else:
            _multiply(pieces, opened["("].pop(), weight)
        return end
    bracket, factor = ("(", ROUND) if char == ")" else ("[", SQUARE)
    if opened[bracket]:
        _multiply(pieces, opened[bracket].pop(), factor)
    else:
        pieces.append((char, 1.0))
    return at + 1


def _read_weight(text: str, at: int) -> tuple[int, float | None]:
    """The end and the number of the ':1.2)' at `at`; (at + 1, None) where there is only a colon."""
    start = at + 1
    while start < len(text) and text[start].isspace():
        start += 1
    end = start + (text[start : start + 1] in ("+", "-"))
    while end < len(text) and (text[end] == "." or text[end].isdecimal()):
        end += 1
    close = end
    while close < len(text) and text[close].isspace():
        close += 1
    try:
        weight = float(text[start:end])
    except ValueError:
        return at + 1, None
    return (close + 1, weight) if text[close : close + 1] == ")" else (at + 1, None)


def _multiply(pieces: list[tuple[str, float]], start: int, factor: float) -> None:
    for i in range(start, len(pieces)):
        piece, weight = pieces[i]
        pieces[i] = (piece, weight * factor)


def _merged(pieces: list[tuple[str, float]]) -> list[tuple[str, float]]:
    """`pieces` with runs of one weight joined. Raises BadRequest for weights that would drown everything else."""
    runs: list[tuple[list[str], float]] = []
    for piece, weight in pieces:
        if not abs(weight) <= MAX_WEIGHT:
            raise BadRequest(f"the prompt gives {piece[:40]!r} a weight of {weight:g}; use at most {MAX_WEIGHT:g}")
        if runs and runs[-1][1] == weight:
            runs[-1][0].append(piece)
        else:
            runs.append(([piece], weight))
    return [("".join(parts), weight) for parts, weight in runs] or [("", 1.0)]
