"""Tiled diffusion: a UNet that sees a large picture in windows which overlap, at every step anew, and whose answers are averaged.

MultiDiffusion (Bar-Tal et al. 2023, arXiv:2302.08113, equation 7), with weights that fall towards the windows' edges. The UNet needs
memory for one window only, and works at a size that it was trained on; what holds windows together is that they share latents.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from webui.engine.grid import Box, boxes
from webui.engine.guidance import Context, Network


def tiled_network(make: Callable[[Box], Network], size: tuple[int, int], tile: int, overlap: int) -> Network:
    """A network for latents of `size` (height, width), of one for each window. tile, overlap: in latents.

    make: window (left, top, right, bottom) -> the network for it.
    """
    height, width = size
    windows = boxes((width, height), (tile, tile), min(overlap, tile // 2))
    networks = [make(window) for window in windows]
    weights = [_weight(right - left, bottom - top) for left, top, right, bottom in windows]
    total = torch.zeros(height, width)
    for (left, top, right, bottom), weight in zip(windows, weights, strict=True):
        total[top:bottom, left:right] += weight

    def network(x: Tensor, t: float, context: Context) -> Tensor:
        answer: Tensor | None = None
        for (left, top, right, bottom), weight, part in zip(windows, weights, networks, strict=True):
            seen = part(x[:, :, top:bottom, left:right], t, context)
            if answer is None:
                answer = torch.zeros(*seen.shape[:2], height, width, dtype=seen.dtype, device=seen.device)
            answer[:, :, top:bottom, left:right] += seen * weight.to(seen)
        assert answer is not None
        return answer / total.to(answer)

    return network


def _weight(width: int, height: int) -> Tensor:
    """(height, width): the distance from the nearest edges, 1 or more, so that no seam is left where a window ends."""
    across, down = (torch.minimum(torch.arange(side), torch.arange(side).flip(0)) + 1.0 for side in (width, height))
    return torch.outer(down, across)
