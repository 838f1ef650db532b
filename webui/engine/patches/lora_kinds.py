"""The kinds of changes in the LoRA family: for each, how the tensors of one layer become the change of its weight.

A weight is (out, in) or (out, in, height, width) and is changed in fp32; r is the rank. Changes are for strength 1 and multiplied by the
strength as a whole, as A1111 does it, also where a trainer would have used the strength within the formula (DoRA, BOFT).
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from webui.engine.patches.lora_delta import Delta, like, shaped
from webui.engine.patches.lora_rotations import DEFAULT_TERMS, Butterfly, InputButterfly, InputRotation, Rotation

Parts = Mapping[str, Tensor]  # of one layer: name within the layer -> tensor, as lora_keys.PARTS calls them
EPSILON = torch.finfo(torch.float32).eps


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
            return shaped(up @ down, weight)
        return shaped(torch.einsum("mn...,om,ni->oi...", like(self.mid, weight), up, down), weight)

    def added(self, total: Tensor, pristine: Tensor, strength: float, out: Tensor | None = None) -> Tensor:
        """In one pass over `total`: the change is never there by itself."""
        if self.mid is not None:
            return super().added(total, pristine, strength, out)
        up, down = self._factors(total)
        rows = None if out is None else out.flatten(1)
        return torch.addmm(total.flatten(1), up, down, alpha=strength, out=rows).reshape(total.shape)

    def fits(self, shape: Sequence[int]) -> bool:
        """By arithmetic alone: there are hundreds in a file, and torch takes longer to try one than to add it."""
        if self.mid is not None or self.up.ndim < 2 or self.down.ndim < 2:
            return super().fits(shape)
        (out, *ranks), (rank, *inputs) = self.up.shape, self.down.shape
        return out == shape[0] and math.prod(ranks) == rank and math.prod(inputs) == math.prod(shape[1:])

    def cut(self, rank: int) -> "LowRank":
        return self if self.mid is not None else replace(self, up=self.up[:, :rank], down=self.down[:rank])

    def _factors(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        return like(self.up, weight).flatten(1) * self.scale, like(self.down, weight).flatten(1)


@dataclass(frozen=True)
class Hadamard(Delta):
    """LoHa (arXiv:2108.06098, Prop. 1 and 3): the product, element by element, of two low-rank matrices.

    Each is a (out, r) @ b (r, in), or in Tucker form a (r, out), b (r, in), t (r, r, height, width).
    """

    first: tuple[Tensor, Tensor, Tensor | None]
    second: tuple[Tensor, Tensor, Tensor | None]
    scale: float

    def of(self, weight: Tensor) -> Tensor:
        first, second = (shaped(_rebuilt(*factors, weight), weight) for factors in (self.first, self.second))
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
        first, second = (like(part, weight) if isinstance(part, Tensor) else _rebuilt(*part, weight) for part in (self.first, self.second))
        return shaped(torch.kron(first * self.scale, second.flatten(1)), weight)


@dataclass(frozen=True)
class Full(Delta):
    """The change itself: of a matrix, of a bias, of a norm's scale or shift."""

    change: Tensor

    def of(self, weight: Tensor) -> Tensor:
        return shaped(like(self.change, weight), weight)


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
        return shaped(weight * like(self.factors, weight).reshape(shape), weight)


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
        a1, a2, b1, b2 = (like(part, weight).flatten(1) for part in (self.a1, self.a2, self.b1, self.b2))
        if b1.shape[0] != weight.shape[0] or b1.shape[1] != b2.shape[0]:
            a1, a2, b1, b2 = a2, a1, b2, b1
        through = torch.einsum("oi...,ir->or...", weight, a1)
        through = torch.einsum("or...,rj->oj...", through, a2)
        return (shaped(through, weight) + shaped(b1 @ b2, weight)) * self.scale


@dataclass(frozen=True)
class Decomposed(Delta):
    """DoRA (arXiv:2402.09353, eq. 5): the changed weight, scaled so that each channel has the norm that was learned.

    magnitude: (out, 1, 1, 1) per output channel, or (1, in, 1, 1) per input channel.
    """

    inner: Delta
    magnitude: Tensor

    def of(self, weight: Tensor) -> Tensor:
        changed = weight + self.inner.of(weight)
        magnitude = like(self.magnitude, weight)
        per_output = magnitude.shape[0] == weight.shape[0]
        magnitude = magnitude.reshape([-1 if axis == (0 if per_output else 1) else 1 for axis in range(weight.ndim)])
        rest = [axis for axis in range(weight.ndim) if axis != (0 if per_output else 1)]
        norm = torch.linalg.vector_norm(changed, dim=rest, keepdim=True) + EPSILON
        return shaped(changed * (magnitude / norm) - weight, weight)

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


def _input_rotation(parts: Parts) -> Delta:
    """Settings that no metadata tell are peft's defaults."""
    terms, limit = _number(parts.get("terms")), _number(parts.get("limit"))
    return InputRotation(parts["oft_R"], DEFAULT_TERMS if terms is None else int(terms), limit or 0.0)


def _input_butterfly(parts: Parts) -> Delta:
    return InputButterfly(parts["boft_R"], parts["boft_s"])


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
    _input_rotation,
    _input_butterfly,
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


def _rebuilt(a: Tensor, b: Tensor, t: Tensor | None, weight: Tensor) -> Tensor:
    """(out, in, ...) from a (out, r) and b (r, in), or with t (r, r, ...) from a (r, out) and b (r, in)."""
    a, b = like(a, weight), like(b, weight).flatten(1)
    return a @ b if t is None else torch.einsum("ij...,io,jn->on...", like(t, weight), a, b)
