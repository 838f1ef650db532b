"""Where noise comes from: one generator per image, variation seeds and seed resize.

Noise is float32, from one of three sources: "CPU" and "NV" (what a CUDA card would draw) are the same on every device, "GPU" is the
device's own generator, where it has one.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor

from webui.engine.philox import PhiloxGenerator

PARALLEL = 0.9995  # mean cosine above which slerp falls back to a straight line


Shape = tuple[int, int, int]  # (channels, height/8, width/8) of one picture's latents
CPU = torch.device("cpu")


class Generator(Protocol):
    """A stream of normal numbers."""

    def randn(self, shape: tuple[int, ...]) -> Tensor:
        """The next numbers, float32."""


class TorchGenerator:
    """torch's own generator on `device`."""

    def __init__(self, seed: int, device: torch.device = CPU) -> None:
        self._generator = torch.Generator(device).manual_seed(seed)

    def randn(self, shape: tuple[int, ...]) -> Tensor:
        return torch.randn(shape, generator=self._generator, device=self._generator.device)


NewGenerator = Callable[[int], Generator]  # from its seed


def noise_source(name: str, device: torch.device = CPU) -> NewGenerator:
    """The noise source "CPU", "GPU" (of `device`; the CPU where that has no generator that pictures are known by) or "NV"."""
    if name == "NV":
        return PhiloxGenerator
    place = device if name == "GPU" and device.type in ("cuda", "xpu") else CPU
    return lambda seed: TorchGenerator(seed, place)


class ImageNoise:
    """The noises of one batch: image i draws all of its own from a generator seeded with seeds[i], so no image depends on its neighbours.

    variation_seeds: one per image; counts only with variation_strength > 0 (0 .. 1).
    resize_from: (height/8, width/8) of the picture whose composition is wanted, or None.
    later_seed: added to the seeds for all noise after the first, from new generators (the field's ENSD); 0: the same ones go on.
    """

    def __init__(
        self,
        seeds: Sequence[int],
        variation_seeds: Sequence[int] = (),
        variation_strength: float = 0.0,
        resize_from: tuple[int, int] | None = None,
        source: NewGenerator = TorchGenerator,
        later_seed: int = 0,
    ) -> None:
        self.seeds = list(seeds)
        self._variation_seeds = list(variation_seeds)
        self._variation_strength = variation_strength
        self._resize_from = resize_from
        self._new = source
        self._later_seed = later_seed
        self._generators = [source(seed) for seed in self.seeds]

    def first(self, shape: Shape) -> Tensor:
        """The noise that the pictures begin with: (batch, *shape). Drawn once, before any `next`."""
        first = torch.stack([self._first_of(i, shape) for i in range(len(self.seeds))])
        if self._later_seed:
            self._generators = [self._new(seed + self._later_seed) for seed in self.seeds]
        return first

    def next(self, shape: Shape) -> Tensor:
        """A further noise (batch, *shape), continuing each image's generator: what ancestral samplers add."""
        return torch.stack([generator.randn(shape) for generator in self._generators])

    def _first_of(self, i: int, shape: Shape) -> Tensor:
        source = shape if self._resize_from is None else (shape[0], *self._resize_from)
        resized = source != shape
        noise = (self._new(self.seeds[i]) if resized else self._generators[i]).randn(source)
        if self._variation_strength > 0:
            variation = self._new(self._variation_seeds[i]).randn(source)
            noise = slerp(self._variation_strength, noise, variation)
        if resized:
            noise = _paste_in_the_middle(noise, self._generators[i].randn(shape))
        return noise


def slerp(strength: float, low: Tensor, high: Tensor) -> Tensor:
    """From `low` (strength 0) to `high` (1) along the arc between them, one arc per channel and column.

    low, high: (channels, height/8, width/8). Lengths and angles are taken along the height alone, as the field does.
    """
    unit_low, unit_high = (noise / torch.linalg.vector_norm(noise, dim=1, keepdim=True) for noise in (low, high))
    cosine = (unit_low * unit_high).sum(dim=1, keepdim=True)
    if cosine.mean() > PARALLEL:
        return low * strength + high * (1 - strength)  # weights this way round: the field's pictures have them so
    angle = torch.acos(cosine.clamp(-1, 1))
    arc = (torch.sin((1 - strength) * angle) * low + torch.sin(strength * angle) * high) / torch.sin(angle)
    return torch.where(torch.sin(angle).abs() > 1e-6, arc, torch.lerp(low, high, strength))  # columns of one row have no angle between


def _paste_in_the_middle(noise: Tensor, canvas: Tensor) -> Tensor:
    """`canvas` with `noise` laid on its middle; what does not fit is cut off at both ends alike. Both (channels, height, width)."""
    here, there = [slice(None)], [slice(None)]
    for small, large in zip(noise.shape[1:], canvas.shape[1:], strict=True):
        margin = (large - small) // 2
        length = small if margin >= 0 else small + 2 * margin
        here.append(slice(max(margin, 0), max(margin, 0) + length))
        there.append(slice(max(-margin, 0), max(-margin, 0) + length))
    canvas[tuple(here)] = noise[tuple(there)]
    return canvas
