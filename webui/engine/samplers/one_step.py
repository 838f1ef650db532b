"""Samplers without memory that follow the probability flow: Euler, Heun, DPM2 and their kin. Each step starts from x alone."""

from itertools import pairwise

import torch
from torch import Tensor

from webui.engine.samplers.step import Churn, Denoise, Noise, Step, Steps, along, ancestral_levels, slope
from webui.engine.schedules import karras_levels


def sample_euler(denoise: Denoise, x: Tensor, sigmas: Tensor, noise: Noise | None = None, **churn: float) -> Steps:
    """Euler's rule: Karras et al. 2022 (arXiv:2206.00364), Algorithm 2 without its correction."""
    lift = Churn(noise, len(sigmas) - 1, **churn)
    for i in range(len(sigmas) - 1):
        x, sigma = lift(x, sigmas[i])
        denoised = denoise(x, sigma, i)
        x = along(x, slope(x, denoised, sigma), sigma, sigmas[i + 1])
        yield Step(i, x, denoised)


def sample_heun(denoise: Denoise, x: Tensor, sigmas: Tensor, noise: Noise | None = None, **churn: float) -> Steps:
    """Heun's second-order rule: arXiv:2206.00364, Algorithm 2; the step to sigma 0 is Euler's."""
    lift = Churn(noise, len(sigmas) - 1, **churn)
    for i in range(len(sigmas) - 1):
        x, sigma = lift(x, sigmas[i])
        denoised = denoise(x, sigma, 2 * i)
        x = _heun(denoise, x, denoised, sigma, sigmas[i + 1], 2 * i + 1)
        yield Step(i, x, denoised)


def sample_dpm_2(denoise: Denoise, x: Tensor, sigmas: Tensor, noise: Noise | None = None, **churn: float) -> Steps:
    """The midpoint rule, the middle being halfway in log sigma: DPM-Solver-2 (arXiv:2206.00927) with the churn of arXiv:2206.00364."""
    lift = Churn(noise, len(sigmas) - 1, **churn)
    for i in range(len(sigmas) - 1):
        x, sigma = lift(x, sigmas[i])
        denoised = denoise(x, sigma, 2 * i)
        x = _midpoint(denoise, x, denoised, sigma, sigmas[i + 1], 2 * i + 1)
        yield Step(i, x, denoised)


def sample_dpm_2_ancestral(denoise: Denoise, x: Tensor, sigmas: Tensor, noise: Noise, eta: float = 1.0, s_noise: float = 1.0) -> Steps:
    """DPM2 down to below the next level, then noise up to it; none after a step down to 0, which an eta above 1 may make early."""
    for i in range(len(sigmas) - 1):
        denoised = denoise(x, sigmas[i], 2 * i)
        down, up = ancestral_levels(sigmas[i], sigmas[i + 1], eta)
        x = _midpoint(denoise, x, denoised, sigmas[i], down, 2 * i + 1)
        if up > 0 and down > 0:
            x = x + noise(sigmas[i], sigmas[i + 1]) * (up * s_noise)
        yield Step(i, x, denoised)


def sample_heunpp2(denoise: Denoise, x: Tensor, sigmas: Tensor) -> Steps:
    """Heun++: a step along the mean of the slopes at this level and the next one or two, each weighted by its level.

    The levels ahead weigh level / (slopes * sigmas[0]), the present one the rest. Two levels are looked ahead, one before the last
    level, none before sigma 0's.
    """
    call = 0
    for i in range(len(sigmas) - 1):
        ahead = min(len(sigmas) - 2 - i, 2)
        denoised = denoise(x, sigmas[i], call)
        slopes, seen = [slope(x, denoised, sigmas[i])], x
        for j in range(i + 1, i + ahead + 1):
            seen = along(seen, slopes[-1], sigmas[j - 1], sigmas[j])
            slopes.append(slope(seen, denoise(seen, sigmas[j], call + j - i), sigmas[j]))
        call += ahead + 1
        weights = sigmas[i + 1 : i + ahead + 1] / ((ahead + 1) * sigmas[0])
        mean = slopes[0] * (1 - weights.sum())
        for weight, later in zip(weights, slopes[1:], strict=True):
            mean = mean + later * weight
        x = along(x, mean, sigmas[i], sigmas[i + 1])
        yield Step(i, x, denoised)


