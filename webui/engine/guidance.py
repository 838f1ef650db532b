"""Classifier-free guidance (arXiv:2207.12598): what the network answers with the prompt, pushed away from its answer without."""

from collections.abc import Callable

import torch
from torch import Tensor

Network = Callable[[Tensor, float, Tensor], Tensor]
"""(x, t, context) -> output. x: (batch, 4, h, w) of unit variance; t: timestep; context: (batch, tokens, width)."""
Predict = Callable[[Tensor, float, int], Tensor]
"""(x, t, call) -> guided output."""


def guided(network: Network, cond: Tensor, uncond: Tensor, cfg_scale: float, batch: int) -> Predict:
    """uncond + cfg_scale * (cond - uncond), for `batch` latents at once.

    cond, uncond: (1, tokens, width). Both run at every scale, 1 too, as the field does. Prompts of as many tokens share one call;
    others take a call each, since padding would change the picture.
    """
    conds, unconds = (context.expand(batch, -1, -1) for context in (cond, uncond))
    both = torch.cat([conds, unconds]) if cond.shape == uncond.shape else None

    def predict(x: Tensor, t: float, call: int) -> Tensor:
        if both is None:
            with_prompt, without = network(x, t, conds), network(x, t, unconds)
        else:
            with_prompt, without = network(torch.cat([x, x]), t, both).chunk(2)
        return torch.add(without, with_prompt - without, alpha=cfg_scale)

    return predict
