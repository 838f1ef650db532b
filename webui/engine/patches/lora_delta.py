"""What every kind of change in the LoRA family has in common: it becomes a tensor that is added to a weight."""

from collections.abc import Sequence

import torch
from torch import Tensor


class Delta:
    """The change of one weight. All methods raise ValueError or RuntimeError where the change does not fit the weight."""

    def of(self, weight: Tensor) -> Tensor:
        """The change of `weight` (pristine, fp32), in its shape, at strength 1."""
        raise NotImplementedError

    def added(self, total: Tensor, pristine: Tensor, strength: float, out: Tensor | None = None) -> Tensor:
        """`total` plus the change of `pristine` times `strength`, all fp32; in `out`, which may be `total`, or in new memory."""
        return torch.add(total, self.of(pristine), alpha=strength, out=out)

    def fits(self, shape: Sequence[int]) -> bool:
        """Whether a weight of that shape can be changed: told without numbers, so without memory, however much a file pretends to be."""
        try:
            self.of(torch.empty(shape, device="meta"))
        except (ValueError, RuntimeError, IndexError):
            return False
        return True

    def cut(self, rank: int) -> "Delta":
        """The same with only the first `rank` ranks, where that has a meaning."""
        return self


def like(tensor: Tensor, weight: Tensor) -> Tensor:
    return tensor.to(weight.device, torch.float32)


def shaped(change: Tensor, weight: Tensor) -> Tensor:
    """`change` in the shape of `weight`; never broadcast, never rows for columns."""
    if change.shape[:1] != weight.shape[:1] or change.numel() != weight.numel():
        raise ValueError(f"{tuple(change.shape)} is no change of {tuple(weight.shape)}")
    return change.reshape(weight.shape)
