"""The kinds of changes in the LoRA family: for each, how the tensors of one layer become the change of its weight.

A weight is (out, in) or (out, in, height, width) and is changed in fp32; r is the rank. Changes are for strength 1 and multiplied by the
strength as a whole, as A1111 does it, also where a trainer would have used the strength within the formula (DoRA, BOFT).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

Parts = Mapping[str, Tensor]  # of one layer: name within the layer -> tensor, as lora_keys.PARTS calls them
EPSILON = torch.finfo(torch.float32).eps


class Delta:
    """The change of one weight. All methods raise ValueError or RuntimeError where the change does not fit the weight."""

    def of(self, weight: Tensor) -> Tensor:
        """The change of `weight` (pristine, fp32), in its shape, at strength 1."""
        raise NotImplementedError

    def added(self, total: Tensor, pristine: Tensor, strength: float) -> Tensor:
        """`total` plus the change of `pristine` times `strength`, all fp32; a new tensor."""
        return torch.add(total, self.of(pristine), alpha=strength)

    def cut(self, rank: int) -> "Delta":
        """The same with only the first `rank` ranks, where that has a meaning."""
        return self


@dataclass(frozen=True)
class LowRank(Delta):
    """LoRA (arXiv:2106.09685, eq. 3), and LoCon, the same for convolutions; with `mid` in Tucker form (arXiv:2309.14859, section 3.2).

    up: (out, r, 1, 1), down: (r, in, height, width), mid: None; or down: (r, in, 1, 1), mid: (r, r, height, width).
    """

    up: Tensor
    down: Tensor
    mid: Tensor | None
    scale: float

    def of(self, weight: Tensor) -> Tensor:
        up, down = self._factors(weight)
        if self.mid is None:
            return _shaped(up @ down, weight)
        return _shaped(torch.einsum("mn...,om,ni->oi...", _like(self.mid, weight), up, down), weight)

    def added(self, total: Tensor, pristine: Tensor, strength: float) -> Tensor:
        """In one pass over `total`: the change is never there by itself."""
        if self.mid is not None:
            return super().added(total, pristine, strength)
        up, down = self._factors(total)
        return torch.addmm(total.flatten(1), up, down, alpha=strength).reshape(total.shape)

    def cut(self, rank: int) -> "LowRank":
        return self if self.mid is not None else replace(self, up=self.up[:, :rank], down=self.down[:rank])

    def _factors(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        return _like(self.up, weight).flatten(1) * self.scale, _like(self.down, weight).flatten(1)


@dataclass(frozen=True)
class Hadamard(Delta):
    """LoHa (arXiv:2108.06098, Prop. 1 and 3): the product, element by element, of two low-rank matrices.

    Each is a (out, r) @ b (r, in), or in Tucker form a (r, out), b (r, in), t (r, r, height, width).
    """

    first: tuple[Tensor, Tensor, Tensor | None]
    second: tuple[Tensor, Tensor, Tensor | None]
    scale: float

    def of(self, weight: Tensor) -> Tensor:
        first, second = (_shaped(_rebuilt(*factors, weight), weight) for factors in (self.first, self.second))
        return first * second * self.scale


@dataclass(frozen=True)
class Kronecker(Delta):
    """LoKr (arXiv:2309.14859, section 3.3): the Kronecker product of two matrices, each whole or in low-rank form.

    first: (a, c) whole, or its factors; second: (b, d, height, width) whole, or its factors, as in Hadamard. out = a * b, in = c * d.
    """

    first: Tensor | tuple[Tensor, Tensor, Tensor | None]
    second: Tensor | tuple[Tensor, Tensor, Tensor | None]
    scale: float

    def of(self, weight: Tensor) -> Tensor:
        first, second = (_like(part, weight) if isinstance(part, Tensor) else _rebuilt(*part, weight) for part in (self.first, self.second))
        return _shaped(torch.kron(first * self.scale, second.flatten(1)), weight)


@dataclass(frozen=True)
class Full(Delta):
    """The change itself: of a matrix, of a bias, of a norm's scale or shift."""

    change: Tensor

    def of(self, weight: Tensor) -> Tensor:
        return _shaped(_like(self.change, weight), weight)


