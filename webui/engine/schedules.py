"""Noise levels: those a model was trained on, and those that a sampling run walks down."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from webui.core.choices import SAMPLERS, SamplerChoice

RHO = 7.0  # bend of the Karras schedule (arXiv:2206.00364, equation 5)
LEAST_SIGNAL = 4.8973451890853435e-08  # stands for no signal at all, where a schedule ends in pure noise: sigma 4518
ROUNDING = 1e-4  # of timesteps, in float32
LEAST_STRENGTH = 1e-3  # a schedule is made at most a thousand times as long for its tail
LCM_TIMESTEPS = 50  # latent consistency models know every 20th timestep only (arXiv:2310.04378)


class NoiseSchedule:
    """A model's training noise levels; sigma <-> timestep, interpolated in log sigma.

    sigmas: (levels,), rising, float32; level k belongs to timestep `offset + stride * k`.
    """

    def __init__(self, sigmas: Tensor, offset: int = 0, stride: int = 1) -> None:
        self.sigmas = sigmas.float().cpu()
        self.log_sigmas = self.sigmas.log()
        self.offset = offset
        self.stride = stride

    @classmethod
    def from_alphas(cls, alphas_cumprod: Tensor) -> "NoiseSchedule":
        """alphas_cumprod: (timesteps,), the signal's share of the variance, falling from almost 1 to almost 0.

        In float32, as the field reckons: with more digits the lowest sigma would be 1e-5 smaller.
        """
        alphas = alphas_cumprod.float().cpu().clamp(min=LEAST_SIGNAL)
        return cls(((1 - alphas) / alphas).sqrt())

    def for_lcm(self) -> "NoiseSchedule":
        """The levels that latent consistency models are distilled on."""
        stride = len(self.sigmas) // LCM_TIMESTEPS
        return NoiseSchedule(self.sigmas[stride - 1 :: stride], offset=stride - 1, stride=stride)

    @property
    def sigma_min(self) -> float:
        return float(self.sigmas[0])

    @property
    def sigma_max(self) -> float:
        return float(self.sigmas[-1])

    def sigma(self, t: Tensor) -> Tensor:
        """Noise levels at (fractional) timesteps t."""
        level = ((t - self.offset) / self.stride).clamp(0, len(self.sigmas) - 1)
        low, high = level.floor().long(), level.ceil().long()
        part = level - low
        return ((1 - part) * self.log_sigmas[low] + part * self.log_sigmas[high]).exp()

    def t(self, sigma: Tensor) -> float:
        """The fractional timestep of one noise level; the ends are held."""
        log_sigma = sigma.log()
        low = int((torch.searchsorted(self.log_sigmas, log_sigma, right=True) - 1).clamp(0, len(self.sigmas) - 2))
        below, above = self.log_sigmas[low].double(), self.log_sigmas[low + 1].double()
        part = float(((log_sigma.double() - below) / (above - below)).clamp(0, 1))
        return self.offset + self.stride * (low + part)

    def nearest_t(self, sigma: Tensor) -> int:
        """The trained timestep whose noise level is nearest to sigma in log sigma; of two that are equally near, the higher."""
        return self.offset + self.stride * math.floor((self.t(sigma) - self.offset) / self.stride + 0.5 + ROUNDING)


@dataclass(frozen=True)
class Plan:
    """The noise levels of one sampling run, and how latents enter and leave it.

    All samplers work on x = signal + sigma * noise. Timestep samplers are defined on latents of unit variance, x / sqrt(1 + sigma^2);
    for them `unit_variance` says that start and end are to be converted.

    sigmas: (steps + 1,), falling, float32 on the CPU.
    noised_to: the sigma up to which init latents are noised.
    span: smallest (not zero) and largest sigma of the whole schedule.
    """

    sigmas: Tensor
    noised_to: float
    span: tuple[float, float]
    unit_variance: bool = False

    @property
    def steps(self) -> int:
        return max(len(self.sigmas) - 1, 0)

    def start(self, noise: Tensor, init: Tensor | None) -> Tensor:
        """What the sampler begins with. noise, init: (batch, channels, height/8, width/8); init None: from noise alone."""
        if init is not None and not self.steps:
            return init  # so weak a denoising strength that no call is left: the picture stays
        begin = float(self.sigmas[0])
        if init is None:
            return noise * (math.hypot(1, begin) if self.unit_variance else begin)
        x = init + noise * self.noised_to
        return x * (math.hypot(1, begin) / math.hypot(1, self.noised_to)) if self.unit_variance else x

    def finish(self, x: Tensor) -> Tensor:
        """The latents that the sampler's last x stands for."""
        return x / math.hypot(1, float(self.sigmas[-1])) if self.unit_variance and self.steps else x


