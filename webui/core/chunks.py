"""How the tokens of a prompt fall into the chunks that a text encoder reads one at a time. Behaviour of A1111 1.10."""

from collections.abc import Iterable, Sequence
from typing import Generic, NamedTuple, TypeVar

CHUNK = 75  # tokens between begin and end
COMMA_BACKTRACK = 20  # unless told: a comma among the last so many tokens of a full chunk moves what follows into the next
# Python's str.lower(), with which CLIP was trained, turns a Greek capital sigma at the end of a word into "ς".
FINAL_SIGMA = r"(?<=[\p{Lu}\p{Ll}\p{Lt}])Σ(?!['’.:·\p{Mn}\p{Cf}]*[\p{Lu}\p{Ll}\p{Lt}])"

T = TypeVar("T")


class Word(NamedTuple, Generic[T]):
    """What must not be parted: a token of the vocabulary, or all vectors of an embedding."""

    tokens: Sequence[T]
    is_comma: bool = False


def split_words(words: Iterable[Word[T] | None], backtrack: int = COMMA_BACKTRACK) -> list[list[T]]:
    """The tokens of all words in order, in chunks of at most CHUNK; never none. None, the word BREAK, ends a chunk.

    backtrack: 0 .. CHUNK - 1, how near to its end a full chunk is searched for a comma after which it is parted.
    """
    chunks: list[list[T]] = [[]]
    after_comma = 0  # how many tokens of the last chunk there are up to and with its last comma; 0: no comma
    for word in words:
        if word is None:
            chunks.append([])
            after_comma = 0
            continue
        if len(chunks[-1]) == CHUNK:
            chunks.append(_overflow(chunks[-1], after_comma, 0 if word.is_comma else backtrack))
            after_comma = 0
        if len(chunks[-1]) + len(word.tokens) > CHUNK:
            chunks.append([])
            after_comma = 0
        chunks[-1] += word.tokens
        if word.is_comma:
            after_comma = len(chunks[-1])
    if len(chunks) > 1 and not chunks[-1]:
        chunks.pop()
    return chunks


def _overflow(full: list[T], after_comma: int, backtrack: int) -> list[T]:
    """The chunk after a full one; it takes the full one's words after its last comma along where that is near enough."""
    if not after_comma or CHUNK - (after_comma - 1) > backtrack:
        return []
    moved = full[after_comma:]
    del full[after_comma:]
    return moved
