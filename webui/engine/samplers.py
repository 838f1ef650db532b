"""Samplers: generators that walk noisy latents down a list of noise levels. One function and one row of SAMPLERS each.

All of them work on x = signal + sigma * noise, the ones that the field writes for latents of unit variance (DDIM, PLMS, UniPC) too:
the change of scale is exact, and `schedules.Plan` makes it at start and end.

Common to all: denoise(x, sigma, call) gives the clean latents; x: (batch, channels, height/8, width/8); sigmas: (steps + 1,), falling,
float32 on the CPU, so that no arithmetic on them waits for a device; noise(sigma, sigma_next): unit variance, shaped like x.
"""

from collections.abc import Callable, Generator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from webui.engine.denoiser import Denoise

Noise = Callable[[Tensor, Tensor], Tensor]
Steps = Generator["Step", None, None]


@dataclass(frozen=True)
class Step:
    """Step `index` is done: x is what it led to, denoised the clean latents that the network saw on the way."""

    index: int
    x: Tensor
    denoised: Tensor


@dataclass(frozen=True)
class Sampler:
    """sample: (denoise, x, sigmas[, noise]) -> steps. noise: "none", "image" (each image's generator) or "brownian"."""

    sample: Callable[..., Steps]
    noise: str = "none"


def sample_euler(denoise: Denoise, x: Tensor, sigmas: Tensor) -> Steps:
    """Euler's rule: Karras et al. 2022 (arXiv:2206.00364), Algorithm 2 with no churn. On DDIM's levels it is DDIM with eta 0."""
    for i in range(len(sigmas) - 1):
        denoised = denoise(x, sigmas[i], i)
        x = _towards(x, denoised, sigmas[i + 1] / sigmas[i])
        yield Step(i, x, denoised)


def sample_euler_ancestral(denoise: Denoise, x: Tensor, sigmas: Tensor, noise: Noise) -> Steps:
    """Euler down to below the next level, then noise up to it: Song et al. 2020 (arXiv:2010.02502) with eta 1."""
    for i in range(len(sigmas) - 1):
        denoised = denoise(x, sigmas[i], i)
        down, up = _ancestral_levels(sigmas[i], sigmas[i + 1])
        x = _towards(x, denoised, down / sigmas[i])
        if up > 0:
            x = x + noise(sigmas[i], sigmas[i + 1]) * up
        yield Step(i, x, denoised)


def sample_heun(denoise: Denoise, x: Tensor, sigmas: Tensor) -> Steps:
    """Heun's second-order rule: arXiv:2206.00364, Algorithm 1; the step to sigma 0 is Euler's."""
    for i in range(len(sigmas) - 1):
        denoised = denoise(x, sigmas[i], 2 * i)
        x_next = _towards(x, denoised, sigmas[i + 1] / sigmas[i])
        if sigmas[i + 1] > 0:
            slope = (x - denoised) / sigmas[i]
            slope_next = (x_next - denoise(x_next, sigmas[i + 1], 2 * i + 1)) / sigmas[i + 1]
            x_next = x + (slope + slope_next) * ((sigmas[i + 1] - sigmas[i]) / 2)
        x = x_next
        yield Step(i, x, denoised)


def sample_lms(denoise: Denoise, x: Tensor, sigmas: Tensor, order: int = 4) -> Steps:
    """Linear multistep (Adams-Bashforth on uneven levels): the slopes of up to `order` steps, extrapolated by a polynomial."""
    slopes: list[Tensor] = []  # newest first
    for i in range(len(sigmas) - 1):
        denoised = denoise(x, sigmas[i], i)
        slopes = [(x - denoised) / sigmas[i], *slopes[: order - 1]]
        levels = sigmas[i - len(slopes) + 1 : i + 1].flip(0).double().numpy()
        weights = _integrated_lagrange(levels, float(sigmas[i]), float(sigmas[i + 1]))
        x = x + sum(weight * slope for weight, slope in zip(weights, slopes, strict=True))
        yield Step(i, x, denoised)


def sample_plms(denoise: Denoise, x: Tensor, sigmas: Tensor) -> Steps:
    """Pseudo linear multistep: Liu et al. 2022 (arXiv:2202.09778), with a Heun-like first step, which takes a second call."""
    older: list[Tensor] = []  # slopes, newest first
    for i in range(len(sigmas) - 1):
        slope = (x - denoise(x, sigmas[i], i + (i > 0))) / sigmas[i]
        if older:
            history = [slope, *older]
            blend = sum(weight * past for weight, past in zip(PLMS_WEIGHTS[len(older)], history, strict=True))
        else:
            x_next = x + slope * (sigmas[1] - sigmas[0])
            blend = (slope + (x_next - denoise(x_next, sigmas[1], 1)) / sigmas[1]) / 2
        older = [slope, *older[:2]]
        denoised = x - blend * sigmas[i]
        x = denoised + blend * sigmas[i + 1]
        yield Step(i, x, denoised)


