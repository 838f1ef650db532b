"""OFT and BOFT: changes that rotate a weight by orthogonal matrices, in blocks. As kohya and LyCORIS do it, and as peft does."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from webui.engine.patches.lora_delta import Delta, like, shaped

DEFAULT_TERMS = 5  # peft's num_cayley_neumann_terms


@dataclass(frozen=True)
class Rotation(Delta):
    """OFT (arXiv:2306.07280, section 3): blocks of output channels are rotated by R = (1 + Q)(1 - Q)^-1, Q = B - B^T (Cayley).

    blocks: (n, b, b), out = n * b; kohya names n the rank, LyCORIS b. rescale: (out) factors after the rotation, or None.
    constraint: the norm of Q is at most this * out; 0: no limit. rotated: `blocks` are R itself (LyCORIS before 2.0).
    """

    blocks: Tensor
    rescale: Tensor | None
    constraint: float = 0.0
    rotated: bool = False

    def of(self, weight: Tensor) -> Tensor:
        blocks = like(self.blocks, weight)
        turn = blocks - _identity(blocks) if self.rotated else _turn(blocks, self.constraint * len(weight))
        pieces = weight.reshape(*blocks.shape[:2], -1)  # (n, b, what one output channel has)
        return _rescaled(shaped((turn.mT @ pieces).flatten(0, 1), weight), self.rescale, weight)


@dataclass(frozen=True)
class Butterfly(Delta):
    """BOFT (arXiv:2311.06243, section 4): several rotations after each other, each of blocks of channels that lie further apart.

    blocks: (m, n, b, b), out = n * b; stage i joins channels k = 2^i * b/2 apart. The rest is as in Rotation.
    """

    blocks: Tensor
    rescale: Tensor | None
    constraint: float = 0.0

    def of(self, weight: Tensor) -> Tensor:
        blocks = like(self.blocks, weight)
        turns = _turn(blocks, self.constraint * len(weight))
        change = torch.zeros_like(weight).flatten(1)
        for i, turn in enumerate(turns):
            apart = 2**i * blocks.shape[-1] // 2
            pieces = _interleaved(weight.flatten(1) + change, 2, apart).reshape(*turn.shape[:2], -1)
            change = change + _interleaved((turn @ pieces).flatten(0, 1), apart, 2)
        return _rescaled(shaped(change, weight), self.rescale, weight)


@dataclass(frozen=True)
class InputRotation(Delta):
    """OFT as peft merges it: blocks of what goes into the layer are rotated (of a convolution: of channels x height x width).

    vectors: (n, b(b-1)/2), row by row what Q = -Q^T has above its diagonal; n * b = in * height * width, or n = 1: all blocks share one.
    terms: R is 1 + 2Q + 2Q^2 + ... with so many terms, as peft counts them; 0: exactly, where peft turns the other way, (1 - Q)(1 + Q)^-1.
    limit: the norm of each block's Q is at most this / sqrt(n); 0: no limit ("coft" and its "eps").
    peft's pass over convolutions larger than 1x1 that are not merged is none over weights: it changes the picture with Q = 0 already.
    """

    vectors: Tensor
    terms: int
    limit: float = 0.0

    def of(self, weight: Tensor) -> Tensor:
        count, inputs = len(self.vectors), weight[0].numel()
        size = (1 + math.isqrt(1 + 8 * self.vectors.shape[1])) // 2
        if size * (size - 1) != 2 * self.vectors.shape[1] or (count * size != inputs if count > 1 else inputs % size):
            raise ValueError(f"{count} blocks of {size} are no rotation of {inputs} inputs")
        upper = torch.zeros(count, size, size, device=weight.device)
        rows, columns = torch.triu_indices(size, size, 1, device=weight.device)
        upper[:, rows, columns] = like(self.vectors, weight)
        if self.limit:
            norms = torch.linalg.vector_norm(upper - upper.mT, dim=(1, 2), keepdim=True)
            upper = upper * (self.limit / count**0.5 / norms).clamp(max=1)  # of 0 / 0 as of 1 / 0: no limit
        turns = _series(upper - upper.mT, self.terms) if self.terms else _turn(upper.mT, 0)
        pieces = weight.reshape(len(weight), -1, size).transpose(0, 1)  # (blocks, out, b)
        return shaped((pieces @ turns.mT).transpose(0, 1), weight)


@dataclass(frozen=True)
class InputButterfly(Delta):
    """BOFT as peft computes it: several rotations of what goes in, one after the other; stage i joins halves of blocks 2^i halves apart.

    blocks: (m, n, b, b), n * b = in * height * width, R = (1 - S)(1 + S)^-1, S = (B - B^T) / 2; rescale: (out) factors afterwards.
    """

    blocks: Tensor
    rescale: Tensor

    def of(self, weight: Tensor) -> Tensor:
        rows = weight.flatten(1).T  # (in, out)
        change = torch.zeros_like(rows)
        _, count, size, _ = self.blocks.shape
        for i, turn in enumerate(_turn(like(self.blocks, weight).mT / 2, 0)):
            joined = _halves(rows + change, 2, 2**i, size // 2) if i else rows + change
            turned = (turn @ joined.reshape(count, size, -1)).flatten(0, 1)
            change = change + (_halves(turned, 2**i, 2, size // 2) if i else turned)
        return _rescaled(shaped(change.T, weight), self.rescale, weight)


def _identity(blocks: Tensor) -> Tensor:
    return torch.eye(blocks.shape[-1], device=blocks.device)


def _turn(blocks: Tensor, limit: float) -> Tensor:
    """R - 1 = 2 (1 - Q)^-1 Q with Q = B - B^T, its norm over all blocks at most `limit` (0: no limit)."""
    q = blocks - blocks.mT
    if limit > 0:
        q = q * (limit / q.norm().clamp_min(limit))
    return torch.linalg.solve(_identity(blocks) - q, 2 * q)


def _series(q: Tensor, terms: int) -> Tensor:
    """R - 1 by a Neumann series, as peft cuts it: 2Q + 2Q^2 + ... + 2Q^(m-1) + Q^m with m = terms - 1, at least 3; of two terms 2Q."""
    if terms <= 2:
        return 2 * q * (terms - 1)
    last = max(terms - 1, 3)
    total, power = 2 * q, q
    for exponent in range(2, last + 1):
        power = power @ q
        total = total + (2 * power if exponent < last else power)
    return total


def _halves(rows: Tensor, groups: int, apart: int, half: int) -> Tensor:
    """(c * groups * apart * half, x) rows reordered to (c * apart * groups * half, x)."""
    return rows.unflatten(0, (-1, groups, apart, half)).transpose(1, 2).flatten(0, 3)


def _interleaved(rows: Tensor, groups: int, apart: int) -> Tensor:
    """(c * groups * apart, x) rows reordered to (c * apart * groups, x)."""
    return rows.unflatten(0, (-1, groups, apart)).transpose(1, 2).flatten(0, 2)


def _rescaled(change: Tensor, rescale: Tensor | None, weight: Tensor) -> Tensor:
    """The change that ends at (weight + change) * rescale."""
    if rescale is None:
        return change
    factors = like(rescale, weight).reshape(-1, *[1] * (weight.ndim - 1))
    return shaped(factors * change + (factors - 1) * weight, weight)