@dataclass(frozen=True)
class Channels(Delta):
    """IA3 (arXiv:2205.05638): each channel that comes out, or goes in, is multiplied by 1 + factor. factors: (channels) in any shape.

    peft's, where the factors are for what comes out, multiply a bias, too.
    """

    factors: Tensor
    on_input: bool

    def of(self, weight: Tensor) -> Tensor:
        shape = [1] * weight.ndim
        shape[1 if self.on_input else 0] = -1
        return _shaped(weight * _like(self.factors, weight).reshape(shape), weight)


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
        blocks = _like(self.blocks, weight)
        turn = blocks - _identity(blocks) if self.rotated else _turn(blocks, self.constraint * len(weight))
        pieces = weight.reshape(*blocks.shape[:2], -1)  # (n, b, what one output channel has)
        return _rescaled(_shaped((turn.mT @ pieces).flatten(0, 1), weight), self.rescale, weight)


@dataclass(frozen=True)
class Butterfly(Delta):
    """BOFT (arXiv:2311.06243, section 4): several rotations after each other, each of blocks of channels that lie further apart.

    blocks: (m, n, b, b), out = n * b; stage i joins channels k = 2^i * b/2 apart. The rest is as in Rotation.
    """

    blocks: Tensor
    rescale: Tensor | None
    constraint: float = 0.0

    def of(self, weight: Tensor) -> Tensor:
        blocks = _like(self.blocks, weight)
        turns = _turn(blocks, self.constraint * len(weight))
        change = torch.zeros_like(weight).flatten(1)
        for i, turn in enumerate(turns):
            apart = 2**i * blocks.shape[-1] // 2
            pieces = _interleaved(weight.flatten(1) + change, 2, apart).reshape(*turn.shape[:2], -1)
            change = change + _interleaved((turn @ pieces).flatten(0, 1), apart, 2)
        return _rescaled(_shaped(change, weight), self.rescale, weight)


@dataclass(frozen=True)
class Generalized(Delta):
    """GLoRA (arXiv:2306.07967): W a1 a2 + b1 b2. a1: (in, r), a2: (r, in), b1: (out, r), b2: (r, in, height, width).

    LyCORIS before 2.0 named the factors the other way round; the shapes tell.
    """

    a1: Tensor
    a2: Tensor
    b1: Tensor
    b2: Tensor
    scale: float

    def of(self, weight: Tensor) -> Tensor:
        a1, a2, b1, b2 = (_like(part, weight).flatten(1) for part in (self.a1, self.a2, self.b1, self.b2))
        if b1.shape[0] != weight.shape[0] or b1.shape[1] != b2.shape[0]:
            a1, a2, b1, b2 = a2, a1, b2, b1
        through = torch.einsum("oi...,ir->or...", weight, a1)
        through = torch.einsum("or...,rj->oj...", through, a2)
        return (_shaped(through, weight) + _shaped(b1 @ b2, weight)) * self.scale


@dataclass(frozen=True)
class Decomposed(Delta):
    """DoRA (arXiv:2402.09353, eq. 5): the changed weight, scaled so that each channel has the norm that was learned.

    magnitude: (out, 1, 1, 1) per output channel, or (1, in, 1, 1) per input channel.
    """

    inner: Delta
    magnitude: Tensor

    def of(self, weight: Tensor) -> Tensor:
        changed = weight + self.inner.of(weight)
        magnitude = _like(self.magnitude, weight)
        per_output = magnitude.shape[0] == weight.shape[0]
        magnitude = magnitude.reshape([-1 if axis == (0 if per_output else 1) else 1 for axis in range(weight.ndim)])
        rest = [axis for axis in range(weight.ndim) if axis != (0 if per_output else 1)]
        norm = torch.linalg.vector_norm(changed, dim=rest, keepdim=True) + EPSILON
        return _shaped(changed * (magnitude / norm) - weight, weight)

    def cut(self, rank: int) -> "Decomposed":
        return replace(self, inner=self.inner.cut(rank))


def delta_of(parts: Parts) -> Delta | None:
    """The change of a layer's weight that its tensors describe; None where they are of no kind, or not complete."""
    for kind in KINDS:
        try:
            delta = kind(parts)
        except KeyError:
            continue
        if "dora_scale" in parts:
            return Decomposed(delta, parts["dora_scale"])
        if "magnitude" in parts:
            return Decomposed(delta, parts["magnitude"].reshape(-1, 1))
        return delta
    return None


def _low_rank(parts: Parts) -> Delta:
    return LowRank(parts["up"], parts["down"], parts.get("mid"), _scale(parts, parts["down"].shape[0]))


def _hadamard(parts: Parts) -> Delta:
    first = (parts["hada_w1_a"], parts["hada_w1_b"], parts.get("hada_t1"))
    second = (parts["hada_w2_a"], parts["hada_w2_b"], parts.get("hada_t2"))
    return Hadamard(first, second, _scale(parts, first[1].shape[0]))