PLMS_WEIGHTS = {  # number of older slopes -> weights, newest first
    1: (3 / 2, -1 / 2),
    2: (23 / 12, -16 / 12, 5 / 12),
    3: (55 / 24, -59 / 24, 37 / 24, -9 / 24),
}


def sample_dpmpp_2m(denoise: Denoise, x: Tensor, sigmas: Tensor) -> Steps:
    """DPM-Solver++(2M): Lu et al. 2022 (arXiv:2211.01095), Algorithm 2; the first step and the one to sigma 0 are of first order."""
    previous: Tensor | None = None
    lambdas = -sigmas.log()
    for i in range(len(sigmas) - 1):
        denoised = denoise(x, sigmas[i], i)
        target = denoised
        if previous is not None and sigmas[i + 1] > 0:
            ratio = (lambdas[i] - lambdas[i - 1]) / (lambdas[i + 1] - lambdas[i])
            target = denoised + (denoised - previous) / (2 * ratio)
        x = _towards(x, target, sigmas[i + 1] / sigmas[i])
        previous = denoised
        yield Step(i, x, denoised)


def sample_dpmpp_2m_sde(denoise: Denoise, x: Tensor, sigmas: Tensor, noise: Noise) -> Steps:
    """SDE-DPM-Solver++(2M), eta 1, midpoint form: arXiv:2211.01095, equation 19 and appendix; noise from a Brownian path."""
    previous: Tensor | None = None
    lambdas = -sigmas.log()
    for i in range(len(sigmas) - 1):
        denoised = denoise(x, sigmas[i], i)
        if sigmas[i + 1] == 0:
            x = denoised
        else:
            h = lambdas[i + 1] - lambdas[i]
            decay = torch.exp(-h) * sigmas[i + 1] / sigmas[i]
            gain = -torch.expm1(-2 * h)
            x = x * decay + denoised * gain
            if previous is not None:
                ratio = (lambdas[i] - lambdas[i - 1]) / h
                x = x + (denoised - previous) * (gain / (2 * ratio))
            x = x + noise(sigmas[i], sigmas[i + 1]) * (sigmas[i + 1] * gain.sqrt())
        previous = denoised
        yield Step(i, x, denoised)


def sample_dpmpp_sde(denoise: Denoise, x: Tensor, sigmas: Tensor, noise: Noise) -> Steps:
    """SDE-DPM-Solver++(2S), eta 1: a half step in log sigma, then the whole one; noise from a Brownian path (arXiv:2211.01095)."""
    lambdas = -sigmas.log()
    levels = torch.exp(-lambdas)  # sigmas, but for the rounding, which counts: the path is asked at exactly these
    for i in range(len(sigmas) - 1):
        denoised = denoise(x, sigmas[i], 2 * i)
        if sigmas[i + 1] == 0:
            x = denoised
        else:
            middle = torch.exp(-(lambdas[i] + (lambdas[i + 1] - lambdas[i]) * 0.5))
            down, up = _ancestral_levels(levels[i], middle)
            x_middle = _towards(x, denoised, down / levels[i]) + noise(levels[i], middle) * up
            denoised_middle = denoise(x_middle, middle, 2 * i + 1)
            down, up = _ancestral_levels(levels[i], levels[i + 1])
            x = _towards(x, denoised_middle, down / levels[i]) + noise(levels[i], levels[i + 1]) * up
        yield Step(i, x, denoised)


def sample_unipc(denoise: Denoise, x: Tensor, sigmas: Tensor, order: int = 3) -> Steps:
    """UniPC, bh1, predicting data, lower orders at both ends: Zhao et al. 2023 (arXiv:2302.04867), Algorithms 5 to 7.

    Each call serves twice: it corrects the step that led to its level, and it predicts the next.
    """
    lambdas = -sigmas.log()
    steps = len(sigmas) - 1
    seen: list[Tensor] = []  # denoised at the levels behind, newest first
    corrected_order, x_before = 0, x
    for i in range(steps):
        denoised = denoise(x, sigmas[i], i)
        if i > 0:
            x = _unipc_step(x_before, seen[:corrected_order], denoised, lambdas[i - corrected_order : i + 1])
        seen = [denoised, *seen[: order - 1]]
        corrected_order, x_before = min(i + 1, order, steps - i), x
        x = _unipc_step(x, seen[:corrected_order], None, lambdas[i - corrected_order + 1 : i + 2])
        yield Step(i, x, denoised)


