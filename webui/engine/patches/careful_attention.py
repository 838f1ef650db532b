"""Attention in fp32, where 16 bits overflow, and for some of the pixels at a time, where memory is scarce."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

QUERIES = 512  # pixels that look at all others at once, where memory is scarce


@contextmanager
def careful_attention(unet: Any, *, upcast: bool = False, sliced: bool = False) -> Iterator[None]:
    """Within the block the UNet's attention works in fp32 (upcast), for QUERIES pixels at a time (sliced); its projections as before."""
    attentions = [part for name, part in unet.named_modules() if name.endswith((".attn1", ".attn2"))]
    before = [attention.processor for attention in attentions]
    try:
        for attention in attentions:
            attention.processor = CarefulAttention(upcast, QUERIES if sliced else None)
        yield
    finally:
        for attention, processor in zip(attentions, before, strict=True):
            attention.processor = processor


class CarefulAttention:
    """In the place of diffusers' AttnProcessor2_0, for the attention that UNets have: no mask, no norm of its own."""

    def __init__(self, upcast: bool, queries: int | None) -> None:
        self._upcast, self._queries = upcast, queries

    def __call__(self, attention: Any, hidden_states: Tensor, encoder_hidden_states: Tensor | None = None, **others: Any) -> Tensor:
        """hidden_states: (rows, pixels, channels); encoder_hidden_states: (rows, tokens, width), None for self-attention."""
        seen = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        query, key, value = (
            projected.unflatten(2, (attention.heads, -1)).transpose(1, 2)  # (rows, heads, pixels, channels of a head)
            for projected in (attention.to_q(hidden_states), attention.to_k(seen), attention.to_v(seen))
        )
        dtype = query.dtype
        if self._upcast:
            query, key, value = query.float(), key.float(), value.float()
        parts = query.split(self._queries or query.shape[2], dim=2)
        mixed = torch.cat([functional.scaled_dot_product_attention(part, key, value) for part in parts], dim=2)
        to_out, dropout = attention.to_out
        return dropout(to_out(mixed.transpose(1, 2).flatten(2).to(dtype)))