def _kronecker(parts: Parts) -> Delta:
    first = parts["lokr_w1"] if "lokr_w1" in parts else (parts["lokr_w1_a"], parts["lokr_w1_b"], None)
    second = parts["lokr_w2"] if "lokr_w2" in parts else (parts["lokr_w2_a"], parts["lokr_w2_b"], parts.get("lokr_t2"))
    factored = next((part for part in (second, first) if isinstance(part, tuple)), None)
    return Kronecker(first, second, _scale(parts, factored[1].shape[0]) if factored else 1.0)


def _full(parts: Parts) -> Delta:
    return Full(parts["diff"])


def _norm(parts: Parts) -> Delta:
    return Full(parts["w_norm"])


def _channels(parts: Parts) -> Delta:
    return Channels(parts["weight"], bool(parts["on_input"].any()))


def _peft_channels(parts: Parts) -> Channels:
    """peft stores the whole factors: (out, 1) or (1, in) of a matrix, (1, channels, 1, 1) of a convolution, where out is the default."""
    factors = parts["ia3_l"].float() - 1
    return Channels(factors, on_input=factors.ndim == 2 and factors.shape[0] == 1)


def _rotation(parts: Parts) -> Delta:
    blocks, constraint = parts["oft_blocks"], _number(parts.get("alpha")) or 0.0
    return (Butterfly if blocks.ndim == 4 else Rotation)(blocks, parts.get("rescale"), constraint)


def _old_rotation(parts: Parts) -> Delta:
    return Rotation(parts["oft_diag"], parts.get("rescale"), rotated=True)


def _generalized(parts: Parts) -> Delta:
    a1, a2, b1, b2 = (parts[name] for name in ("a1", "a2", "b1", "b2"))
    return Generalized(a1, a2, b1, b2, _scale(parts, min(a2.shape[:2])))


KINDS: tuple[Callable[[Parts], Delta], ...] = (
    _low_rank,
    _hadamard,
    _kronecker,
    _full,
    _norm,
    _rotation,
    _old_rotation,
    _generalized,
    _channels,
    _peft_channels,
)


def _scale(parts: Parts, rank: int) -> float:
    """alpha / rank, 1 where there is no alpha."""
    alpha = _number(parts.get("alpha"))
    return 1.0 if alpha is None else alpha / rank


def _number(tensor: Tensor | None) -> float | None:
    return None if tensor is None else float(tensor.reshape(-1)[0])


def _like(tensor: Tensor, weight: Tensor) -> Tensor:
    return tensor.to(weight.device, torch.float32)


def _shaped(change: Tensor, weight: Tensor) -> Tensor:
    """`change` in the shape of `weight`; never broadcast, never rows for columns."""
    if change.shape[:1] != weight.shape[:1] or change.numel() != weight.numel():
        raise ValueError(f"{tuple(change.shape)} is no change of {tuple(weight.shape)}")
    return change.reshape(weight.shape)


def _rebuilt(a: Tensor, b: Tensor, t: Tensor | None, weight: Tensor) -> Tensor:
    """(out, in, ...) from a (out, r) and b (r, in), or with t (r, r, ...) from a (r, out) and b (r, in)."""
    a, b = _like(a, weight), _like(b, weight).flatten(1)
    return a @ b if t is None else torch.einsum("ij...,io,jn->on...", _like(t, weight), a, b)


def _identity(blocks: Tensor) -> Tensor:
    return torch.eye(blocks.shape[-1], device=blocks.device)


def _turn(blocks: Tensor, limit: float) -> Tensor:
    """R - 1 = 2 (1 - Q)^-1 Q with Q = B - B^T, its norm over all blocks at most `limit` (0: no limit)."""
    q = blocks - blocks.mT
    if limit > 0:
        q = q * (limit / q.norm().clamp_min(limit))
    return torch.linalg.solve(_identity(blocks) - q, 2 * q)


def _interleaved(rows: Tensor, groups: int, apart: int) -> Tensor:
    """(c * groups * apart, x) rows reordered to (c * apart * groups, x)."""
    return rows.unflatten(0, (-1, groups, apart)).transpose(1, 2).flatten(0, 2)


def _rescaled(change: Tensor, rescale: Tensor | None, weight: Tensor) -> Tensor:
    """The change that ends at (weight + change) * rescale."""
    if rescale is None:
        return change
    factors = _like(rescale, weight).reshape(-1, *[1] * (weight.ndim - 1))
    return _shaped(factors * change + (factors - 1) * weight, weight)
