"""A1111's samplers once more, written from papers and from what is told of the field, for a whole request: the oracle of test_field.py.

Everything is in float64 but the network, the noise and the levels, at whose last digits a Brownian path differs already; nothing of
webui.engine's samplers, schedules, guidance or generators is used.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise

import numpy as np
import torch
import torchsde
from torch import Tensor

ALPHAS = np.cumprod(1 - np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2)
SIGMAS = np.sqrt((1 - ALPHAS) / ALPHAS)
KNOWN = [*range(19, 1000, 20)]  # timesteps that consistency models are distilled on
KARRAS = ("DPM++ 2M", "DPM++ SDE", "DPM++ 2S a", "DPM2", "DPM2 a", "Restart")
EXPONENTIAL = ("DPM++ 2M SDE", "DPM++ 2M SDE Heun", "DPM++ 3M SDE")
ONE_LESS = ("DPM2", "DPM2 a", "DPM++ 3M SDE")
BROWNIAN = ("DPM++ SDE", "DPM++ 2M SDE", "DPM++ 2M SDE Heun", "DPM++ 3M SDE")

Eps = Callable[[Tensor, float], Tensor]
"""(latents of unit variance, timestep) -> the noise in them, guided."""
Pair = Callable[[Tensor, float], tuple[Tensor, Tensor]]
"""The same with the prompt and without it."""
Noise = Callable[[], Tensor]


def run(
    sampler: str,
    steps: int,
    pair: Pair,
    cfg: float,
    seeds: Sequence[int],
    shape: tuple[int, int, int],
    init: Tensor | None = None,
    strength: float = 1.0,
    mask: Tensor | None = None,
    eta_ddim: float = 0.0,
) -> Tensor:
    """The final latents of a request with the sampler's own schedule type; picture i has seeds[i].

    init: clean latents of img2img; strength: denoising strength; mask: (1, 1, h, w), 1 = repaint. eta_ddim: of DDIM and DDIM CFG++.
    """
    tail = None if init is None else int(min(strength, 0.999) * steps)
    init, mask = (torch.zeros(()) if init is None else init.double()), (torch.ones(()) if mask is None else mask.double())
    made = _run(sampler, steps, pair, cfg, seeds, shape, init, tail, mask, eta_ddim)
    return made * mask + init * (1 - mask)


def _run(sampler, steps, pair, cfg, seeds, shape, init, tail, mask, eta) -> Tensor:
    scale = cfg / 12.5 if sampler == "DDIM CFG++" else cfg

    def eps(x: Tensor, t: float) -> Tensor:
        with_prompt, without = pair(x, t)
        return without + scale * (with_prompt - without)

    generators = [torch.Generator().manual_seed(seed) for seed in seeds]

    def noise(*between: float) -> Tensor:
        return torch.stack([torch.randn(shape, generator=generator) for generator in generators]).double()

    first = noise()
    if sampler in TIMESTEP:
        way = consistent_timesteps(steps) if sampler == "TCD" else timesteps(steps)
        if tail is not None and sampler == "TCD":
            way = way[steps - 1 - tail :]
            first = math.sqrt(ALPHAS[way[0]]) * init + math.sqrt(1 - ALPHAS[way[0]]) * first
        elif tail is not None:
            way, top = way[len(way) - tail :], way[-1 - tail]
            first = math.sqrt(ALPHAS[top]) * init + math.sqrt(1 - ALPHAS[top]) * first

        def shown(ask: Callable[[Tensor, float], Tensor]) -> Callable[[Tensor, float], Tensor]:
            return lambda x, t: ask(x * mask + init * (1 - mask), t)

        if sampler == "DDIM CFG++":
            return ddim_cfgpp(first, shown(lambda x, t: torch.stack([eps(x, t), pair(x, t)[1]])), way, noise, eta)
        if sampler == "TCD":
            return tcd(first, shown(eps), way, noise)
        return ddim(first, shown(eps), way, noise, eta) if sampler == "DDIM" else plms(first, shown(eps), way)
    sigmas = levels(sampler, steps)
    if sampler in BROWNIAN:
        noise = brownian(sigmas, seeds, shape)
    if tail is not None:
        sigmas = sigmas[steps - tail - 1 :]

    def denoised(x: Tensor, sigma: float, ask: Eps = eps) -> Tensor:
        t = float(np.interp(math.log(sigma), np.log(SIGMAS), np.arange(1000)))
        seen = x - sigma * ask(x / math.hypot(1, sigma), t)
        return seen * mask + init * (1 - mask)

    if sampler == "LCM":
        return lcm(init + first * sigmas[0], eps, sigmas, noise, lambda seen: seen * mask + init * (1 - mask))
    if sampler == "Euler CFG++":
        return euler_cfgpp(init + first * sigmas[0], denoised, partial(denoised, ask=lambda x, t: pair(x, t)[1]), sigmas)
    return SIGMA[sampler](init + first * sigmas[0], denoised, sigmas, noise)


def levels(sampler: str, steps: int) -> list[float]:
    """Karras (rho 7), exponential, or even in timesteps; with one level more of which the last but one is left out where that is so.

    Consistency models know only each twentieth timestep's, between which logarithms are even.
    """
    count = steps + (sampler in ONE_LESS)
    alphas = torch.tensor(ALPHAS, dtype=torch.float32)
    trained = ((1 - alphas) / alphas) ** 0.5
    low, high = trained[0].item(), trained[-1].item()
    if sampler in KARRAS:
        made = (high ** (1 / 7) + torch.linspace(0, 1, count) * (low ** (1 / 7) - high ** (1 / 7))) ** 7
    elif sampler in EXPONENTIAL:
        made = torch.linspace(math.log(high), math.log(low), count).exp()
    elif sampler == "LCM":
        made = torch.tensor(np.exp(np.interp(np.linspace(999, 19, count), KNOWN, np.log(SIGMAS[KNOWN]))), dtype=torch.float32)
    else:
        made = torch.tensor(np.exp(np.interp(np.linspace(999, 0, count), np.arange(1000), np.log(SIGMAS))), dtype=torch.float32)
    return [*made[:-1].tolist(), 0.0] if sampler in ONE_LESS else [*made.tolist(), 0.0]


def rounded(*lambdas: Tensor) -> list[float]:
    """The levels of these -log sigma in float32."""
    return [each.neg().exp().item() for each in lambdas]


def brownian(sigmas: Sequence[float], seeds: Sequence[int], shape: tuple[int, int, int]) -> Callable[[float, float], Tensor]:
    """torchsde's tree for each picture, between the ends of the schedule."""
    low, high = (torch.tensor(level, dtype=torch.float32) for level in (min(filter(None, sigmas)), sigmas[0]))
    trees = [torchsde.BrownianTree(low, torch.zeros(shape), high, entropy=seed) for seed in seeds]

    def noise(sigma: float, sigma_next: float) -> Tensor:
        start, end = (torch.tensor(level, dtype=torch.float32) for level in (sigma_next, sigma))
        return -torch.stack([tree(start, end) for tree in trees]).double() / math.sqrt(sigma - sigma_next)

    return noise


