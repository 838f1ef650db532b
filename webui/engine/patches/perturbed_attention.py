"""Perturbed attention: self-attention of the UNet's middle in which each pixel sees itself alone (Ahn et al. 2024, arXiv:2403.17377).

What the UNet answers so has lost its sense for form; guidance pushes pictures away from it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from torch import Tensor

from webui.engine.patches.forwards import replaced_forwards


@contextmanager
def perturbed_attention(unet: Any) -> Iterator[None]:
    """Within the block the middle's self-attention gives every pixel its own value."""
    layers = [part.attn1 for part in unet.mid_block.modules() if hasattr(part, "attn1")] if unet.mid_block is not None else []
    with replaced_forwards([(layer, partial(_own_values, layer)) for layer in layers]):
        yield


def _own_values(layer: Any, hidden_states: Tensor, *others: Any, **named: Any) -> Tensor:
    values = layer.to_v(hidden_states)
    for part in layer.to_out:  # the projection, and dropout that does nothing here
        values = part(values)
    return values
