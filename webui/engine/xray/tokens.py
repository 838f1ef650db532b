"""A pass's prompt as the UNet is told it: the tokens with ids, chunks, weights and the lengths of their vectors; which maps show which."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from webui.core.prompt_schedule import Until, parse_prompt
from webui.engine.conditioning import Scheduled
from webui.engine.study import Asked
from webui.engine.text_encoding import CHUNK, Token, read_variants

WORD_END = "</w>"
ROW = CHUNK + 2  # tokens of a chunk with begin and end


@dataclass(frozen=True)
class Told:
    """One part of a prompt at one call. part: its place between the ANDs; states: (tokens, width), the chunks one after the other."""

    part: int
    weight: float
    text: str
    chunks: tuple[tuple[Token, ...], ...]
    states: Tensor

    def groups(self, tokens: int) -> Tensor:
        """(tokens, kept): each of the prompt's tokens by itself, then all beginnings together, then all ends with their padding.

        tokens: as many as the UNet is told, which may be more than this part has: what it was made longer by counts as padding.
        """
        own = [place for place, _ in self.places]
        groups = torch.zeros(tokens, len(own) + 2)
        groups[:, -1] = 1
        starts = list(range(0, len(self.chunks) * ROW, ROW))
        for column, places in ((-2, starts), *((i, [place]) for i, place in enumerate(own))):
            groups[places, -1] = 0
            groups[places, column] = 1
        return groups

    @property
    def places(self) -> list[tuple[int, Token]]:
        """Each token with its place among all that the UNet is told."""
        return [(chunk * ROW + 1 + i, token) for chunk, tokens in enumerate(self.chunks) for i, token in enumerate(tokens)]

    def to_json(self, tokenizer: Any) -> dict[str, Any]:
        """tokens: of the prompt, in order; words: which of them spell each; norm: the length of a vector."""
        norms = torch.linalg.vector_norm(self.states.float(), dim=1).tolist()
        tokens = [
            {
                "id": token.id,
                "text": _text(token, tokenizer),
                "chunk": place // ROW,
                "place": place % ROW,
                "weight": token.weight,
                "norm": norms[place],
            }
            for place, token in self.places
        ]
        return {
            "part": self.part,
            "weight": self.weight,
            "text": self.text,
            "chunks": len(self.chunks),
            "tokens": tokens,
            "words": _words([token for _, token in self.places], tokenizer),
            "norms": {"begin": norms[0], "end": norms[1 + len(self.chunks[0])]},
        }


def told_texts(asked: Asked, conds: Sequence[Scheduled]) -> list[list[tuple[int, Told]]]:
    """For each part of the prompt what it says up to which call, as `Scheduled.until` has it."""
    encoder, parts = asked.encoder, parse_prompt(asked.prompt, asked.calls, asked.first_pass, asked.encoder.old_timelines)
    return [_told(encoder, number, part.schedule, cond) for number, (part, cond) in enumerate(zip(parts, conds, strict=True))]


def _told(encoder: Any, number: int, schedule: Sequence[Until], cond: Scheduled) -> list[tuple[int, Told]]:
    variants, order = read_variants(
        encoder.model, [text for _, text in schedule], encoder.embeddings, encoder.emphasis, backtrack=encoder.backtrack
    )
    made = [
        Told(number, cond.weight, text, variants.chunks[place], conditioning.states)
        for (_, text), place, (_, conditioning) in zip(schedule, order, cond.until, strict=True)
    ]
    return [(until.call, told) for until, told in zip(schedule, made, strict=True)]


def _text(token: Token, tokenizer: Any) -> str:
    if token.embedding:
        return f"{token.embedding.name} [{token.row + 1}]"
    return str(tokenizer.convert_ids_to_tokens(token.id))


def _words(tokens: Sequence[Token], tokenizer: Any) -> list[dict[str, Any]]:
    """Runs of tokens that spell one word, and the vectors of one embedding."""
    words: list[dict[str, Any]] = []
    members: list[int] = []
    for i, token in enumerate(tokens):
        members.append(i)
        if token.embedding:
            if token.row + 1 == token.embedding.count:
                words.append({"text": token.embedding.name, "tokens": members})
                members = []
            continue
        if _text(token, tokenizer).endswith(WORD_END) or i + 1 == len(tokens):
            words.append({"text": tokenizer.decode([tokens[member].id for member in members]).strip(), "tokens": members})
            members = []
    return words