def ancestral(sigma: float, sigma_next: float) -> tuple[float, float]:
    """(down, up)"""
    up = min(sigma_next, math.sqrt(sigma_next**2 * (sigma**2 - sigma_next**2) / sigma**2))
    return math.sqrt(sigma_next**2 - up**2), up


def steps_of(sigmas: Sequence[float]) -> list[tuple[float, float]]:
    return list(pairwise(sigmas))


def euler(x, denoised, sigmas, noise):
    for a, b in steps_of(sigmas):
        x = x + (x - denoised(x, a)) / a * (b - a)
    return x


def euler_a(x, denoised, sigmas, noise):
    for a, b in steps_of(sigmas):
        down, up = ancestral(a, b)
        x = x + (x - denoised(x, a)) / a * (down - a)
        x = x + noise() * up if b else x
    return x


def heun(x, denoised, sigmas, noise):
    for a, b in steps_of(sigmas):
        slope = (x - denoised(x, a)) / a
        there = x + slope * (b - a)
        x = x + (slope + (there - denoised(there, b)) / b) / 2 * (b - a) if b else there
    return x


def restart(x, denoised, sigmas, noise):
    """From 36 steps on twice a quarter of them, from 20 on nine of them, are spent on the way from 2 down to 0.1, once more each."""
    steps = len(sigmas) - 1
    length, times = (0, 0) if steps < 20 else (9, 1) if steps < 36 else (steps // 4, 2)
    whole = [*rooted(sigmas[0], sigmas[-2], steps - length * times), 0.0] if times else sigmas
    low, high = (min(range(len(whole)), key=lambda i: abs(whole[i] - level)) for level in (0.1, 2.0))
    again = rooted(whole[high], whole[low], length + 1) if times else []
    for number, part in enumerate([whole[: low + 1], *[again] * times, whole[low:]]):
        if times and 0 < number <= times:
            x = x + noise() * math.sqrt(whole[high] ** 2 - whole[low] ** 2)
        x = heun(x, denoised, part, noise)
    return x


def rooted(high: float, low: float, count: int) -> list[float]:
    return [(high ** (1 / 7) + i / (count - 1) * (low ** (1 / 7) - high ** (1 / 7))) ** 7 for i in range(count)]


def lms(x, denoised, sigmas, noise):
    slopes = []
    for i, (a, b) in enumerate(steps_of(sigmas)):
        slopes = [(x - denoised(x, a)) / a, *slopes[:3]]
        known = [sigmas[i - k] for k in range(len(slopes))]
        for j, slope in enumerate(slopes):
            others = known[:j] + known[j + 1 :]
            base = np.poly1d(np.poly(others) / np.prod([known[j] - other for other in others])).integ()
            x = x + slope * float(base(b) - base(a))
    return x


def midpoint(x, denoised, a, b):
    slope = (x - denoised(x, a)) / a
    if not b:
        return x + slope * (b - a)
    middle = math.sqrt(a * b)
    seen = x + slope * (middle - a)
    return x + (seen - denoised(seen, middle)) / middle * (b - a)


def dpm_2(x, denoised, sigmas, noise):
    for a, b in steps_of(sigmas):
        x = midpoint(x, denoised, a, b)
    return x


def dpm_2_a(x, denoised, sigmas, noise):
    for a, b in steps_of(sigmas):
        down, up = ancestral(a, b)
        x = midpoint(x, denoised, a, down)
        x = x + noise() * up if b else x
    return x


def dpmpp_2m(x, denoised, sigmas, noise):
    before = None
    for i, (a, b) in enumerate(steps_of(sigmas)):
        seen = denoised(x, a)
        if before is None or not b:
            target = seen
        else:
            ratio = math.log(sigmas[i - 1] / a) / math.log(a / b)
            target = (1 + 1 / (2 * ratio)) * seen - 1 / (2 * ratio) * before
        x, before = b / a * x + (1 - b / a) * target, seen
    return x


def dpmpp_2s_a(x, denoised, sigmas, noise):
    for a, b in steps_of(sigmas):
        down, up = ancestral(a, b)
        seen = denoised(x, a)
        if down:
            middle = math.sqrt(a * down)
            seen = denoised(middle / a * x + (1 - middle / a) * seen, middle)
        x = down / a * x + (1 - down / a) * seen
        x = x + noise() * up if b else x
    return x


def dpmpp_sde(x, denoised, sigmas, noise):
    for a, b in steps_of(sigmas):
        seen = denoised(x, a)
        if not b:
            return seen
        start, end = (-torch.tensor(level, dtype=torch.float32).log() for level in (a, b))
        a, middle, b = rounded(start, start + (end - start) * 0.5, end)
        down, up = ancestral(a, middle)
        there = down / a * x + (1 - down / a) * seen + noise(a, middle) * up
        down, up = ancestral(a, b)
        x = down / a * x + (1 - down / a) * denoised(there, middle) + noise(a, b) * up
    return x


def dpmpp_sde_multistep(x, denoised, sigmas, noise, order, heun=False):
    seen, lengths = [], []
    for a, b in steps_of(sigmas):
        seen = [denoised(x, a), *seen[:2]]
        if not b:
            return seen[0]
        h = math.log(a / b)
        x = b / a * math.exp(-h) * x + (1 - math.exp(-2 * h)) * seen[0]
        if order == 2 and lengths:
            gain = 1 - (1 - math.exp(-2 * h)) / (2 * h) if heun else 0.5 * (1 - math.exp(-2 * h))
            x = x + gain * h / lengths[0] * (seen[0] - seen[1])
        elif lengths:
            phi_2 = math.expm1(-2 * h) / (2 * h) + 1
            slopes = [(seen[k] - seen[k + 1]) / (lengths[k] / h) for k in range(len(lengths))]
            if len(slopes) == 1:
                x = x + phi_2 * slopes[0]
            else:
                near, far = (length / h for length in lengths)
                bend = (slopes[0] - slopes[1]) / (near + far)
                x = x + phi_2 * (slopes[0] + bend * near) - (phi_2 / (2 * h) - 0.5) * bend
        x, lengths = x + noise(a, b) * b * math.sqrt(1 - math.exp(-2 * h)), [h, *lengths[:1]]
    return x


def timesteps(steps: int) -> list[int]:
    return [min(t + 1, 999) for t in range(0, 1000, 1000 // steps)][::-1]


def consistent_timesteps(steps: int) -> list[int]:
    """Even ones of the fifty that consistency models are distilled on, then 0."""
    known = KNOWN[::-1]
    return [*(known[i * 50 // steps] for i in range(steps)), 0]


def move(x: Tensor, eps: Tensor, t: int, t_next: int) -> Tensor:
    """DDIM's step (arXiv:2010.02502, equation 12, eta 0)."""
    a, b = ALPHAS[t], ALPHAS[t_next]
    return math.sqrt(b) * (x - math.sqrt(1 - a) * eps) / math.sqrt(a) + math.sqrt(1 - b) * eps


def renewed(t: int, t_next: int, eta: float) -> float:
    """The deviation of the noise that is renewed (arXiv:2010.02502, equation 16), never more than there is to be."""
    a, b = ALPHAS[t], ALPHAS[t_next]
    return min(eta * math.sqrt((1 - b) / (1 - a)) * math.sqrt(1 - a / b), math.sqrt(1 - b))


def ddim(x: Tensor, eps: Eps, way: Sequence[int], noise: Noise, eta: float) -> Tensor:
    return ddim_cfgpp(x, lambda x, t: (eps(x, t),) * 2, way, noise, eta)


def ddim_cfgpp(x: Tensor, both: Pair, way: Sequence[int], noise: Noise, eta: float) -> Tensor:
    """The clean latents by the guided noise, with the noise that is seen without the prompt put back on (arXiv:2406.08070, Algorithm 2)."""
    for t, t_next in steps_of(way):
        guided, without = both(x, t)
        a, b, fresh = ALPHAS[t], ALPHAS[t_next], renewed(t, t_next, eta)
        x = math.sqrt(b) * (x - math.sqrt(1 - a) * guided) / math.sqrt(a) + math.sqrt(max(1 - b - fresh**2, 0)) * without
        x = x + noise() * fresh if fresh else x
    return x


def tcd(x: Tensor, eps: Eps, way: Sequence[int], noise: Noise, gamma: float = 0.3) -> Tensor:
    """Strategic stochastic sampling (arXiv:2402.19159, Algorithm 4): to timestep (1 - gamma) * t_next without noise, then up to t_next."""
    for t, t_next in steps_of(way):
        s = (10 - round(10 * gamma)) * t_next // 10
        x = move(x, eps(x, t), t, s)
        if t_next:
            kept = ALPHAS[t_next] / ALPHAS[s]
            x = math.sqrt(kept) * x + math.sqrt(1 - kept) * noise()
    return x


def lcm(x, eps, sigmas, noise, kept):
    """Multistep consistency sampling (arXiv:2303.01469, Algorithm 1), with the boundary of arXiv:2310.04378."""
    for a, b in steps_of(sigmas):
        t = min(KNOWN, key=lambda known: (round(abs(math.log(SIGMAS[known] / a)), 6), -known))  # of two equally near the higher
        clean = x - a * eps(x / math.hypot(1, a), t)
        whole = (10 * t) ** 2 + 0.25
        x = kept(10 * t / math.sqrt(whole) * clean + 0.25 / whole * x)
        x = x + noise() * b if b else x
    return x


def euler_cfgpp(x, guided, without, sigmas):
    for a, b in steps_of(sigmas):
        x = guided(x, a) + (x - without(x, a)) / a * b
    return x


def plms(x: Tensor, eps: Eps, way: Sequence[int]) -> Tensor:
    old: list[Tensor] = []
    for t, t_next in steps_of(way):
        new = eps(x, t)
        if not old:
            mixed = (new + eps(move(x, new, t, t_next), t_next)) / 2
        else:
            parts = {1: (3, -1), 2: (23, -16, 5), 3: (55, -59, 37, -9)}[len(old)]
            mixed = sum(part * each for part, each in zip(parts, [new, *old], strict=True)) / sum(parts)
        x, old = move(x, mixed, t, t_next), [new, *old[:2]]
    return x


SIGMA = {
    "Euler": euler,
    "Euler a": euler_a,
    "Heun": heun,
    "LMS": lms,
    "DPM2": dpm_2,
    "DPM2 a": dpm_2_a,
    "DPM++ 2M": dpmpp_2m,
    "DPM++ 2S a": dpmpp_2s_a,
    "DPM++ SDE": dpmpp_sde,
    "DPM++ 2M SDE": lambda *run: dpmpp_sde_multistep(*run, order=2),
    "DPM++ 2M SDE Heun": lambda *run: dpmpp_sde_multistep(*run, order=2, heun=True),
    "DPM++ 3M SDE": lambda *run: dpmpp_sde_multistep(*run, order=3),
    "Restart": restart,
}
TIMESTEP = ("DDIM", "PLMS", "DDIM CFG++", "TCD")
CFGPP = ("Euler CFG++",)
CONSISTENT = ("LCM",)
