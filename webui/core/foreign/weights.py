"""Other programs' ways to weigh words, written as A1111 writes them. Scanners by hand, linear, that take any text."""

from collections.abc import Iterable

Piece = tuple[str, float]  # text as the other program means it, weight
CURLY = 1.05  # NovelAI's factor of one {} or []
PLUS, MINUS = 1.1, 0.9  # compel's factors of one + and one -
MAX_DEPTH = 64
MAX_PROMPT = 100_000  # characters; what is longer is nobody's prompt, and taken without weights


def attention(pieces: Iterable[Piece]) -> str:
    """Prompt text with weights: `(text:1.1)`; brackets and backslashes of the text are escaped, so that they stay what they are."""
    merged: list[tuple[list[str], float]] = []
    for text, weight in pieces:
        weight = round(weight, 3)
        if merged and merged[-1][1] == weight:
            merged[-1][0].append(text)
        elif text:
            merged.append(([text], weight))
    return "".join(_weighted(escaped("".join(texts)), weight) for texts, weight in merged)


def escaped(text: str, characters: str = "\\()[]") -> str:
    """`text` with a backslash before each of `characters`."""
    return "".join(f"\\{char}" if char in characters else char for char in text)


def _weighted(text: str, weight: float) -> str:
    """Blanks at the ends stay outside of the brackets, where they weigh nothing."""
    inner = text.strip()
    if weight == 1 or not inner:
        return text
    start = text.index(inner)
    return f"{text[:start]}({inner}:{weight:g}){text[start + len(inner) :]}"


def novelai(prompt: str) -> str:
    """`{x}` weighs 1.05 times, `[x]` 1/1.05, `1.3::x::` 1.3 (from V4 on); brackets that never close are taken up to the end."""
    if len(prompt) > MAX_PROMPT:
        return attention([(prompt, 1.0)])
    pieces: list[Piece] = []
    powers, number, start, at = [0], 1.0, 0, 0

    def flush(end: int) -> None:
        pieces.append((prompt[start:end], number * CURLY ** powers[-1]))

    while at < len(prompt):
        if prompt[at] in "{[":
            flush(at)
            step = 1 if prompt[at] == "{" else -1
            powers.append(min(max(powers[-1] + step, -MAX_DEPTH), MAX_DEPTH))
        elif prompt[at] in "}]":
            flush(at)
            if len(powers) > 1:
                powers.pop()
        elif prompt.startswith("::", at):
            head, told = _number_before(prompt, start, at)
            flush(head)
            number = told
            at += 1
        else:
            at += 1
            continue
        at += 1
        start = at
    flush(at)
    return attention(pieces)


def _number_before(prompt: str, start: int, end: int) -> tuple[int, float]:
    """(where the number that ends at `end` begins, the number); (end, 1) where none does, which ends a weight."""
    begin = end
    while begin > start and end - begin < 8 and prompt[begin - 1] in "0123456789.-":
        begin -= 1
    try:
        return begin, float(prompt[begin:end])
    except ValueError:
        return end, 1.0


def compel(prompt: str) -> str:
    """InvokeAI's `(words)1.2`, `word++`, `(words)-`; brackets without a weight only group. Text in quotes stays as it is."""
    return attention(_compel_pieces(prompt, 0, 1.0, 0)[0] if len(prompt) <= MAX_PROMPT else [(prompt, 1.0)])


def _compel_pieces(text: str, at: int, weight: float, depth: int) -> tuple[list[Piece], int]:
    """The pieces up to the bracket that closes this level, and where that is."""
    pieces: list[Piece] = []
    word = at  # where the word that a + or - would weigh begins
    start = at

    def flush(end: int) -> None:
        if end > start:
            pieces.append((text[start:end], weight))

    while at < len(text):
        char = text[at]
        if char == "\\" and at + 1 < len(text):
            flush(at)
            start = at + 1
            at += 2
        elif char == ")" and depth:
            flush(at)
            return pieces, at
        elif char == "(" and depth < MAX_DEPTH:
            flush(at)
            inner, close = _compel_pieces(text, at + 1, 1.0, depth + 1)
            factor, at = _compel_weight(text, close + 1)
            pieces += [(piece, each * factor * weight) for piece, each in inner]
            start = word = at
        elif char in "+-" and at > word:
            end = _end_of_run(text, at)
            if end < len(text) and text[end] not in " ,.;:)\n\t":
                at = end  # well-known and up-to-date do not weigh anything
                continue
            flush(word)
            factor, after = _compel_weight(text, at)
            pieces.append((text[max(word, start) : at], weight * factor))
            start = at = word = after
        else:
            at += 1
            if char.isspace() or char == ",":
                word = at
    flush(at)
    return pieces, at


def _end_of_run(text: str, at: int) -> int:
    """Where the run of one sign ends that begins at `at`."""
    sign = text[at]
    while at < len(text) and text[at] == sign:
        at += 1
    return at


def _compel_weight(text: str, at: int) -> tuple[float, int]:
    """(factor, where it ends) of what stands behind a word or a bracket: signs, a number, or nothing."""
    end = at
    if text[at : at + 1] in ("+", "-"):
        end = _end_of_run(text, at)
        return float((PLUS if text[at] == "+" else MINUS) ** min(end - at, 20)), end
    while end < len(text) and text[end] in "0123456789.":
        end += 1
    number = text[at:end].rstrip(".")
    try:
        return float(number), at + len(number)
    except ValueError:
        return 1.0, at