def make_plan(
    schedule: NoiseSchedule, sampler: str, schedule_type: str, steps: int, denoising_strength: float | None = None, exact: bool = False
) -> Plan:
    """The run of `sampler` over `steps`; with a denoising strength (0 .. 1) only the tail that repaints an init image.

    exact: the tail itself has `steps`, those of a schedule that is as much longer (hires fix).
    """
    choice = SAMPLERS[sampler]
    tail = None if denoising_strength is None else int(min(denoising_strength, 0.999) * steps)
    if denoising_strength is not None and exact:
        if denoising_strength == 0:
            return Plan(torch.zeros(1), 0.0, (0.0, 0.0))
        steps, tail = int(steps / min(max(denoising_strength, LEAST_STRENGTH), 0.999)), steps - 1
    if choice.kind == "timestep":
        return _timestep_plan(schedule, sampler, steps, tail)
    sigmas = sigma_schedule(schedule.for_lcm() if choice.kind == "lcm" else schedule, choice, schedule_type, steps)
    span = (float(sigmas[-2]), float(sigmas[0]))
    if tail is not None:
        sigmas = sigmas[steps - tail - 1 :]
    return Plan(sigmas, float(sigmas[0]), span)


def sigma_schedule(schedule: NoiseSchedule, choice: SamplerChoice, schedule_type: str, steps: int) -> Tensor:
    """(steps + 1,) noise levels, falling, the last one 0. "Automatic" is the sampler's own type."""
    label = choice.default_schedule if schedule_type == "Automatic" else schedule_type
    sigmas = SCHEDULES[label](schedule, steps)
    return torch.cat([sigmas, sigmas.new_zeros(1)])


def uniform(schedule: NoiseSchedule, steps: int) -> Tensor:
    """Evenly spaced timesteps, both ends included."""
    first, last = schedule.t(schedule.sigmas[-1]), schedule.t(schedule.sigmas[0])
    return schedule.sigma(torch.linspace(first, last, steps))


def sgm_uniform(schedule: NoiseSchedule, steps: int) -> Tensor:
    """Evenly spaced timesteps without the lowest one (Stability's generative-models)."""
    first, last = schedule.t(schedule.sigmas[-1]), schedule.t(schedule.sigmas[0])
    return schedule.sigma(torch.linspace(first, last, steps + 1)[:-1])


def karras(schedule: NoiseSchedule, steps: int) -> Tensor:
    """Evenly spaced seventh roots of sigma: Karras et al. 2022 (arXiv:2206.00364), equation 5."""
    low, high = schedule.sigma_min ** (1 / RHO), schedule.sigma_max ** (1 / RHO)
    return (high + torch.linspace(0, 1, steps) * (low - high)) ** RHO


def exponential(schedule: NoiseSchedule, steps: int) -> Tensor:
    """Evenly spaced log sigma."""
    return torch.linspace(math.log(schedule.sigma_max), math.log(schedule.sigma_min), steps).exp()


SCHEDULES: dict[str, Callable[[NoiseSchedule, int], Tensor]] = {
    "Uniform": uniform,
    "Karras": karras,
    "Exponential": exponential,
    "SGM Uniform": sgm_uniform,
}


def ddim_timesteps(levels: int, steps: int) -> list[int]:
    """DDIM's rising timesteps: every (levels // steps)-th plus 1. The lowest is where the run ends; the network never sees it."""
    return [min(t + 1, levels - 1) for t in range(0, levels, levels // steps)]


def _timestep_plan(schedule: NoiseSchedule, sampler: str, steps: int, tail: int | None) -> Plan:
    unipc = sampler == "UniPC"  # it counts the timesteps only, and lays its own
    timesteps = ddim_timesteps(len(schedule.sigmas), min(steps, len(schedule.sigmas)))
    if len(timesteps) == 1 and not unipc:
        timesteps.append(len(schedule.sigmas) - 1)  # one step: where the field would make no call at all, make one from the top
    noised_to = float(schedule.sigmas[timesteps[-1 if tail is None else tail]])
    span = (float(schedule.sigmas[timesteps[0]]), float(schedule.sigmas[timesteps[-1]]))
    kept = timesteps if tail is None else timesteps[:tail]
    sigmas = _unipc_sigmas(schedule, len(kept), None if tail is None else kept) if unipc else schedule.sigmas[kept[::-1]]
    return Plan(sigmas, noised_to, span, unit_variance=True)


def _unipc_sigmas(schedule: NoiseSchedule, steps: int, tail: list[int] | None) -> Tensor:
    """(steps + 1,) levels at evenly spaced fractional timesteps down to 0, interpolated in log alpha (UniPC, arXiv:2302.04867)."""
    if not steps:
        return torch.empty(0)
    top = float(len(schedule.sigmas) - 1 if tail is None else tail[-1])
    t = torch.linspace(top, 0, steps + 1, dtype=torch.float64)
    log_alphas = -0.5 * torch.log1p(schedule.sigmas.double() ** 2)
    low = t.floor().long()
    part = t - low
    log_alpha = (1 - part) * log_alphas[low] + part * log_alphas[t.ceil().long()]
    return torch.expm1(-2 * log_alpha).sqrt().float()
