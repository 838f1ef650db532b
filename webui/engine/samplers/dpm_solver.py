"""DPM-Solver (Lu et al. 2022, arXiv:2206.00927) with steps of its own: "DPM fast" on a budget of calls, "DPM adaptive" on a tolerance.

Both get from sigmas[0] to sigmas[-1], which is above 0, in their own steps; time is lambda = -log sigma. The Step's index tells how many
of the given levels are passed.
"""

import math
from collections.abc import Callable
from itertools import count

import torch
from torch import Tensor

from webui.engine.samplers.step import Denoise, Noise, Step, Steps, ancestral_levels

Eps = Callable[[Tensor, Tensor], Tensor]
"""(x, time) -> the noise that the network sees in x."""

RELATIVE, ABSOLUTE = 0.05, 0.0078  # tolerances of the adaptive sampler: a part of x, and half a grey level of 1/128
FIRST_STEP = 0.05
SAFETY = 0.81  # a step is kept unless the next should be shorter than this part of it
CLOSE_ENOUGH = 1e-5  # of the time where it ends
THIRD = 1 / 3


def sample_dpm_fast(denoise: Denoise, x: Tensor, sigmas: Tensor, noise: Noise, eta: float = 1.0, s_noise: float = 1.0) -> Steps:
    """len(sigmas) - 1 network calls in even steps of order 3, then lower ones to spend them all (section 4.2, DPM-Solver-fast)."""
    budget = len(sigmas) - 1
    if not budget:
        return
    whole, rest = divmod(budget, 3)
    orders = [3] * whole + [rest] if rest else [3] * (whole - 1) + [2, 1]
    times = torch.linspace(float(-sigmas[0].log()), float(-sigmas[-1].log()), len(orders) + 1, dtype=sigmas.dtype)
    predict, spent = _predictor(denoise), 0
    for i, order in enumerate(orders):
        time, time_next = times[i], times[i + 1]
        landing, up = _landing(time, time_next, times[-1], eta)
        eps = predict(x, time)
        denoised = x - eps * torch.exp(-time)
        x = _solved(predict, x, time, landing, eps)[2] if order == 3 else _solved_lower(predict, x, time, landing, eps, order)
        if up > 0:
            x = x + noise(torch.exp(-time), torch.exp(-time_next)) * (up * s_noise)
        spent += order
        yield Step(spent - 1, x, denoised)


def sample_dpm_adaptive(denoise: Denoise, x: Tensor, sigmas: Tensor, noise: Noise, eta: float = 1.0) -> Steps:
    """Steps as long as orders 2 and 3 agree on where they lead (appendix C, DPM-Solver-23). The tolerance is the batch's: one step for all.

    Whether a step is kept is known only when the latents are: this sampler alone waits for its device, once a step.
    """
    start, end = -sigmas[0].log(), -sigmas[-1].log()
    predict, previous, time = _predictor(denoise), x, start
    length, order = FIRST_STEP, 1.5 if eta else 3.0
    while time < end - CLOSE_ENOUGH:
        time_next = torch.minimum(end, time + length)
        landing, up = _landing(time, time_next, end, eta)
        eps = predict(x, time)
        low, high = _solved(predict, x, time, landing, eps)[1:]
        bound = torch.clamp(RELATIVE * torch.maximum(low.abs(), previous.abs()), min=ABSOLUTE)
        error = float(((low - high) / bound).square().mean().sqrt())
        factor = 1 + math.atan((1 / (error + 1e-8)) ** (1 / order) - 1)
        length *= factor
        if factor < SAFETY:
            continue
        denoised = x - eps * torch.exp(-time)
        x, previous = high, low
        if up > 0:
            x = x + noise(torch.exp(-time), torch.exp(-time_next)) * up
        time = time_next
        yield Step(_passed(float((time - start) / (end - start)), time >= end - CLOSE_ENOUGH, len(sigmas) - 1), x, denoised)


def _passed(part: float, is_last: bool, steps: int) -> int:
    """The Step's index for the part of the way that is done."""
    return steps - 1 if is_last else max(min(int(part * steps), steps - 1) - 1, 0)


def _predictor(denoise: Denoise) -> Eps:
    calls = count()

    def predict(x: Tensor, time: Tensor) -> Tensor:
        sigma = torch.exp(-time)
        return (x - denoise(x, sigma, next(calls))) / sigma

    return predict


def _landing(time: Tensor, time_next: Tensor, end: Tensor, eta: float) -> tuple[Tensor, Tensor]:
    """(time to solve to, noise to put on there to be at time_next). Never beyond `end`, whatever eta asks for."""
    if not eta:
        return time_next, torch.zeros(())
    sigma_next = torch.exp(-time_next)
    down, _ = ancestral_levels(torch.exp(-time), sigma_next, eta)
    landing = torch.minimum(end, -down.log())
    return landing, (sigma_next**2 - torch.exp(-landing) ** 2).clamp(min=0).sqrt()


def _solved(predict: Eps, x: Tensor, time: Tensor, landing: Tensor, eps: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """x at `landing` by orders 1, 2 and 3 (equation 4.1 and Algorithms 4 and 5 with r1 = 1/3, r2 = 2/3), in two more calls."""
    h = landing - time
    near, far = time + h * THIRD, time + h * (2 / 3)
    change = predict(_first(x, near, h * THIRD, eps), near) - eps
    change_far = predict(_first(x, far, h * (2 / 3), eps) - _bent(far, h * (2 / 3)) * 2 * change, far) - eps
    first = _first(x, landing, h, eps)
    second = first - torch.exp(-landing) / (2 / 3) * torch.expm1(h) * change
    return first, second, first - torch.exp(-landing) / (2 / 3) * (torch.expm1(h) / h - 1) * change_far


def _solved_lower(predict: Eps, x: Tensor, time: Tensor, landing: Tensor, eps: Tensor, order: int) -> Tensor:
    """x at `landing` by order 1, or by order 2 with r1 = 1/2 in one more call."""
    h = landing - time
    first = _first(x, landing, h, eps)
    if order == 1:
        return first
    middle = time + h / 2
    change = predict(_first(x, middle, h / 2, eps), middle) - eps
    return first - torch.exp(-landing) * torch.expm1(h) * change


def _first(x: Tensor, landing: Tensor, h: Tensor, eps: Tensor) -> Tensor:
    """x at `landing`, h ahead, if the noise stays what it is."""
    return x - torch.exp(-landing) * torch.expm1(h) * eps


def _bent(landing: Tensor, h: Tensor) -> Tensor:
    """What a noise that grows by 1 over the way adds: sigma * ((e^h - 1) / h - 1)."""
    return torch.exp(-landing) * (torch.expm1(h) / h - 1)
