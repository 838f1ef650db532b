"""Main memory that one job leaves to the next: to find fresh memory takes a processor as long as to fill it."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

MOST_KEPT = 1 << 30  # bytes; who computes on more than that does not notice the time
LINE = 64  # bytes: where a tensor may begin


class Scratch:
    """What jobs with LoRAs on one model write changed weights to."""

    def __init__(self) -> None:
        self._memory: Tensor | None = None

    @property
    def nbytes(self) -> int:
        """Of what is kept at this moment; nothing is while it is lent."""
        return 0 if self._memory is None else self._memory.nbytes

    @contextmanager
    def lent(self, size: int) -> Iterator[Tensor]:
        """At least `size` bytes, which nobody else has until the block's end; of size 0, or after an error, nothing is kept."""
        memory, self._memory = self._memory, None
        if memory is None or not 0 < size <= len(memory):
            memory = None  # before there is other memory
            with torch.inference_mode(False):  # within one job and without the next
                memory = torch.empty(size, dtype=torch.uint8)
        yield memory
        if 0 < memory.nbytes <= MOST_KEPT:
            self._memory = memory

    def clear(self) -> None:
        """Keep nothing, but for what is lent."""
        self._memory = None


def lines(tensor: Tensor) -> int:
    """Bytes that the tensor takes among others."""
    return -(-tensor.nbytes // LINE) * LINE


def laid_out(memory: Tensor, start: int, tensor: Tensor) -> Tensor:
    """Memory from byte `start` on, for other numbers of the tensor's type and shape."""
    return memory[start : start + tensor.nbytes].view(tensor.dtype).view(tensor.shape)
