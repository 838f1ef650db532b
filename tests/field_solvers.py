"""The samplers and schedule types that tests/field.py leaves out, from papers and from what is told of the field.

Solvers are called as those of tests/field.py: (x, denoised, sigmas, noise) -> x, in float64 or, where `sigmas` are tensors, in theirs.
"""

import math
from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from scipy import integrate, special
from torch import Tensor

from tests.field import KARRAS, ONE_LESS, SIGMAS, ancestral, steps_of

HIGH, LOW = float(np.float32(SIGMAS[-1])), float(np.float32(SIGMAS[0]))
ALIGNED = (14.615, 6.475, 3.861, 2.697, 1.886, 1.396, 0.963, 0.652, 0.399, 0.152, 0.029)


def at(t: float) -> float:
    """The level of a broken timestep."""
    return math.exp(np.interp(t, np.arange(1000), np.log(SIGMAS)))


def time_of(sigma: float) -> float:
    return float(np.interp(math.log(sigma), np.log(SIGMAS), np.arange(1000)))


def levels(label: str, count: int, low: float = LOW, high: float = HIGH, rho: float = 0.0, ab: tuple[float, float] = (0.6, 0.6)) -> list:
    """The levels of a schedule type, the 0 at the end with them."""
    parts = [i / max(count - 1, 1) for i in range(count)]
    made = {
        "Uniform": lambda: [at(999 - 999 * p) for p in parts],
        "Normal": lambda: [at(time_of(high) + p * (time_of(low) - time_of(high))) for p in parts],
        "SGM Uniform": lambda: [at(time_of(high) + i / count * (time_of(low) - time_of(high))) for i in range(count)],
        "Karras": lambda: [((1 - p) * high ** (1 / (rho or 7)) + p * low ** (1 / (rho or 7))) ** (rho or 7) for p in parts],
        "Exponential": lambda: [high ** (1 - p) * low**p for p in parts],
        "Polyexponential": lambda: [low * (high / low) ** ((1 - p) ** (rho or 1)) for p in parts],
        "KL Optimal": lambda: [math.tan(i / count * math.atan(low) + (1 - i / count) * math.atan(high)) for i in range(count + 1)],
        "Align Your Steps": lambda: ALIGNED if count == 11 else _aligned(count),
        "Simple": lambda: [SIGMAS[999 - int(i * 1000 / count)] for i in range(count)],
        "DDIM": lambda: [SIGMAS[t] for t in range(1, 1000, max(1000 // count, 1))][::-1],
        "Beta": lambda: [low + special.betaincinv(*ab, 1 - p) * (high - low) for p in parts],
        "Turbo": lambda: [SIGMAS[round((i + 1) * 1000 / count) - 1] for i in range(count)][::-1],
    }[label]()
    return [*made] if label == "KL Optimal" else [*made, 0.0]


def _aligned(count: int) -> list[float]:
    """Even in the number of the level, counted from the lowest: which is all that one step has."""
    places = [10 * i / max(count - 1, 1) for i in range(count)]
    return [math.exp(np.interp(place, range(11), np.log(ALIGNED[::-1]))) for place in reversed(places)]


def own_levels(sampler: str, label: str, count: int, discard: bool = False, **options: float) -> list:
    """With what the sampler's own type is, and with the last level but one left out where that is so."""
    if label == "Automatic":
        label = "Karras" if sampler in KARRAS else "Exponential" if "SDE" in sampler else "Uniform"
    if not (discard or sampler in ONE_LESS):
        return levels(label, count, **options)
    *kept, _, last = levels(label, count + 1, **options)
    return [*kept, last]


def heunpp2(x, denoised, sigmas, noise):
    """Heun++ of two levels ahead; every level ahead weighs its share of the first, the present one what is left."""
    for i in range(len(sigmas) - 1):
        ahead = sigmas[i + 1 : -1][:2]
        places, seen = [sigmas[i], *ahead], [x]
        slopes = []
        for k, level in enumerate(places):
            slopes.append((seen[k] - denoised(seen[k], level)) / level)
            if k + 1 < len(places):
                seen.append(seen[k] + slopes[k] * (places[k + 1] - level))
        shares = [level / (len(places) * sigmas[0]) for level in ahead]
        mean = sum((share * slope for share, slope in zip(shares, slopes[1:], strict=True)), (1 - sum(shares)) * slopes[0])
        x = x + mean * (sigmas[i + 1] - sigmas[i])
    return x


def ipndm(x, denoised, sigmas, noise):
    parts = ((1,), (3, -1), (23, -16, 5), (55, -59, 37, -9))
    old = []
    for a, b in steps_of(sigmas):
        seen = denoised(x, a)
        old = [(x - seen) / a, *old[:3]]
        chosen = parts[len(old) - 1]
        x = x + (b - a) * sum(part * each for part, each in zip(chosen, old, strict=True)) / sum(chosen) if b else seen
    return x


def deis(x, denoised, sigmas, noise):
    """Polynomials of order 3 in the time of the authors' VP process, integrated by a sum of 10,000 terms in float32."""
    low, high = math.log1p(0.002**2), math.log1p(80.0**2)
    rise = 2 * (low / 1e-3 - high) / (1e-3 - 1)
    first = high - rise / 2
    times = [(math.sqrt(first**2 + 2 * rise * math.log1p(float(s) ** 2)) - first) / rise for s in sigmas]
    old = []
    for i, (a, b) in enumerate(steps_of(sigmas)):
        seen = denoised(x, a)
        old = [(x - seen) / a, *old[:2]]
        known = [times[i - k] for k in range(len(old))]
        if not b or len(old) == 1:
            x = x + old[0] * (b - a)
            continue
        t = torch.linspace(times[i], times[i + 1], 10_000, dtype=torch.float64)
        alpha = torch.exp(-rise * t**2 / 2 - first * t)
        growth = (rise * t + first) / (2 * torch.sqrt(alpha * (1 - alpha))) * (times[i + 1] - times[i]) / 10_000
        for j, slope in enumerate(old):
            base = torch.ones_like(t)
            for k, other in enumerate(known):
                base = base * (t - other) / (known[j] - other) if k != j else base
            x = x + slope * float((growth * base).sum())
    return x


def dpm_fast(x, denoised, sigmas, noise, calls, eta=1.0, s_noise=1.0):
    """DPM-Solver-fast from sigmas[0] to sigmas[-1]: even steps in log sigma, orders 3 ... and then what is left of the calls."""
    orders = [3] * (calls // 3 - 1) + [2, 1] if calls % 3 == 0 else [3] * (calls // 3) + [calls % 3]
    start, end = -math.log(sigmas[0]), -math.log(sigmas[-1])
    for i, order in enumerate(orders):
        t, t_next = (start + (end - start) * k / len(orders) for k in (i, i + 1))
        down, _ = ancestral_by(math.exp(-t), math.exp(-t_next), eta)
        landing = min(end, -math.log(down)) if down else end
        x = dpm_solver(x, denoised, t, landing, order)
        x = x + noise() * s_noise * math.sqrt(max(math.exp(-2 * t_next) - math.exp(-2 * landing), 0))
    return x


def dpm_solver(x, denoised, t, landing, order, r=0.0):
    """One step of DPM-Solver (arXiv:2206.00927, Algorithms 1, 4 and 5) at alpha 1."""

    def eps(x, t):
        return (x - denoised(x, math.exp(-t))) / math.exp(-t)

    h, here = landing - t, eps(x, t)
    plain = x - math.exp(-landing) * math.expm1(h) * here
    if order == 1:
        return plain
    r = r or {2: 1 / 2, 3: 1 / 3}[order]
    change = eps(x - math.exp(-t - r * h) * math.expm1(r * h) * here, t + r * h) - here
    if order == 2:
        return plain - math.exp(-landing) / (2 * r) * math.expm1(h) * change
    g = 2 / 3 * h
    far = x - math.exp(-t - g) * (math.expm1(g) * here + 2 * (math.expm1(g) / g - 1) * change)
    return plain - math.exp(-landing) * 1.5 * (math.expm1(h) / h - 1) * (eps(far, t + g) - here)


def dpm_adaptive(x, denoised, sigmas, noise, eta=1.0):
    """DPM-Solver-23: steps that rise and fall with the distance between both orders, in parts of its tolerance."""
    t, end, h, before = -math.log(sigmas[0]), -math.log(sigmas[-1]), 0.05, x
    while t < end - 1e-5:
        t_next = min(end, t + h)
        down, _ = ancestral_by(math.exp(-t), math.exp(-t_next), eta)
        landing = min(end, -math.log(down)) if down else end
        low, high = dpm_solver(x, denoised, t, landing, 2, 1 / 3), dpm_solver(x, denoised, t, landing, 3)
        bound = torch.maximum(torch.tensor(0.0078, dtype=x.dtype), 0.05 * torch.maximum(low.abs(), before.abs()))
        error = float((((low - high) / bound) ** 2).mean().sqrt())
        factor = 1 + math.atan((1 / (error + 1e-8)) ** (1 / (1.5 if eta else 3)) - 1)
        h *= factor
        if factor >= 0.81:
            before, t = low, t_next
            x = high + noise() * math.sqrt(max(math.exp(-2 * t_next) - math.exp(-2 * landing), 0))
    return x


def unipc_orders(steps: int, order: int, lower: bool) -> list[int]:
    """Up to its order, then on, and down again at the end only."""
    return [min(k, order) if k < order or not lower else min(order, steps + 1 - k) for k in range(1, steps + 1)]


def unipc(x, denoised, sigmas, noise, order=3, grows=False, lower=True):
    """UniPC (arXiv:2302.04867, Algorithms 5 to 7). grows: B(h) = e^h - 1."""
    steps, times = len(sigmas) - 1, [-math.log(sigma) for sigma in sigmas]
    seen = [denoised(x, sigmas[0])]
    for k, now in enumerate(unipc_orders(steps, order, lower), 1):
        h = times[k] - times[k - 1]
        ratios = [(times[k - 1 - i] - times[k - 1]) / h for i in range(1, now)] + [1.0]
        slopes = [(seen[-1 - i] - seen[-1]) / ratios[i - 1] for i in range(1, now)]
        scale = math.expm1(-h) if grows else -h
        rows = [[ratio**i for ratio in ratios] for i in range(now)]
        wanted, phi, factorial = [], math.expm1(-h) / -h - 1, 1
        for i in range(1, now + 1):
            wanted.append(phi * factorial / scale)
            factorial *= i + 1
            phi = phi / -h - 1 / factorial
        plain = sigmas[k] / sigmas[k - 1] * x - math.expm1(-h) * seen[-1]
        guess = [0.5] if now == 2 else np.linalg.solve(np.array(rows)[:-1, :-1], wanted[:-1])
        x = plain - scale * sum(float(w) * slope for w, slope in zip(guess, slopes, strict=True)) if slopes else plain
        if k < steps:
            seen.append(denoised(x, sigmas[k]))
            shares = [0.5] if now == 1 else np.linalg.solve(rows, wanted)
            x = plain - scale * sum(float(w) * d for w, d in zip(shares, [*slopes, seen[-1] - seen[-2]], strict=True))
    return x


def unipc_exactly(x, denoised, sigmas, noise, order=3, lower=True):
    """UniPC of varying coefficients: the polynomial through the answers, integrated against e^lambda by Gauss and Legendre's rule."""
    steps, times = len(sigmas) - 1, [-math.log(sigma) for sigma in sigmas]
    places, shares = np.polynomial.legendre.leggauss(40)

    def solved(x, k, known, answers):
        """From times[k - 1] to times[k]; known: times of `answers`."""
        a, b = times[k - 1], times[k]
        at = (a + b) / 2 + (b - a) / 2 * places
        x = sigmas[k] / sigmas[k - 1] * x
        for j, answer in enumerate(answers):
            base = np.prod([(at - t) / (known[j] - t) for i, t in enumerate(known) if i != j], axis=0)
            x = x + sigmas[k] * (b - a) / 2 * float((shares * np.exp(at) * base).sum()) * answer
        return x

    seen = [denoised(x, sigmas[0])]
    for k, now in enumerate(unipc_orders(steps, order, lower), 1):
        known = [times[k - 1 - i] for i in range(now)]
        guess = solved(x, k, known, seen[:now])
        if k < steps:
            ahead = denoised(guess, sigmas[k])
            x = solved(x, k, [times[k], *known], [ahead, *seen[:now]])
            seen = [ahead, *seen]
    return guess


def ancestral_by(sigma: float, sigma_next: float, eta: float) -> tuple[float, float]:
    """(down, up) for an eta of any size."""
    up = min(sigma_next, eta * ancestral(sigma, sigma_next)[1]) if sigma_next else 0.0
    return math.sqrt(max(sigma_next**2 - up**2, 0)), up


def dpm_2_a(x, denoised, sigmas, noise, eta=1.0, s_noise=1.0):
    """k-diffusion's: noise comes after the midpoint rule alone, not after a plain step down to 0."""
    for a, b in steps_of(sigmas):
        down, up = ancestral_by(a, b, eta)
        slope = (x - denoised(x, a)) / a
        if not down:
            x = x - slope * a
            continue
        middle = math.sqrt(a * down)
        there = x + slope * (middle - a)
        x = x + (there - denoised(there, middle)) / middle * (down - a) + noise() * up * s_noise
    return x


def heun_in_float32(x: Tensor, denoised, sigmas: Sequence[Tensor], noise) -> Tensor:
    """Karras et al.'s second-order rule operation for operation: next to sigma 4518 the rounding is a part of the picture."""
    for a, b in steps_of(sigmas):
        slope = (x - denoised(x, a)) / a
        there = x + slope * (b - a)
        if b > 0:
            there = x + (slope + (there - denoised(there, b)) / b) / 2 * (b - a)
        x = there
    return x


def lms_in_float32(x: Tensor, denoised, sigmas: Sequence[Tensor], noise) -> Tensor:
    """LMS of order 4; weights in float64, but for the distances of the levels, which are float32's, as are all sums of latents."""
    slopes: list[Tensor] = []
    levels = [np.float32(sigma) for sigma in sigmas]
    for i, (a, b) in enumerate(steps_of(sigmas)):
        slopes = [(x - denoised(x, a)) / a, *slopes[:3]]
        known = [levels[i - k] for k in range(len(slopes))]
        total = torch.zeros_like(x)
        for j, slope in enumerate(slopes):
            others = known[:j] + known[j + 1 :]
            base = partial(lambda t, others, tau: math.prod((tau - float(o)) / float(t - o) for o in others), known[j], others)
            total = total + slope * integrate.quad(base, float(a), float(b), epsrel=1e-4)[0]
        x = x + total
    return x
