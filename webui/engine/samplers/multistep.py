"""Multistep samplers: those that draw on the answers of steps before, and so need one network call a step."""

import numpy as np
import torch
from torch import Tensor

from webui.engine.samplers.step import Denoise, Step, Steps, along, towards


def sample_lms(denoise: Denoise, x: Tensor, sigmas: Tensor, order: int = 4) -> Steps:
    """Linear multistep (Adams-Bashforth on uneven levels): the slopes of up to `order` steps, extrapolated by a polynomial."""
    slopes: list[Tensor] = []  # newest first
    for i in range(len(sigmas) - 1):
        denoised = denoise(x, sigmas[i], i)
        slopes = [(x - denoised) / sigmas[i], *slopes[: order - 1]]
        levels = sigmas[i - len(slopes) + 1 : i + 1].flip(0).numpy()
        weights = _integrated_lagrange(levels, float(sigmas[i]), float(sigmas[i + 1]))
        x = _along(x, slopes, weights)
        yield Step(i, x, denoised)


def sample_plms(denoise: Denoise, x: Tensor, sigmas: Tensor) -> Steps:
    """Pseudo linear multistep: Liu et al. 2022 (arXiv:2202.09778), with a Heun-like first step, which takes a second call."""
    older: list[Tensor] = []  # slopes, newest first
    for i in range(len(sigmas) - 1):
        slope = (x - denoise(x, sigmas[i], i + (i > 0))) / sigmas[i]
        if older:
            blend = _blend([slope, *older], list(PLMS_WEIGHTS[len(older)]))
        else:
            x_next = x + slope * (sigmas[1] - sigmas[0])
            blend = (slope + (x_next - denoise(x_next, sigmas[1], 1)) / sigmas[1]) / 2
        older = [slope, *older[:2]]
        denoised = x - blend * sigmas[i]
        x = denoised + blend * sigmas[i + 1]
        yield Step(i, x, denoised)


PLMS_WEIGHTS = {  # Adams and Bashforth's, on even levels: number of older slopes -> weights, newest first
    0: (1.0,),
    1: (3 / 2, -1 / 2),
    2: (23 / 12, -16 / 12, 5 / 12),
    3: (55 / 24, -59 / 24, 37 / 24, -9 / 24),
}


def sample_ipndm(denoise: Denoise, x: Tensor, sigmas: Tensor) -> Steps:
    """The improved pseudo numerical method: Zhang and Chen 2022 (arXiv:2204.13902, equation 14): Adams-Bashforth as on even levels.

    As PLMS, but without its second first call, and over sigma. The step to sigma 0 is Euler's.
    """
    slopes: list[Tensor] = []  # newest first
    for i in range(len(sigmas) - 1):
        denoised = denoise(x, sigmas[i], i)
        slopes = [(x - denoised) / sigmas[i], *slopes[:3]]
        weights = PLMS_WEIGHTS[len(slopes) - 1 if sigmas[i + 1] > 0 else 0]
        x = _along(x, slopes, [weight * float(sigmas[i + 1] - sigmas[i]) for weight in weights])
        yield Step(i, x, denoised)


def sample_deis(denoise: Denoise, x: Tensor, sigmas: Tensor, order: int = 3) -> Steps:
    """tAB-DEIS: Zhang and Chen 2022 (arXiv:2204.13902, equation 15): slopes extrapolated by a polynomial in VP time, integrated over sigma.

    The first step is Euler's, and the one to sigma 0, which in this time is infinitely steep.
    """
    times = _vp_time(sigmas.double().numpy())
    slopes: list[Tensor] = []  # newest first
    for i in range(len(sigmas) - 1):
        denoised = denoise(x, sigmas[i], i)
        slopes = [(x - denoised) / sigmas[i], *slopes[: order - 1]]
        if i and sigmas[i + 1] > 0:
            x = _along(x, slopes, _deis_weights(times[i - len(slopes) + 1 : i + 2][::-1]))
        else:
            x = along(x, slopes[0], sigmas[i], sigmas[i + 1])
        yield Step(i, x, denoised)


VP_END, VP_MIN, VP_MAX = (
    1e-3,
    0.002,
    80.0,
)  # the time from VP_END to 1 in which the authors lay their polynomials: sigma from VP_MIN to VP_MAX
DEIS_POINTS = 10_000  # of the sum that stands for an integral
VP_SLOPE = 2 * (np.log1p(VP_MIN**2) / VP_END - np.log1p(VP_MAX**2)) / (VP_END - 1)
VP_START = np.log1p(VP_MAX**2) - VP_SLOPE / 2


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
        x = towards(x, target, sigmas[i + 1] / sigmas[i])
        previous = denoised
        yield Step(i, x, denoised)


