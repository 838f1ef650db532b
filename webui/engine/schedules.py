"""Noise levels: those a model was trained on, and those that a sampling run walks down."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from scipy import stats
from torch import Tensor

from webui.core.choices import SAMPLERS, SCHEDULE_TYPES, SamplerChoice
from webui.core.errors import BadRequest
from webui.core.sampler_options import SamplerOptions

LEAST_SIGNAL = 4.8973451890853435e-08  # stands for no signal at all, where a schedule ends in pure noise: sigma 4518
ROUNDING = 1e-4  # of timesteps, in float32
LEAST_STRENGTH = 1e-3  # a schedule is made at most a thousand times as long for its tail
LCM_TIMESTEPS = 50  # consistency models know every 20th timestep only (arXiv:2310.04378, arXiv:2402.19159)
ALIGNED = (14.615, 6.475, 3.861, 2.697, 1.886, 1.396, 0.963, 0.652, 0.399, 0.152, 0.029)  # arXiv:2404.14507, for SD 1.5
ALIGNED_SDXL = (14.615, 6.315, 3.771, 2.181, 1.342, 0.862, 0.555, 0.380, 0.234, 0.113, 0.029)
DEFAULTS = SamplerOptions()


class NoiseSchedule:
    """A model's training noise levels; sigma <-> timestep, interpolated in log sigma.

    sigmas: (levels,), rising, float32; level k belongs to timestep `offset + stride * k`.
    aligned: the levels that were found best for the model's family in ten steps (Align Your Steps).
    log_alphas: (levels,), falling, float32; log of the signal's share of the amplitude.
    """

    def __init__(self, sigmas: Tensor, offset: int = 0, stride: int = 1, aligned: tuple[float, ...] = ALIGNED) -> None:
        self.aligned = aligned
        self.sigmas = sigmas.float().cpu()
        self.log_sigmas = self.sigmas.log()
        self.log_alphas = (-0.5 * torch.log1p(self.sigmas.double() ** 2)).float()
        self.offset = offset
        self.stride = stride

    @classmethod
    def from_alphas(cls, alphas_cumprod: Tensor, is_sdxl: bool = False) -> "NoiseSchedule":
        """alphas_cumprod: (timesteps,), the signal's share of the variance, falling from almost 1 to almost 0.

        In float32, as the field reckons: with more digits the lowest sigma would be 1e-5 smaller.
        """
        alphas = alphas_cumprod.float().cpu().clamp(min=LEAST_SIGNAL)
        schedule = cls(((1 - alphas) / alphas).sqrt(), aligned=ALIGNED_SDXL if is_sdxl else ALIGNED)
        schedule.log_alphas = 0.5 * alphas.log()  # not by way of sigma: its last digit counts
        return schedule

    def for_lcm(self) -> "NoiseSchedule":
        """The levels that latent consistency models are distilled on."""
        stride = len(self.sigmas) // LCM_TIMESTEPS
        return NoiseSchedule(self.sigmas[stride - 1 :: stride], stride - 1, stride, self.aligned)

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

    def t_above(self, sigma: float) -> float:
        """The timestep below which all levels are lower than sigma (0: below all, infinity: above all)."""
        return math.inf if sigma > self.sigma_max else self.t(torch.tensor(sigma)) if sigma > self.sigma_min else 0.0

    def nearest_t(self, sigma: Tensor) -> int:
        """The trained timestep whose noise level is nearest to sigma in log sigma; of two that are equally near, the higher."""
        return self.offset + self.stride * math.floor((self.t(sigma) - self.offset) / self.stride + 0.5 + ROUNDING)


@dataclass(frozen=True)
class Plan:
    """The noise levels of one sampling run, and how latents enter and leave it.

    All samplers work on x = signal + sigma * noise. Timestep samplers are defined on latents of unit variance, x / sqrt(1 + sigma^2);
    for them `unit_variance` says that start and end are to be converted.
    strong_start: begin from noise of the variance that noised latents have, sigma^2 + 1, not sigma^2 (Stability's generative-models).

    sigmas: (steps + 1,), falling, float32 on the CPU.
    noised_to: the sigma up to which init latents are noised; that of the first noise, where there is nothing but noise.
    span: smallest (not zero) and largest sigma of the whole schedule.
    read_at: trained timesteps as which the calls' v are read by timestep samplers; (): those at or below the calls' own.
    """

    sigmas: Tensor
    noised_to: float
    span: tuple[float, float]
    unit_variance: bool = False
    strong_start: bool = False
    read_at: tuple[int, ...] = ()

    @property
    def steps(self) -> int:
        return max(len(self.sigmas) - 1, 0)

    def start(self, noise: Tensor, init: Tensor | None) -> Tensor:
        """What the sampler begins with. noise, init: (batch, channels, height/8, width/8); init None: from noise alone."""
        if init is not None and not self.steps:
            return init  # so weak a denoising strength that no call is left: the picture stays
        begin = float(self.sigmas[0])
        if init is None:
            start = begin if self.unit_variance else self.noised_to
            return noise * (math.hypot(1, start) if self.unit_variance or self.strong_start else start)
        x = init + noise * self.noised_to
        return x * (math.hypot(1, begin) / math.hypot(1, self.noised_to)) if self.unit_variance else x

    def finish(self, x: Tensor) -> Tensor:
        """The latents that the sampler's last x stands for."""
        return x / math.hypot(1, float(self.sigmas[-1])) if self.unit_variance and self.steps else x


def make_plan(
    schedule: NoiseSchedule,
    sampler: str,
    schedule_type: str,
    steps: int,
    denoising_strength: float | None = None,
    options: SamplerOptions = DEFAULTS,
    *,
    exact: bool = False,
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
    if sampler == "TCD":
        return _tcd_plan(schedule, steps, tail)
    if choice.kind == "timestep":
        return _timestep_plan(schedule, sampler, steps + options.discard_penultimate_sigma, tail, options.unipc_skip_type)
    sigmas = sigma_schedule(schedule.for_lcm() if choice.kind == "lcm" else schedule, choice, schedule_type, steps, options)
    span = (float(sigmas[sigmas > 0].min()), float(sigmas[0]))
    if tail is not None:
        left = sigmas[steps - tail - 1 :]  # nothing, where the type DDIM has fewer levels than steps: then as many as there are
        sigmas = left if len(left) > 1 else sigmas[-tail - 2 :]
    noised_to = float(sigmas[0])
    if choice.kind == "own":
        sigmas = _even_levels(schedule.sigma_max, schedule.sigma_min, steps) if tail is None else _own_tail(schedule, sigmas)
    return Plan(sigmas, noised_to, span, strong_start=options.sgm_noise_multiplier)


def sigma_schedule(
    schedule: NoiseSchedule, choice: SamplerChoice, schedule_type: str, steps: int, options: SamplerOptions = DEFAULTS
) -> Tensor:
    """(steps + 1,) noise levels, falling, the last one 0 (KL Optimal: the lowest). "Automatic" is the sampler's own type.

    The schedule type DDIM may lay some more or fewer, as the field's does.
    """
    label = choice.default_schedule if schedule_type == "Automatic" else schedule_type
    discards = choice.discards or options.discard_penultimate_sigma
    sigmas = SCHEDULES[label](Range.of(schedule, label, options), steps + discards)
    if label != "KL Optimal":
        sigmas = torch.cat([sigmas, sigmas.new_zeros(1)])
    return torch.cat([sigmas[:-2], sigmas[-1:]]) if discards else sigmas


@dataclass(frozen=True)
class Range:
    """What a schedule type is laid over: the model's levels, and the ends, which options may move."""

    schedule: NoiseSchedule
    low: float
    high: float
    rho: float = 1.0
    beta: tuple[float, float] = (DEFAULTS.beta_alpha, DEFAULTS.beta_beta)

    @classmethod
    def of(cls, schedule: NoiseSchedule, label: str, options: SamplerOptions) -> "Range":
        """Raises BadRequest where the ends are the wrong way round."""
        low, high = options.sigma_min or schedule.sigma_min, options.sigma_max or schedule.sigma_max
        if low >= high:
            raise BadRequest(
                f"Schedule min sigma {low:.4g} is not below Schedule max sigma {high:.4g}; lower it, or 0 for the checkpoint's"
            )
        return cls(schedule, low, high, options.rho or SCHEDULE_TYPES[label].default_rho, (options.beta_alpha, options.beta_beta))

    @property
    def t_high(self) -> float:
        return self._t(self.high)

    @property
    def t_low(self) -> float:
        return self._t(self.low)

    def _t(self, sigma: float) -> float:
        """Consistency models are asked at trained timesteps only, so their ends are."""
        level = torch.tensor(sigma)
        return self.schedule.t(level) if self.schedule.stride == 1 else float(self.schedule.nearest_t(level))


def uniform(over: Range, steps: int) -> Tensor:
    """Evenly spaced timesteps, both ends of the model included, whatever the options' ends are."""
    sigmas = over.schedule.sigmas
    return over.schedule.sigma(torch.linspace(over.schedule.t(sigmas[-1]), over.schedule.t(sigmas[0]), steps))


def normal(over: Range, steps: int) -> Tensor:
    """Evenly spaced timesteps, both ends included."""
    return over.schedule.sigma(torch.linspace(over.t_high, over.t_low, steps))


def sgm_uniform(over: Range, steps: int) -> Tensor:
    """Evenly spaced timesteps without the lowest one (Stability's generative-models)."""
    return over.schedule.sigma(torch.linspace(over.t_high, over.t_low, steps + 1)[:-1])


def karras(over: Range, steps: int) -> Tensor:
    return karras_levels(over.low, over.high, steps, over.rho)


def karras_levels(low: float, high: float, steps: int, rho: float = 7.0) -> Tensor:
    """Evenly spaced roots of sigma: Karras et al. 2022 (arXiv:2206.00364), equation 5."""
    low, high = low ** (1 / rho), high ** (1 / rho)
    return (high + torch.linspace(0, 1, steps) * (low - high)) ** rho


def exponential(over: Range, steps: int) -> Tensor:
    """Evenly spaced log sigma."""
    return torch.linspace(math.log(over.high), math.log(over.low), steps).exp()


def polyexponential(over: Range, steps: int) -> Tensor:
    """log sigma falling as a power of the way that is left."""
    return (torch.linspace(1, 0, steps) ** over.rho * (math.log(over.high) - math.log(over.low)) + math.log(over.low)).exp()


def kl_optimal(over: Range, steps: int) -> Tensor:
    """Evenly spaced arctangents (arXiv:2404.14507, equation 30), steps + 1 of them, so that a run ends on the lowest level, not on 0."""
    part = torch.arange(steps + 1) / steps
    return torch.tan(part * math.atan(over.low) + (1 - part) * math.atan(over.high))


def align_your_steps(over: Range, steps: int) -> Tensor:
    """The levels found best for ten steps (arXiv:2404.14507); their logarithms are interpolated for another number, from the lowest up."""
    known = np.log(over.schedule.aligned[::-1])
    if steps == len(known):
        return torch.tensor(over.schedule.aligned)
    return torch.from_numpy(np.exp(np.interp(np.linspace(0, 1, steps), np.linspace(0, 1, len(known)), known))).float().flip(0)


def simple(over: Range, steps: int) -> Tensor:
    """Every (levels / steps)-th of the model's levels, from the highest."""
    sigmas = over.schedule.sigmas
    return torch.stack([sigmas[-1 - int(i * (len(sigmas) / steps))] for i in range(steps)])


def ddim_levels(over: Range, steps: int) -> Tensor:
    """Every (levels // steps)-th of the model's levels, from the second lowest up: their number need not be `steps`."""
    sigmas = over.schedule.sigmas
    return sigmas[1 :: max(len(sigmas) // steps, 1)].flip(0)


def beta(over: Range, steps: int) -> Tensor:
    """Sigmas at the quantiles of a beta distribution, which crowd at both ends: Lee et al. 2024 (arXiv:2407.12173)."""
    quantiles = stats.beta.ppf(1 - np.linspace(0, 1, steps), *over.beta)
    return torch.from_numpy(over.low + quantiles * (over.high - over.low)).float()  # rounded once: a Brownian path tells the last digit


def turbo(over: Range, steps: int) -> Tensor:
    """The model's levels at the last timestep of each of `steps` equal parts (SD and SDXL Turbo)."""
    levels = len(over.schedule.sigmas)
    timesteps = (torch.arange(1, steps + 1) * (levels / steps) - 1).round().long().clamp(0, levels - 1)
    return over.schedule.sigmas[timesteps.flip(0)]


SCHEDULES: dict[str, Callable[[Range, int], Tensor]] = {
    "Uniform": uniform,
    "Karras": karras,
    "Exponential": exponential,
    "Polyexponential": polyexponential,
    "SGM Uniform": sgm_uniform,
    "KL Optimal": kl_optimal,
    "Align Your Steps": align_your_steps,
    "Simple": simple,
    "Normal": normal,
    "DDIM": ddim_levels,
    "Beta": beta,
    "Turbo": turbo,
}


def _own_tail(schedule: NoiseSchedule, sigmas: Tensor) -> Tensor:
    """As many levels, for samplers that know the ends only, and whose end is not 0: it is the last of `sigmas` that is not.

    Where that is the only one there is a step to half of it all the same.
    """
    high = float(sigmas[0])
    low = schedule.sigma_min if len(sigmas) < 3 else float(sigmas[-2])
    return _even_levels(high, low if low <= 0.999 * high else high / 2, len(sigmas) - 1)


def _even_levels(high: float, low: float, steps: int) -> Tensor:
    """(steps + 1,) levels, even in log sigma, from the very `high` to the very `low`: a sampler with a tolerance tells the last digits."""
    levels = torch.linspace(math.log(high), math.log(low), steps + 1).exp()
    levels[0], levels[-1] = high, low
    return levels


def _tcd_plan(schedule: NoiseSchedule, steps: int, tail: int | None) -> Plan:
    """Even steps over the timesteps that consistency models know, from the highest down to 0 (arXiv:2402.19159)."""
    stride = len(schedule.sigmas) // LCM_TIMESTEPS
    steps = min(steps, LCM_TIMESTEPS)
    timesteps = [(LCM_TIMESTEPS - i * LCM_TIMESTEPS // steps) * stride - 1 for i in range(steps)]
    sigmas = schedule.sigmas[[*timesteps[steps - 1 - min(tail, steps - 1) :], 0] if tail is not None else [*timesteps, 0]]
    return Plan(sigmas, float(sigmas[0]), (float(sigmas[-1]), float(sigmas[0])), unit_variance=True)


def ddim_timesteps(levels: int, steps: int) -> list[int]:
    """DDIM's rising timesteps: every (levels // steps)-th plus 1. The lowest is where the run ends; the network never sees it."""
    return [min(t + 1, levels - 1) for t in range(0, levels, levels // steps)]


def _timestep_plan(schedule: NoiseSchedule, sampler: str, steps: int, tail: int | None, skip_type: str) -> Plan:
    unipc = sampler == "UniPC"  # it counts the timesteps only, and lays its own
    timesteps = ddim_timesteps(len(schedule.sigmas), min(steps, len(schedule.sigmas)))
    if len(timesteps) == 1 and not unipc:
        timesteps.append(len(schedule.sigmas) - 1)  # one step: where the field would make no call at all, make one from the top
    noised_to = float(schedule.sigmas[timesteps[-1 if tail is None else tail]])
    span = (float(schedule.sigmas[timesteps[0]]), float(schedule.sigmas[timesteps[-1]]))
    kept = timesteps if tail is None else timesteps[:tail]
    if not unipc:
        return Plan(schedule.sigmas[kept[::-1]], noised_to, span, unit_variance=True)
    top = float(len(schedule.sigmas) - 1 if tail is None or not kept else kept[-1])
    sigmas = _unipc_sigmas(schedule, len(kept), top, skip_type)
    return Plan(sigmas, noised_to, span, unit_variance=True, read_at=_unipc_read_at(schedule, len(kept), top, skip_type))


def _unipc_read_at(schedule: NoiseSchedule, steps: int, top: float, skip_type: str) -> tuple[int, ...]:
    """The trained timesteps below those that `_unipc_sigmas` lays, cut off in float32 as the published solver counts: in parts of 1.

    So a whole one, as the first always is, is read as the one below where the last digit falls so.
    """
    levels = len(schedule.sigmas)
    known, high, low = torch.linspace(0, 1, levels + 1)[1:], float(torch.tensor(top) / levels + 1 / levels), 1 / levels
    if skip_type == "logSNR":
        ends = _interpolated(torch.tensor([high, low]), known, schedule.log_alphas)
        first, last = (ends - 0.5 * torch.log(1 - torch.exp(2 * ends))).tolist()
        log_alphas = -0.5 * torch.logaddexp(torch.zeros(1), -2 * torch.linspace(first, last, steps + 1))
        times = _interpolated(log_alphas, schedule.log_alphas.flip(0), known.flip(0))
    elif skip_type == "time_quadratic":
        times = torch.linspace(math.sqrt(high), math.sqrt(low), steps + 1) ** 2
    else:
        times = torch.linspace(high, low, steps + 1)
    return tuple(((times[:-1] - low) * levels).int().tolist())


def _interpolated(x: Tensor, known: Tensor, values: Tensor) -> Tensor:
    """The line through `values` at the rising `known`, at x; beyond the ends it goes on straight."""
    low = (torch.searchsorted(known, x) - 1).clamp(0, len(known) - 2)
    return values[low] + (x - known[low]) * (values[low + 1] - values[low]) / (known[low + 1] - known[low])


def _unipc_sigmas(schedule: NoiseSchedule, steps: int, top: float, skip_type: str) -> Tensor:
    """(steps + 1,) levels from timestep `top` down to 0, at timesteps interpolated in log alpha (UniPC, arXiv:2302.04867).

    skip_type: what is even: the timesteps ("time_uniform"), their roots ("time_quadratic") or log sigma ("logSNR").
    """
    if not steps:
        return torch.empty(0)
    if skip_type == "logSNR":
        return torch.linspace(float(schedule.log_sigmas[int(top)]), float(schedule.log_sigmas[0]), steps + 1).exp()
    t = torch.linspace(top, 0, steps + 1, dtype=torch.float64)
    if skip_type == "time_quadratic":
        t = torch.linspace(math.sqrt(top + 1), 1, steps + 1, dtype=torch.float64) ** 2 - 1  # counted from 1 to 1000, as time 0.001 to 1
    log_alphas = -0.5 * torch.log1p(schedule.sigmas.double() ** 2)
    low = t.floor().long().clamp(0, len(schedule.sigmas) - 1)
    part = t - low
    log_alpha = (1 - part) * log_alphas[low] + part * log_alphas[t.ceil().long().clamp(0, len(schedule.sigmas) - 1)]
    return torch.expm1(-2 * log_alpha).sqrt().float()
