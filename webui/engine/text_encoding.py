"""Prompt -> what the UNet attends to: 75-token chunks, attention weights, CLIP skip."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from webui.core.errors import BadRequest
from webui.core.prompt import BREAK, parse_attention
from webui.engine.model import DiffusionModel

CHUNK = 75  # tokens between begin and end
COMMA_BACKTRACK = 20  # a comma among the last so many tokens of a full chunk moves what follows into the next
CHUNKS_AT_ONCE = 16  # encoded in one call


@dataclass
class Chunk:
    """Up to CHUNK tokens, encoded by themselves: positions restart."""

    ids: list[int] = field(default_factory=list)
    weights: list[float] = field(default_factory=list)
    after_comma: int = 0  # how many tokens there are up to and with the last comma; 0: no comma


def encode_prompt(model: DiffusionModel, prompt: str, clip_skip: int) -> Tensor:
    """The text states of a prompt with attention syntax: (1, 77 * chunks, width), on the model's device.

    clip_skip: 1 = the last layer; counted as the field does, one more than diffusers.
    """
    chunks = split_into_chunks(parse_attention(prompt), model.tokenizer)
    parts = [_encode(model, chunks[start : start + CHUNKS_AT_ONCE], clip_skip) for start in range(0, len(chunks), CHUNKS_AT_ONCE)]
    states = torch.cat(parts).to(model.device)
    return states.reshape(1, -1, states.shape[-1])


def split_into_chunks(pieces: Sequence[tuple[str, float]], tokenizer: Any) -> list[Chunk]:
    """Tokens of all pieces in order, with their weights, in chunks of at most CHUNK; never none."""
    comma = tokenizer.convert_tokens_to_ids(",</w>")
    chunks = [Chunk()]
    all_ids = tokenizer([text for text, _ in pieces], truncation=False, add_special_tokens=False, verbose=False)["input_ids"]
    for piece, ids in zip(pieces, all_ids, strict=True):
        if piece == BREAK:
            chunks.append(Chunk())
            continue
        for token in ids:
            if len(chunks[-1].ids) == CHUNK:
                chunks.append(_overflow(chunks[-1], token == comma))
            chunks[-1].ids.append(token)
            chunks[-1].weights.append(piece[1])
            if token == comma:
                chunks[-1].after_comma = len(chunks[-1].ids)
    if len(chunks) > 1 and not chunks[-1].ids:
        chunks.pop()
    return chunks


def _overflow(full: Chunk, comma_follows: bool) -> Chunk:
    """The chunk after a full one; it takes the full one's words after its last comma along where that is near enough."""
    cut = full.after_comma
    if comma_follows or not cut or CHUNK - (cut - 1) > COMMA_BACKTRACK:
        return Chunk()
    moved = Chunk(full.ids[cut:], full.weights[cut:])
    del full.ids[cut:], full.weights[cut:]
    return moved


def _encode(model: DiffusionModel, chunks: Sequence[Chunk], clip_skip: int) -> Tensor:
    """(chunks, 77, width), weighted."""
    tokenizer, encoder = model.tokenizer, model.text_encoder
    begin, end, pad = tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id
    rows = [[begin, *chunk.ids, end, *[pad] * (CHUNK - len(chunk.ids))] for chunk in chunks]
    states = _hidden_states(encoder, torch.tensor(rows, device=encoder.device), clip_skip)
    weights = torch.tensor([[1.0, *chunk.weights, *[1.0] * (CHUNK + 1 - len(chunk.weights))] for chunk in chunks])
    if not bool((weights != 1.0).any()):
        return states
    return _emphasized(states, weights.to(states.device, states.dtype))


def _hidden_states(encoder: Any, ids: Tensor, clip_skip: int) -> Tensor:
    """(chunks, 77, width): the output of the clip_skip-th layer from the end, through the final layer norm, whichever layer it is."""
    if clip_skip == 1:
        return encoder(input_ids=ids).last_hidden_state
    layers = encoder.config.num_hidden_layers
    if clip_skip > layers:
        raise BadRequest(f"CLIP skip {clip_skip} is more than this checkpoint's text encoder has layers: use 1 to {layers}")
    states = encoder(input_ids=ids, output_hidden_states=True).hidden_states[-clip_skip]
    return encoder.final_layer_norm(states)


def _emphasized(states: Tensor, weights: Tensor) -> Tensor:
    """Each token's state times its weight, then each chunk scaled so that its mean over all tokens and channels is as before."""
    weighted = states * weights[:, :, None]
    return weighted * (states.mean(dim=(1, 2), keepdim=True) / weighted.mean(dim=(1, 2), keepdim=True))