def sample_unipc(
    denoise: Denoise, x: Tensor, sigmas: Tensor, order: int = 3, variant: str = "bh1", lower_order_final: bool = True
) -> Steps:
    """UniPC, predicting data: Zhao et al. 2023 (arXiv:2302.04867), Algorithms 5 to 7.

    Each call serves twice: it corrects the step that led to its level, and it predicts the next. Orders are lower at the beginning, and
    at the end unless lower_order_final is off. variant: B(h) of the paper is h ("bh1") or e^h - 1 ("bh2"), where a single difference
    weighs 1/2; without B(h), "vary_coeff", it weighs what the line through both answers does (appendix C).
    """
    lambdas = -sigmas.log()
    steps = len(sigmas) - 1
    seen: list[Tensor] = []  # denoised at the levels behind, newest first
    corrected_order, x_before = 0, x
    for i in range(steps):
        denoised = denoise(x, sigmas[i], i)
        if i > 0:
            x = _unipc_step(x_before, seen[:corrected_order], denoised, lambdas[i - corrected_order : i + 1], variant)
        seen = [denoised, *seen[: order - 1]]
        lowers = lower_order_final and (i + 1 >= order or steps < order)  # not on the way up, where there are steps enough for that
        corrected_order, x_before = min(i + 1, order, steps - i if lowers else order), x
        x = _unipc_step(x, seen[:corrected_order], None, lambdas[i - corrected_order + 1 : i + 2], variant)
        yield Step(i, x, denoised)


def _along(x: Tensor, slopes: list[Tensor], weights: list[float]) -> Tensor:
    """x moved along each slope by its weight; the weights of the oldest may be missing."""
    return x + _blend(slopes, weights)


def _blend(slopes: list[Tensor], weights: list[float]) -> Tensor:
    """Summed up before anything is added to: beside x at sigma 4518 (zero-terminal SNR) the rounding would show."""
    blend = slopes[0] * weights[0]
    for slope, weight in zip(slopes[1:], weights[1:], strict=False):
        blend = blend + slope * weight
    return blend


def _vp_time(sigmas: np.ndarray) -> np.ndarray:
    """The time t of noise levels: log(1 + sigma^2) = VP_SLOPE t^2 / 2 + VP_START t (arXiv:2011.13456, equation 33)."""
    return (np.sqrt(VP_START**2 + 2 * VP_SLOPE * np.log1p(sigmas**2)) - VP_START) / VP_SLOPE


def _deis_weights(times: np.ndarray) -> list[float]:
    """The integral of each Lagrange polynomial over times[1:], newest first, against dsigma from times[1] to times[0].

    By the sum that the published solver takes: with few steps the exact integral would lead 4e-5 away from its pictures.
    """
    end, known = times[0], times[1:]
    t = np.linspace(known[0], end, DEIS_POINTS)
    variance = np.expm1(VP_SLOPE * t**2 / 2 + VP_START * t)
    steps = (end - known[0]) / DEIS_POINTS * (VP_SLOPE * t + VP_START) * (variance + 1) / (2 * np.sqrt(variance))
    others = [np.delete(known, j) for j in range(len(known))]
    bases = [np.prod((t[:, None] - other) / (known[j] - other), axis=1) for j, other in enumerate(others)]
    return [float(np.sum(steps * base)) for base in bases]


def _integrated_lagrange(levels: np.ndarray, start: float, end: float) -> list[float]:
    """The integral from start to end of each Lagrange polynomial over `levels` (distinct): exact weights of a multistep rule.

    But for the distances of the levels, float32 as they are: the published solver takes them so, and next to sigma 4518 it shows.
    """
    weights = []
    for j, level in enumerate(levels):
        others = np.delete(levels, j)
        roots = others.astype(float)
        integral = np.polynomial.Polynomial.fromroots(roots).integ() if len(others) else np.polynomial.Polynomial([0, 1])
        weights.append(float((integral(end) - integral(start)) / np.prod((level - others).astype(float))))
    return weights


def _unipc_step(x: Tensor, seen: list[Tensor], ahead: Tensor | None, lambdas: Tensor, variant: str) -> Tensor:
    """One step of UniPC from x at lambdas[-2] to lambdas[-1]: corrector with the answer `ahead` at the end, predictor without.

    seen: denoised at lambdas[-2], lambdas[-3] ...; lambdas: -log sigma, rising, one more than `seen`.
    """
    h = float(lambdas[-1] - lambdas[-2])
    nodes = [float(lambdas[-2 - k] - lambdas[-2]) / h for k in range(1, len(seen))]
    answers = seen[1:]
    if ahead is not None:
        nodes, answers = [*nodes, 1.0], [*answers, ahead]
    x = towards(x, seen[0], torch.exp(lambdas[-2] - lambdas[-1]))
    for node, weight, answer in zip(nodes, _unipc_weights(nodes, -h, variant), answers, strict=True):
        x = x - (answer - seen[0]) * (weight / node)
    return x


def _unipc_weights(nodes: list[float], hh: float, variant: str) -> list[float]:
    """Weights of the differences: the Vandermonde system of arXiv:2302.04867, theorem 3.1; hh = -h. B(hh) leaves a solved system."""
    if len(nodes) < 2 and variant != "vary_coeff":
        return [0.5 * (hh if variant == "bh1" else float(np.expm1(hh)))] * len(nodes)
    right, phi, factorial = [], np.expm1(hh) / hh - 1, 1
    for power in range(1, len(nodes) + 1):
        factorial *= power
        right.append(phi * factorial)
        phi = phi / hh - 1 / (factorial * (power + 1))
    if not nodes:
        return []
    matrix = np.vander(np.asarray(nodes), increasing=True).T
    return [float(weight) for weight in np.linalg.solve(matrix, np.asarray(right))]
