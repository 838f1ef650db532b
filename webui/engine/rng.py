"""Where noise comes from: one CPU generator per image, variation seeds, seed resize, and Brownian paths for SDE samplers.

All noise is drawn on the CPU in float32, so that a picture does not depend on the device that makes it.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torchsde import BrownianInterval

PARALLEL = 0.9995  # mean cosine above which slerp falls back to a straight line


Shape = tuple[int, int, int]  # (channels, height/8, width/8) of one picture's latents


class ImageNoise:
    """The noises of one batch: image i draws all of its own from a generator seeded with seeds[i], so no image depends on its neighbours.

    variation_seeds: one per image; counts only with variation_strength > 0 (0 .. 1).
    resize_from: (height/8, width/8) of the picture whose composition is wanted, or None.
    """

    def __init__(
        self,
        seeds: Sequence[int],
        variation_seeds: Sequence[int] = (),
        variation_strength: float = 0.0,
        resize_from: tuple[int, int] | None = None,
    ) -> None:
        self.seeds = list(seeds)
        self._variation_seeds = list(variation_seeds)
        self._variation_strength = variation_strength
        self._resize_from = resize_from
        self._generators = [_generator(seed) for seed in self.seeds]

    def first(self, shape: Shape) -> Tensor:
        """The noise that the pictures begin with: (batch, *shape). Drawn once, before any `next`."""
        return torch.stack([self._first_of(i, shape) for i in range(len(self.seeds))])

    def next(self, shape: Shape) -> Tensor:
        """A further noise (batch, *shape), continuing each image's generator: what ancestral samplers add."""
        return torch.stack([torch.randn(shape, generator=generator) for generator in self._generators])

    def _first_of(self, i: int, shape: Shape) -> Tensor:
        source = shape if self._resize_from is None else (shape[0], *self._resize_from)
        resized = source != shape
        noise = torch.randn(source, generator=_generator(self.seeds[i]) if resized else self._generators[i])
        if self._variation_strength > 0:
            variation = torch.randn(source, generator=_generator(self._variation_seeds[i]))
            noise = slerp(self._variation_strength, noise, variation)
        if resized:
            noise = _paste_in_the_middle(noise, torch.randn(shape, generator=self._generators[i]))
        return noise


class BrownianNoise:
    """Noise for SDE samplers: increments of one Brownian path over sigma per image, so that more steps refine the same picture.

    span: smallest and largest sigma of the whole schedule, also where only its tail is walked.
    The path is torchsde's interval tree, halved down to 1e-6: it does not depend on which increments are asked for, nor in what order.
    """

    def __init__(self, shape: Shape, seeds: Sequence[int], span: tuple[float, float]) -> None:
        self._span = (round(span[0], 6), round(span[1], 6))  # as torchsde rounds its ends; what lies beyond them is held
        self._paths = [
            BrownianInterval(
                t0=span[0], t1=span[1], size=shape, dtype=torch.float32, entropy=seed, tol=1e-6, pool_size=24, halfway_tree=True
            )
            for seed in seeds
        ]

    def __call__(self, sigma: Tensor, sigma_next: Tensor) -> Tensor:
        """Noise of unit variance for the step from sigma down to sigma_next: (batch, channels, height/8, width/8)."""
        low, high = (min(max(float(s), self._span[0]), self._span[1]) for s in (sigma_next, sigma))
        increments = torch.stack([path(low, high) for path in self._paths])
        return -increments / abs(float(sigma_next) - float(sigma)) ** 0.5  # walked downwards, hence the sign


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


def _generator(seed: int) -> torch.Generator:
    return torch.Generator("cpu").manual_seed(seed)


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