def sample_euler_cfgpp(denoise: Denoise, x: Tensor, sigmas: Tensor) -> Steps:
    """CFG++ (Chung et al. 2024, arXiv:2406.08070, Algorithm 2): the guided clean latents, renoised by what is seen without the prompt."""
    for i in range(len(sigmas) - 1):
        denoised, unguided = denoise(x, sigmas[i], i)
        x = denoised + (x - unguided) * (sigmas[i + 1] / sigmas[i])
        yield Step(i, x, denoised)


def sample_restart(denoise: Denoise, x: Tensor, sigmas: Tensor, noise: Noise) -> Steps:
    """Heun, going back up between the levels 0.1 and 2 by fresh noise: Xu et al. 2023 (arXiv:2306.14878), Algorithm 1."""
    walk = _restart_walk(sigmas)
    total, call = len(sigmas) - 1, 0
    at = None  # not sigmas[0]: the descent, laid anew, may begin one digit above it, and nothing is drawn before the first step
    for i, (sigma, sigma_next) in enumerate(walk):
        if at is not None and sigma > at:
            x = x + noise(at, sigma) * (sigma**2 - at**2).sqrt()
        denoised = denoise(x, sigma, call)
        x = _heun(denoise, x, denoised, sigma, sigma_next, call + 1)
        call += 1 if sigma_next == 0 else 2
        at = sigma_next
        yield Step(total - len(walk) + i, x, denoised)


RESTART_LOW, RESTART_HIGH = 0.1, 2.0  # the levels between which steps are repeated


def _restart_walk(sigmas: Tensor) -> list[tuple[Tensor, Tensor]]:
    """The steps (from, to), not more than those of `sigmas`: up to 19 none is a repetition, up to 35 nine are, then half of them.

    The repetitions are taken from the descent, which is laid anew in as many steps as are left (Karras' levels, both times).
    """
    steps = len(sigmas) - 1
    length, times = (0, 0) if steps < 20 else (9, 1) if steps < 36 else (steps // 4, 2)
    if times:
        sigmas = torch.cat([karras_levels(float(sigmas[-2]), float(sigmas[0]), steps - length * times), sigmas.new_zeros(1)])
    low, high = (int((sigmas - level).abs().argmin()) for level in (RESTART_LOW, RESTART_HIGH))
    walk = []
    for i in range(len(sigmas) - 1):
        walk.append((sigmas[i], sigmas[i + 1]))
        if times and i + 1 == low and high < low:
            again = karras_levels(float(sigmas[low]), float(sigmas[high]), length + 1)
            walk += list(pairwise(again)) * times
    return walk


def _heun(denoise: Denoise, x: Tensor, denoised: Tensor, sigma: Tensor, sigma_next: Tensor, call: int) -> Tensor:
    """x at sigma_next, by the mean of the slopes at both ends; by the first alone where sigma_next is 0."""
    here = slope(x, denoised, sigma)
    x_next = along(x, here, sigma, sigma_next)
    if sigma_next == 0:
        return x_next
    there = slope(x_next, denoise(x_next, sigma_next, call), sigma_next)
    return along(x, (here + there) / 2, sigma, sigma_next)


def _midpoint(denoise: Denoise, x: Tensor, denoised: Tensor, sigma: Tensor, sigma_next: Tensor, call: int) -> Tensor:
    """x at sigma_next, by the slope halfway in log sigma; by the first where sigma_next is 0, which has no logarithm."""
    here = slope(x, denoised, sigma)
    if sigma_next == 0:
        return along(x, here, sigma, sigma_next)
    middle = sigma.log().lerp(sigma_next.log(), 0.5).exp()
    x_middle = along(x, here, sigma, middle)
    return along(x, slope(x_middle, denoise(x_middle, middle, call), middle), sigma, sigma_next)
