"""Memory of models that have left, for the weights of the next one: to find fresh memory takes longer than to read the file."""

from collections.abc import Iterable, Sequence
from weakref import ReferenceType, ref

import torch
from torch import Tensor, UntypedStorage, nn


class Spare:
    """Weights' memory in main memory, each piece free from the moment on when all who owned it are gone; nobody else's is ever given."""

    def __init__(self) -> None:
        self._pieces: dict[int, tuple[UntypedStorage, list[ReferenceType[nn.Parameter]]]] = {}  # by the address

    def add(self, modules: Iterable[nn.Module]) -> None:
        """The memory of modules that are about to leave, where one weight has it for itself."""
        for module in modules:
            for weight in module.parameters():
                piece = weight.untyped_storage()
                if weight.device.type == "cpu" and piece.nbytes() == weight.nbytes > 0:
                    self._pieces.setdefault(piece.data_ptr(), (piece, []))[1].append(ref(weight))

    @property
    def is_free(self) -> bool:
        """Whether nobody uses any of it."""
        return not any(_is_owned(owners) for _, owners in self._pieces.values())

    def take(self, sizes: Sequence[int]) -> list[UntypedStorage | None]:
        """For each of so many bytes a piece of that very size, None where there is none: for these as much is let go of."""
        self._pieces = {address: piece for address, piece in self._pieces.items() if not _is_owned(piece[1])}
        free: dict[int, list[int]] = {}
        for address, (piece, _) in self._pieces.items():
            free.setdefault(piece.nbytes(), []).append(address)
        taken = [self._pieces.pop(free[size].pop())[0] if free.get(size) else None for size in sizes]
        lacking = sum(size for size, piece in zip(sizes, taken, strict=True) if piece is None)
        while lacking > 0 and self._pieces:
            lacking -= self._pieces.popitem()[1][0].nbytes()
        return taken

    def clear(self) -> None:
        """Let go of what is left."""
        self._pieces.clear()


def in_memory(piece: UntypedStorage | None, shape: Sequence[int], dtype: torch.dtype, device: torch.device) -> Tensor:
    """A tensor of any numbers: in the piece where it is one of main memory and has the very size, else in fresh memory."""
    count = torch.Size(shape).numel()
    if piece is None or device.type != "cpu" or piece.nbytes() != count * dtype.itemsize:
        return torch.empty(shape, dtype=dtype, device=device)
    return torch.empty(0, dtype=dtype).set_(piece, 0, (count,)).view(shape)


def _is_owned(owners: Iterable[ReferenceType[nn.Parameter]]) -> bool:
    return any(owner() is not None for owner in owners)