def sample_lcm(denoise: Denoise, x: Tensor, sigmas: Tensor, noise: Noise) -> Steps:
    """Latent consistency: jump to the clean latents, put noise of the next level on: Luo et al. 2023 (arXiv:2310.04378)."""
    for i in range(len(sigmas) - 1):
        denoised = denoise(x, sigmas[i], i)
        x = denoised + noise(sigmas[i], sigmas[i + 1]) * sigmas[i + 1] if sigmas[i + 1] > 0 else denoised
        yield Step(i, x, denoised)


SAMPLERS: dict[str, Sampler] = {
    "DPM++ 2M": Sampler(sample_dpmpp_2m),
    "DPM++ SDE": Sampler(sample_dpmpp_sde, "brownian"),
    "DPM++ 2M SDE": Sampler(sample_dpmpp_2m_sde, "brownian"),
    "Euler a": Sampler(sample_euler_ancestral, "image"),
    "Euler": Sampler(sample_euler),
    "LMS": Sampler(sample_lms),
    "Heun": Sampler(sample_heun),
    "DDIM": Sampler(sample_euler),
    "PLMS": Sampler(sample_plms),
    "UniPC": Sampler(sample_unipc),
    "LCM": Sampler(sample_lcm, "image"),
}


def _towards(x: Tensor, denoised: Tensor, left: Tensor) -> Tensor:
    """x moved along the straight line to `denoised` until the part `left` of its noise is left: the exact step for a fixed `denoised`."""
    return torch.lerp(denoised, x, left.item())


def _ancestral_levels(sigma: Tensor, sigma_next: Tensor) -> tuple[Tensor, Tensor]:
    """(down, up) with down^2 + up^2 = sigma_next^2: where to step to, and how much new noise brings it back (eta 1)."""
    up = torch.minimum(sigma_next, (sigma_next**2 * (sigma**2 - sigma_next**2) / sigma**2).sqrt())
    return (sigma_next**2 - up**2).sqrt(), up


def _integrated_lagrange(levels: np.ndarray, start: float, end: float) -> list[float]:
    """The integral from start to end of each Lagrange polynomial over `levels` (distinct): exact weights of a multistep rule."""
    weights = []
    for j, level in enumerate(levels):
        others = np.delete(levels, j)
        integral = np.polynomial.Polynomial.fromroots(others).integ() if len(others) else np.polynomial.Polynomial([0, 1])
        weights.append(float((integral(end) - integral(start)) / np.prod(level - others)))
    return weights


def _unipc_step(x: Tensor, seen: list[Tensor], ahead: Tensor | None, lambdas: Tensor) -> Tensor:
    """One step of UniPC from x at lambdas[-2] to lambdas[-1]: corrector with the answer `ahead` at the end, predictor without.

    seen: denoised at lambdas[-2], lambdas[-3] ...; lambdas: -log sigma, rising, one more than `seen`.
    """
    h = float(lambdas[-1] - lambdas[-2])
    nodes = [float(lambdas[-2 - k] - lambdas[-2]) / h for k in range(1, len(seen))]
    answers = seen[1:]
    if ahead is not None:
        nodes, answers = [*nodes, 1.0], [*answers, ahead]
    x = _towards(x, seen[0], torch.exp(lambdas[-2] - lambdas[-1]))
    for node, weight, answer in zip(nodes, _unipc_weights(nodes, -h), answers, strict=True):
        x = x + (answer - seen[0]) * (h * weight / node)
    return x


def _unipc_weights(nodes: list[float], hh: float) -> list[float]:
    """Weights of the differences: the Vandermonde system of arXiv:2302.04867, theorem 3.1, with B(h) = h (bh1); hh = -h."""
    if len(nodes) < 2:
        return [0.5] * len(nodes)
    right, phi, factorial = [], np.expm1(hh) / hh - 1, 1
    for power in range(1, len(nodes) + 1):
        factorial *= power
        right.append(phi * factorial / hh)
        phi = phi / hh - 1 / (factorial * (power + 1))
    matrix = np.vander(np.asarray(nodes), increasing=True).T
    return [float(weight) for weight in np.linalg.solve(matrix, np.asarray(right))]
