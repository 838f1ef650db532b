"""A module's layers computing with copies of their weights, on another device or in a wider number type; the weights stay as they are."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn


@contextmanager
def borrowed_weights(module: nn.Module, *, device: torch.device | None = None, dtype: torch.dtype | None = None) -> Iterator[None]:
    """Within the block each layer's weights, and what it is given, are brought to `device` and `dtype` for the length of its call alone.

    So the device holds one layer's weights at a time, and fp16 weights compute as fp32 ones. What changes the weights meanwhile (a LoRA)
    changes what is borrowed; nobody else sees a difference. Such blocks may lie within one another. Weights are reached by calls of the
    layers that own them, which is true of diffusers' UNets; not of what reads `layer.weight` by itself.
    """
    with ExitStack() as hooks:
        for layer in module.modules():
            if any(weight is not None for weight in layer._parameters.values()):
                _lend(layer, device, dtype, hooks)
        yield


def _lend(layer: nn.Module, device: torch.device | None, dtype: torch.dtype | None, hooks: ExitStack) -> None:
    own: dict[str, nn.Parameter | None] = {}

    def begin(layer: nn.Module, given: tuple[Any, ...]) -> tuple[Any, ...]:
        copies = {name: _brought(weight, device, dtype) for name, weight in layer._parameters.items()}
        own.update(layer._parameters)
        layer._parameters.update(copies)
        return tuple(_cast(value, dtype) for value in given)

    def end(layer: nn.Module, given: Any, answer: Any) -> None:
        layer._parameters.update(own)
        own.clear()

    hooks.callback(layer.register_forward_pre_hook(begin).remove)
    hooks.callback(layer.register_forward_hook(end, prepend=True, always_call=True).remove)  # of two lenders the later ends first


def _brought(weight: nn.Parameter | None, device: torch.device | None, dtype: torch.dtype | None) -> Any:
    return None if weight is None else weight.detach().to(device or weight.device, dtype or weight.dtype, non_blocking=True)


def _cast(value: Any, dtype: torch.dtype | None) -> Any:
    return value.to(dtype) if dtype and isinstance(value, Tensor) and value.is_floating_point() else value
