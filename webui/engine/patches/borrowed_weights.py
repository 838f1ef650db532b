"""A module's layers computing with copies of their weights, on another device or in a wider number type; the weights stay as they are."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

Copies = dict[str, Any]  # a layer's weights by name; None where it has none


@contextmanager
def borrowed_weights(module: nn.Module, *, device: torch.device | None = None, dtype: torch.dtype | None = None) -> Iterator[None]:
    """Within the block each layer's weights, and what it is given, are brought to `device` and `dtype` for the length of its call alone.

    So the device holds one layer's weights at a time, and those of the next one, which come while it works; and fp16 weights compute as
    fp32 ones. What changes the weights between two calls of `module` (a LoRA) changes what is borrowed; nobody else sees a difference.
    Such blocks may lie within one another. Weights are reached by calls of the layers that own them, which is true of diffusers' UNets;
    not of what reads `layer.weight` by itself.
    """
    bringer = _Bringer(device, dtype)
    with ExitStack() as hooks:
        hooks.callback(module.register_forward_pre_hook(lambda module, given: bringer.begin()).remove)
        for layer in module.modules():
            if any(weight is not None for weight in layer._parameters.values()):
                _lend(layer, bringer, dtype, hooks)
        yield


class _Bringer:
    """Brings the weights of one layer after another; to a device, those of the layer that came next the last time beforehand."""

    def __init__(self, device: torch.device | None, dtype: torch.dtype | None) -> None:
        self._device, self._dtype = device, dtype
        self._stream = torch.cuda.Stream(device) if device is not None and device.type == "cuda" else None  # beside the work
        self._next: dict[nn.Module, nn.Module] = {}  # a layer -> the one that was called after it
        self._last: nn.Module | None = None
        self._ahead: tuple[nn.Module, Copies] | None = None

    def begin(self) -> None:
        """A call of the whole module begins; weights may have changed since the last one."""
        if self._last is not None:
            self._next.pop(self._last, None)  # none came after it
        self._last = self._ahead = None

    def take(self, layer: nn.Module) -> Copies:
        """The weights with which `layer` is to work now."""
        copies = self._ahead[1] if self._ahead and self._ahead[0] is layer else self._bring(layer)
        self._await(copies)
        if self._last is not None:
            self._next[self._last] = layer
        self._last, following = layer, self._next.get(layer, layer)
        self._ahead = (following, self._bring(following)) if self._device is not None and following is not layer else None
        return copies

    def _bring(self, layer: nn.Module) -> Copies:
        with torch.cuda.stream(self._stream) if self._stream else nullcontext():
            return {name: _brought(weight, self._device, self._dtype) for name, weight in layer._parameters.items()}

    def _await(self, copies: Copies) -> None:
        """The device goes on when they are there, and keeps their memory until it has worked with them."""
        if self._stream is None:
            return
        working = torch.cuda.current_stream(self._device)
        working.wait_stream(self._stream)
        for copy in copies.values():
            if copy is not None:
                copy.record_stream(working)


def _lend(layer: nn.Module, bringer: _Bringer, dtype: torch.dtype | None, hooks: ExitStack) -> None:
    own: dict[str, nn.Parameter | None] = {}

    def begin(layer: nn.Module, given: tuple[Any, ...]) -> tuple[Any, ...]:
        copies = bringer.take(layer)
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
