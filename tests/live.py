"""Counts the bytes of tensors that are alive at once: the same number in every run, which no process's memory is."""

import weakref
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class LiveTensors(TorchDispatchMode):
    """`with LiveTensors() as live: ...; live.peak` is the most bytes that tensors made within the block held at once.

    Memory that several tensors share is counted once; what an operation needs within itself is not seen.
    """

    def __init__(self) -> None:
        super().__init__()
        self.peak = 0
        self._tensors: dict[int, weakref.ref[torch.Tensor]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        inputs = {tensor.untyped_storage().data_ptr() for tensor in tree_leaves((args, kwargs)) if isinstance(tensor, torch.Tensor)}
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor) and (tensor.untyped_storage().data_ptr() not in inputs or self._knows(tensor)):
                self._tensors[id(tensor)] = weakref.ref(tensor)
        self._count()
        return result

    def _knows(self, tensor: torch.Tensor) -> bool:
        return tensor.untyped_storage().data_ptr() in self._storages()

    def _storages(self) -> dict[int, int]:
        living = [tensor for tensor in (reference() for reference in self._tensors.values()) if tensor is not None]
        return {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in living}

    def _count(self) -> None:
        self._tensors = {key: reference for key, reference in self._tensors.items() if reference() is not None}
        self.peak = max(self.peak, sum(self._storages().values()))
