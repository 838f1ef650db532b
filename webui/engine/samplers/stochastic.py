"""Samplers that put noise on at every step: the ancestral ones, SDE solvers on a Brownian path, and consistency samplers."""

import math

import torch
from torch import Tensor

from webui.engine.samplers.step import Denoise, Noise, Step, Steps, along, ancestral_levels, slope, towards
from webui.engine.schedules import ROUNDING, NoiseSchedule

TCD_GAMMA = 0.3  # the stochastic part that the paper's pictures are made with (arXiv:2402.19159, section 4.2)


def sample_euler_ancestral(denoise: Denoise, x: Tensor, sigmas: Tensor, noise: Noise, eta: float = 1.0, s_noise: float = 1.0) -> Steps:
    """Euler down to below the next level, then noise up to it. On DDIM's levels it is DDIM: Song et al. 2020 (arXiv:2010.02502), eq. 12."""
    for i in range(len(sigmas) - 1):
        denoised = denoise(x, sigmas[i], i)
        down, up = ancestral_levels(sigmas[i], sigmas[i + 1], eta)
        x = along(x, slope(x, denoised, sigmas[i]), sigmas[i], down)
        if up > 0:
            x = x + noise(sigmas[i], sigmas[i + 1]) * (up * s_noise)
        yield Step(i, x, denoised)


def sample_ddim_cfgpp(denoise: Denoise, x: Tensor, sigmas: Tensor, noise: Noise, eta: float = 0.0) -> Steps:
    """DDIM by CFG++ (arXiv:2406.08070, Algorithm 2): the noise that stays is that seen without the prompt."""
    for i in range(len(sigmas) - 1):
        denoised, unguided = denoise(x, sigmas[i], i)
        down, up = ancestral_levels(sigmas[i], sigmas[i + 1], eta)
        x = denoised + (x - unguided) * (down / sigmas[i])
        if up > 0:
            x = x + noise(sigmas[i], sigmas[i + 1]) * up
        yield Step(i, x, denoised)


def sample_dpmpp_2s_ancestral(denoise: Denoise, x: Tensor, sigmas: Tensor, noise: Noise, eta: float = 1.0, s_noise: float = 1.0) -> Steps:
    """DPM-Solver++(2S) (Lu et al. 2022, arXiv:2211.01095, Algorithm 1, r = 1/2) to below the next level, then noise up to it."""
    for i in range(len(sigmas) - 1):
        denoised = denoise(x, sigmas[i], 2 * i)
        down, up = ancestral_levels(sigmas[i], sigmas[i + 1], eta)
        if down > 0:
            middle = (sigmas[i].log() * 0.5 + down.log() * 0.5).exp()
            target = denoise(towards(x, denoised, middle / sigmas[i]), middle, 2 * i + 1)
            x = towards(x, target, down / sigmas[i])
        else:
            x = along(x, slope(x, denoised, sigmas[i]), sigmas[i], down)
        if up > 0:
            x = x + noise(sigmas[i], sigmas[i + 1]) * (up * s_noise)
        yield Step(i, x, denoised)


def sample_dpmpp_sde(denoise: Denoise, x: Tensor, sigmas: Tensor, noise: Noise, eta: float = 1.0, s_noise: float = 1.0) -> Steps:
    """SDE-DPM-Solver++(2S): a half step in log sigma, then the whole one; noise from a Brownian path (arXiv:2211.01095)."""
    lambdas = -sigmas.log()
    levels = torch.exp(-lambdas)  # sigmas, but for the rounding, which counts: the path is asked at exactly these
    for i in range(len(sigmas) - 1):
        denoised = denoise(x, sigmas[i], 2 * i)
        if sigmas[i + 1] == 0:
            x = along(x, slope(x, denoised, sigmas[i]), sigmas[i], sigmas[i + 1])
        else:
            middle = torch.exp(-(lambdas[i] + (lambdas[i + 1] - lambdas[i]) * 0.5))
            down, up = ancestral_levels(levels[i], middle, eta)
            x_middle = towards(x, denoised, down / levels[i])
            if up > 0:
                x_middle = x_middle + noise(levels[i], middle) * (up * s_noise)
            denoised_middle = denoise(x_middle, middle, 2 * i + 1)
            down, up = ancestral_levels(levels[i], levels[i + 1], eta)
            x = towards(x, denoised_middle, down / levels[i])
            if up > 0:
                x = x + noise(levels[i], levels[i + 1]) * (up * s_noise)
        yield Step(i, x, denoised)


