"""Classifier-free guidance (arXiv:2207.12598): what the network answers with the prompt, pushed away from its answer without."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from webui.engine.text_encoding import Conditioning


@dataclass(frozen=True)
class Context:
    """What the network is told about each of its latents, a row for each: states (batch, tokens, width), and for SDXL pooled (batch, width)
    and sizes (batch, 5 or 6)."""

    states: Tensor
    pooled: Tensor | None = None
    sizes: Tensor | None = None


Network = Callable[[Tensor, float, Context], Tensor]
"""(x, t, context) -> output. x: (batch, 4, h, w) of unit variance; t: timestep."""
Predict = Callable[[Tensor, float, int], Tensor]
"""(x, t, call) -> guided output."""


def guided(network: Network, cond: Conditioning, uncond: Conditioning, cfg_scale: float, batch: int, unguided_too: bool = False) -> Predict:
    """uncond + cfg_scale * (cond - uncond), for `batch` latents at once; unguided_too: stacked with uncond, (2, batch, 4, h, w).

    Both run at every scale, 1 too, as the field does. Prompts of as many tokens share one call; others take a call each, since padding
    would change the picture.
    """
    together = cond.states.shape == uncond.states.shape
    calls = [_context([cond, uncond], batch)] if together else [_context([cond], batch), _context([uncond], batch)]

    def predict(x: Tensor, t: float, call: int) -> Tensor:
        if together:
            with_prompt, without = network(torch.cat([x, x]), t, calls[0]).chunk(2)
        else:
            with_prompt, without = (network(x, t, context) for context in calls)
        guided = torch.add(without, with_prompt - without, alpha=cfg_scale)
        return torch.stack([guided, without]) if unguided_too else guided

    return predict


def _context(conds: Sequence[Conditioning], batch: int) -> Context:
    """`batch` rows for the first prompt, then as many for the next."""

    def rows(parts: Sequence[Tensor | None]) -> Tensor | None:
        return None if parts[0] is None else torch.cat([part.expand(batch, *part.shape) for part in parts])

    return Context(rows([c.states for c in conds]), rows([c.pooled for c in conds]), rows([c.sizes for c in conds]))
