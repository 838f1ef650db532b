"""Samplers: generators that walk noisy latents down a list of noise levels. One function and one row of SAMPLERS each.

All of them work on x = signal + sigma * noise, the ones that the field writes for latents of unit variance (DDIM, PLMS, UniPC) too:
the change of scale is exact, and `schedules.Plan` makes it at start and end.

Common to all: denoise(x, sigma, call) gives the clean latents; x: (batch, channels, height/8, width/8); sigmas: (steps + 1,), falling,
float32 on the CPU, so that no arithmetic on them waits for a device; noise(sigma, sigma_next): unit variance, shaped like x.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from webui.core.sampler_options import SamplerOptions
from webui.engine.samplers.dpm_solver import sample_dpm_adaptive, sample_dpm_fast
from webui.engine.samplers.multistep import sample_deis, sample_dpmpp_2m, sample_ipndm, sample_lms, sample_plms, sample_unipc
from webui.engine.samplers.one_step import (
    sample_dpm_2,
    sample_dpm_2_ancestral,
    sample_euler,
    sample_euler_cfgpp,
    sample_heun,
    sample_heunpp2,
    sample_restart,
)
from webui.engine.samplers.step import Noise, Step, Steps
from webui.engine.samplers.stochastic import (
    sample_ddim_cfgpp,
    sample_dpmpp_2m_sde,
    sample_dpmpp_2s_ancestral,
    sample_dpmpp_3m_sde,
    sample_dpmpp_sde,
    sample_euler_ancestral,
    sample_lcm,
    sample_tcd,
)

__all__ = ["SAMPLERS", "Noise", "Sampler", "Step", "Steps"]

CHURN = {name: name for name in ("s_churn", "s_tmin", "s_tmax", "s_noise")}
ETA = {"eta": "eta"}
NOISY = {"eta": "eta", "s_noise": "s_noise"}
DDIM = {"eta": "eta_ddim"}
UNIPC = {"order": "unipc_order", "variant": "unipc_variant", "lower_order_final": "unipc_lower_order_final"}


@dataclass(frozen=True)
class Sampler:
    """sample: (denoise, x, sigmas[, noise], **options) -> steps.

    noise: "none", "image" (each image's generator) or "brownian". takes: its options -> the fields of SamplerOptions that set them.
    cfgpp: `denoise` answers two latents, guided and without the prompt; cfg_unit is then the CFG scale that counts as 1.
    on_timesteps: it also takes `schedule`, the model's NoiseSchedule.
    """

    sample: Callable[..., Steps]
    noise: str = "none"
    takes: Mapping[str, str] = field(default_factory=dict)
    cfgpp: bool = False
    cfg_unit: float = 1.0
    on_timesteps: bool = False

    def options(self, options: SamplerOptions) -> dict[str, Any]:
        """The keyword arguments that `sample` takes."""
        return {name: getattr(options, source) for name, source in self.takes.items()}


SAMPLERS: dict[str, Sampler] = {
    "DPM++ 2M": Sampler(sample_dpmpp_2m),
    "DPM++ SDE": Sampler(sample_dpmpp_sde, "brownian", NOISY),
    "DPM++ 2M SDE": Sampler(sample_dpmpp_2m_sde, "brownian", NOISY),
    "DPM++ 2M SDE Heun": Sampler(partial(sample_dpmpp_2m_sde, heun=True), "brownian", NOISY),
    "DPM++ 2S a": Sampler(sample_dpmpp_2s_ancestral, "image", NOISY),
    "DPM++ 3M SDE": Sampler(sample_dpmpp_3m_sde, "brownian", NOISY),
    "Euler a": Sampler(sample_euler_ancestral, "image", ETA),
    "Euler": Sampler(sample_euler, "image", CHURN),
    "LMS": Sampler(sample_lms),
    "Heun": Sampler(sample_heun, "image", CHURN),
    "DPM2": Sampler(sample_dpm_2, "image", CHURN),
    "DPM2 a": Sampler(sample_dpm_2_ancestral, "image", NOISY),
    "DPM fast": Sampler(sample_dpm_fast, "image", NOISY),
    "DPM adaptive": Sampler(sample_dpm_adaptive, "image", ETA),
    "Restart": Sampler(sample_restart, "image"),
    "HeunPP2": Sampler(sample_heunpp2),
    "IPNDM": Sampler(sample_ipndm),
    "DEIS": Sampler(sample_deis),
    "Euler CFG++": Sampler(sample_euler_cfgpp, cfgpp=True),
    "DDIM": Sampler(sample_euler_ancestral, "image", DDIM),
    "DDIM CFG++": Sampler(sample_ddim_cfgpp, "image", DDIM, cfgpp=True, cfg_unit=12.5),
    "PLMS": Sampler(sample_plms),
    "UniPC": Sampler(sample_unipc, takes=UNIPC),
    "TCD": Sampler(sample_tcd, "image", on_timesteps=True),
    "LCM": Sampler(sample_lcm, "image"),
}
