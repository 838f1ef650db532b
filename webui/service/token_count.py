"""How many tokens a prompt takes, as the text encoder will be given them: what the counters above the prompts show."""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from tokenizers import Regex, Tokenizer, normalizers, pre_tokenizers
from tokenizers.models import BPE

from webui.core.chunks import CHUNK, COMMA_BACKTRACK, FINAL_SIGMA, Word, split_words
from webui.core.networks import extract_networks
from webui.core.prompt import BREAK, pieces_of, without_comments
from webui.core.prompt_schedule import parse_prompt

VOCABULARY = Path(__file__).parents[1] / "engine" / "tokenizers" / "clip"
SPLIT = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"  # of CLIP's own tokenizer
SPECIAL = ["<|startoftext|>", "<|endoftext|>"]


@dataclass(frozen=True)
class Count:
    """used: tokens up to the end of the prompt, chunks that BREAK cuts short counted whole; room: those of the chunks that it takes."""

    used: int
    room: int


class TokenCounter:
    """Counts without torch; reads CLIP's vocabulary when it is first asked."""

    def __init__(self, vectors: Callable[[], Mapping[str, int]]):
        """vectors: name of each embedding -> how many places it takes."""
        self._vectors = vectors

    def count(self, prompt: str, steps: int, comments: bool = True, backtrack: int = COMMA_BACKTRACK) -> Count:
        """The largest of all texts that the prompt has on its way over `steps`, parts joined by AND included. Raises BadRequest.

        backtrack: see `core.chunks.split_words`.
        """
        prompt = prompt.encode("utf-8", "replace").decode("utf-8")  # halves of surrogate pairs, which JSON can bring, are no text
        text, _ = extract_networks(without_comments(prompt) if comments else prompt)
        texts = {until.text for part in parse_prompt(text, max(steps, 1)) for until in part.schedule}
        vectors = self._vectors()
        return max((self._of_text(each, vectors, backtrack) for each in texts), key=lambda count: (count.room, count.used))

    def _of_text(self, text: str, vectors: Mapping[str, int], backtrack: int) -> Count:
        chunks = split_words(self._words(text, self._names(text, vectors)), backtrack)
        return Count((len(chunks) - 1) * CHUNK + len(chunks[-1]), len(chunks) * CHUNK)

    def _words(self, text: str, names: Mapping[tuple[int, ...], int]) -> Iterator[Word[int] | None]:
        comma = self._tokenizer.token_to_id(",</w>")
        longest = sorted(names, key=len, reverse=True)
        for piece in pieces_of(text):
            if piece == BREAK:
                yield None
                continue
            ids, at = self._ids(piece[0]), 0
            while at < len(ids):
                name = next((name for name in longest if tuple(ids[at : at + len(name)]) == name), None)
                yield Word([ids[at]], ids[at] == comma) if name is None else Word([ids[at]] * names[name])
                at += len(name or (0,))

    def _names(self, text: str, vectors: Mapping[str, int]) -> dict[tuple[int, ...], int]:
        """The tokens of those embeddings' names that may stand in `text`, with how many places each takes."""
        said = "".join(text.casefold().split())
        found = {tuple(self._ids(name)): count for name, count in vectors.items() if "".join(name.casefold().split()) in said}
        return {ids: count for ids, count in found.items() if ids}

    def _ids(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    @cached_property
    def _tokenizer(self) -> Tokenizer:
        """The engine's tokenizer, made without transformers, whose import takes seconds; a test holds them together."""
        vocabulary = json.loads((VOCABULARY / "vocab.json").read_text("utf-8"))
        lines = (VOCABULARY / "merges.txt").read_text("utf-8").split("\n")
        merges = [(pair[0], pair[1]) for line in lines if not line.startswith("#version") and len(pair := line.split()) == 2]
        model = BPE(vocabulary, merges, continuing_subword_prefix="", end_of_word_suffix="</w>", unk_token=SPECIAL[1])
        tokenizer = Tokenizer(model)
        tokenizer.normalizer = normalizers.Sequence(
            [
                normalizers.NFC(),
                normalizers.Replace(Regex(r"\s+"), " "),
                normalizers.Replace(Regex(FINAL_SIGMA), "ς"),
                normalizers.Lowercase(),
            ]
        )
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Split(Regex(SPLIT), behavior="removed", invert=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
        )
        tokenizer.add_special_tokens(SPECIAL)
        return tokenizer