def sample_dpmpp_2m_sde(
    denoise: Denoise, x: Tensor, sigmas: Tensor, noise: Noise, eta: float = 1.0, s_noise: float = 1.0, heun: bool = False
) -> Steps:
    """SDE-DPM-Solver++(2M): arXiv:2211.01095, equation 19 and appendix; noise from a Brownian path.

    heun: the correction by the last two answers takes the exact integral of a line instead of the midpoint's value.
    """
    previous: Tensor | None = None
    lambdas = -sigmas.log()
    for i in range(len(sigmas) - 1):
        denoised = denoise(x, sigmas[i], i)
        if sigmas[i + 1] == 0:
            x = denoised
        else:
            h = lambdas[i + 1] - lambdas[i]
            span = h * (1 + eta)  # reversed noise makes the step longer
            decay, gain = torch.exp(-eta * h) * sigmas[i + 1] / sigmas[i], -torch.expm1(-span)
            x = x * decay + denoised * gain
            if previous is not None:
                weight = 1 - gain / span if heun else gain / 2
                x = x + (denoised - previous) * (weight * h / (lambdas[i] - lambdas[i - 1]))
            x = _with_sde_noise(x, sigmas[i : i + 2], h, noise, eta, s_noise)
        previous = denoised
        yield Step(i, x, denoised)


def sample_dpmpp_3m_sde(denoise: Denoise, x: Tensor, sigmas: Tensor, noise: Noise, eta: float = 1.0, s_noise: float = 1.0) -> Steps:
    """SDE-DPM-Solver++(3M): as 2M, with a parabola through the last three answers (arXiv:2211.01095, appendix B).

    The parabola's bend weighs half of what its integral would be, as in the published solver, whose pictures are to be repeated.
    """
    seen: list[Tensor] = []  # older answers, newest first
    lambdas = -sigmas.log()
    for i in range(len(sigmas) - 1):
        denoised = denoise(x, sigmas[i], i)
        if sigmas[i + 1] == 0:
            x = denoised
        else:
            h = lambdas[i + 1] - lambdas[i]
            span = h * (1 + eta)
            x = x * torch.exp(-span) - denoised * torch.expm1(-span)
            phi_2 = torch.expm1(-span) / span + 1
            if len(seen) == 1:
                x = x + (denoised - seen[0]) * (phi_2 * h / (lambdas[i] - lambdas[i - 1]))
            elif seen:
                near, far = (lambdas[i] - lambdas[i - 1]) / h, (lambdas[i - 1] - lambdas[i - 2]) / h
                slope, slope_before = (denoised - seen[0]) / near, (seen[0] - seen[1]) / far
                bend = (slope - slope_before) / (near + far)
                x = x + (slope + bend * near) * phi_2 - bend * (phi_2 / span - 0.5)
            x = _with_sde_noise(x, sigmas[i : i + 2], h, noise, eta, s_noise)
        seen = [denoised, *seen[:1]]
        yield Step(i, x, denoised)


def sample_lcm(denoise: Denoise, x: Tensor, sigmas: Tensor, noise: Noise) -> Steps:
    """Latent consistency: jump to the clean latents, put noise of the next level on: Luo et al. 2023 (arXiv:2310.04378)."""
    for i in range(len(sigmas) - 1):
        denoised = denoise(x, sigmas[i], i)
        x = denoised + noise(sigmas[i], sigmas[i + 1]) * sigmas[i + 1] if sigmas[i + 1] > 0 else denoised
        yield Step(i, x, denoised)


def sample_tcd(denoise: Denoise, x: Tensor, sigmas: Tensor, noise: Noise, schedule: NoiseSchedule, gamma: float = TCD_GAMMA) -> Steps:
    """Trajectory consistency: jump to timestep (1 - gamma) * t_next, put noise up to t_next on: Zheng et al. 2024 (arXiv:2402.19159)."""
    for i in range(len(sigmas) - 1):
        denoised = denoise(x, sigmas[i], i)
        landing = math.floor((1 - gamma) * schedule.nearest_t(sigmas[i + 1]) + ROUNDING)
        down = schedule.sigma(torch.tensor(float(landing)))
        x = towards(x, denoised, down / sigmas[i])
        if sigmas[i + 1] > down:
            x = x + noise(sigmas[i], sigmas[i + 1]) * (sigmas[i + 1] ** 2 - down**2).sqrt()
        yield Step(i, x, denoised)


def _with_sde_noise(x: Tensor, levels: Tensor, h: Tensor, noise: Noise, eta: float, s_noise: float) -> Tensor:
    """x with the noise that a step of length h from levels[0] to levels[1] takes."""
    if not eta:
        return x
    return x + noise(levels[0], levels[1]) * (levels[1] * (-torch.expm1(-2 * eta * h)).sqrt() * s_noise)
