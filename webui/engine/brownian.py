"""Brownian paths for SDE samplers: noise at any two levels of one path, so that more steps refine the same picture.

The paths are those of torchsde's BrownianInterval with a halfway tree (Kidger et al. 2021, arXiv:2105.13493, section 4), which the
field's pictures are made with: every interval is halved, its middle displaced by noise of the interval's own seed, down to 1e-6. Here a
point costs one noise for each halving, and the halvings that it shares with the point before cost nothing.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

DIGITS = 6  # of sigma, after the point: how finely a path is known
POOL = 24  # words of numpy's seed sequence; part of what decides the noise

DrawFrom = Callable[[int], Tensor]
"""seed -> noise of unit variance, float32."""


class BrownianNoise:
    """Noise for SDE samplers: increments of one Brownian path over sigma per image.

    draw: seed -> noise of one picture's shape. span: smallest and largest sigma of the whole schedule, also where only its tail is walked.
    """

    def __init__(self, draw: DrawFrom, seeds: Sequence[int], span: tuple[float, float]) -> None:
        self._span = (round(span[0], DIGITS), round(span[1], DIGITS))  # what lies beyond is held
        self._paths = [_Path(draw, seed, span) for seed in seeds]

    def __call__(self, sigma: Tensor, sigma_next: Tensor) -> Tensor:
        """Noise of unit variance for the step from sigma down to sigma_next: (batch, *shape), float32."""
        low, high = (min(max(float(s), self._span[0]), self._span[1]) for s in (sigma_next, sigma))
        scale = -(abs(float(sigma_next) - float(sigma)) ** -0.5)  # walked downwards, hence the sign
        return torch.stack([((path.at(high) - path.at(low)) * scale).float() for path in self._paths])


class _Path:
    """One path: its value at any level, 0 at the lowest, in float64, so that near levels have an exact difference."""

    def __init__(self, draw: DrawFrom, seed: int, span: tuple[float, float]) -> None:
        self._draw, self._seed = draw, seed
        self._start, self._end = round(span[0], DIGITS), round(span[1], DIGITS)
        root = np.random.SeedSequence(entropy=seed, pool_size=POOL).generate_state(3)[0]
        self._whole = draw(int(root)).double() * math.sqrt(span[1] - span[0])
        self._walk: list[tuple[int, Tensor]] = []  # of the last point, by depth: which interval, and its left half's increment
        self._known: dict[float, Tensor] = {}  # the last two points: the end of a step is the beginning of the next

    def at(self, level: float) -> Tensor:
        """The path's value at `level`, which lies within the span."""
        level = round(level, DIGITS)
        if level not in self._known:
            latest = list(self._known.items())[-1:]
            self._known = dict(latest) | {level: self._value(level)}
        return self._known[level]

    def _value(self, level: float) -> Tensor:
        if level in (self._start, self._end):
            return self._whole if level == self._end else torch.zeros_like(self._whole)
        start, end, whole, before = self._start, self._end, self._whole, torch.zeros_like(self._whole)
        place = depth = 0
        while True:
            middle = round((start + end) / 2, DIGITS)
            left = self._left(place, depth, whole, (middle - start, end - middle, end - start))
            if level == middle:
                return before + left
            place, depth = 2 * place + (level > middle), depth + 1
            if level < middle:
                end, whole = middle, left
            else:
                start, whole, before = middle, whole - left, before + left

    def _left(self, place: int, depth: int, whole: Tensor, lengths: tuple[float, float, float]) -> Tensor:
        """The left half's increment, of the interval number `place` of those at `depth`. lengths: of left half, right half, both."""
        if depth < len(self._walk) and self._walk[depth][0] == place:
            return self._walk[depth][1]
        left, right, both = lengths
        seed = np.random.SeedSequence(entropy=self._seed, spawn_key=(place, depth), pool_size=POOL).generate_state(4)[0]
        half = torch.add(whole * (left / both), self._draw(int(seed)), alpha=math.sqrt(left * right / both))
        self._walk[depth:] = [(place, half)]
        return half
