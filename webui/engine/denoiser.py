"""The UNet as a function from noisy latents to clean ones: eps or v -> denoised, sigma -> timestep."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from webui.engine.guidance import Context, Network, Predict
from webui.engine.schedules import ROUNDING, NoiseSchedule

LCM_SIGMA_DATA = 0.5  # boundary condition of consistency models (arXiv:2303.01469, appendix C)
LCM_TIMESTEP_SCALING = 10.0

Denoise = Callable[[Tensor, Tensor, int], Tensor]
"""(x, sigma, call) -> denoised. x: (batch, channels, height/8, width/8) = signal + sigma * noise; sigma: 0-dim, on the CPU;
call: how often the network has been called before in this run, which prompt schedules count.
For CFG++ samplers the answer is two in one, (2, *x.shape): guided, and without the prompt; what wraps a Denoise treats both alike."""


def unet_network(unet: Any, shown: Tensor | None = None) -> Network:
    """The UNet's raw answer in float32.

    shown: (1 or batch, 5, h, w), what an inpainting UNet sees beside x (`encode_masked`); None for other UNets.
    """

    def network(x: Tensor, t: float, context: Context) -> Tensor:
        timestep = torch.tensor(t, dtype=torch.float32)
        if shown is not None:
            x = torch.cat([x, shown.repeat(len(x) // len(shown), 1, 1, 1)], dim=1)
        added = None if context.pooled is None else {"text_embeds": context.pooled, "time_ids": context.sizes}
        states = context.states
        return unet(x.to(unet.dtype), timestep, encoder_hidden_states=states, added_cond_kwargs=added, return_dict=False)[0].float()

    return network


def denoiser(predict: Predict, schedule: NoiseSchedule, prediction_type: str) -> Denoise:
    """The clean latents that a network with `prediction_type` "epsilon" or "v_prediction" sees in x (arXiv:2202.00512, appendix D)."""

    def denoise(x: Tensor, sigma: Tensor, call: int) -> Tensor:
        return _to_denoised(predict, x, float(sigma), schedule.t(sigma), call, prediction_type)

    return denoise


def timestep_denoiser(predict: Predict, schedule: NoiseSchedule, prediction_type: str, read_at: Sequence[int] = ()) -> Denoise:
    """As `denoiser`, for timestep samplers: a v is read as one of the trained timestep at or below the network's, as in the field.

    read_at: these timesteps, one for each call; (): they are worked out.
    """
    if prediction_type != "v_prediction":
        return denoiser(predict, schedule, prediction_type)

    def denoise(x: Tensor, sigma: Tensor, call: int) -> Tensor:
        t, seen = schedule.t(sigma), x / math.hypot(1, float(sigma))
        trained = float(schedule.sigmas[read_at[call] if read_at else int(t + ROUNDING)])
        noise = (predict(seen, t, call) + seen * trained) / math.hypot(1, trained)
        return torch.sub(x, noise, alpha=float(sigma))

    return denoise


def lcm_denoiser(predict: Predict, schedule: NoiseSchedule, prediction_type: str) -> Denoise:
    """As `denoiser`, for latent consistency sampling: on the trained timesteps alone, blended with x near the clean end."""

    def denoise(x: Tensor, sigma: Tensor, call: int) -> Tensor:
        t = schedule.nearest_t(sigma)
        denoised = _to_denoised(predict, x, float(sigma), float(t), call, prediction_type)
        scaled = t * LCM_TIMESTEP_SCALING
        length = math.hypot(scaled, LCM_SIGMA_DATA)
        return denoised * (scaled / length) + x * (LCM_SIGMA_DATA / length) ** 2

    return denoise


def keep_unmasked(denoise: Denoise, mask: Tensor, init: Tensor) -> Denoise:
    """`denoise` that answers the init latents wherever mask is 0: sigma samplers stay true to the picture around the mask.

    mask: (1, 1, h, w), 1 = repaint. init: (batch, 4, h, w), clean.
    """

    def blended(x: Tensor, sigma: Tensor, call: int) -> Tensor:
        return torch.lerp(init, denoise(x, sigma, call), mask)

    return blended


def show_unmasked(denoise: Denoise, mask: Tensor, init: Tensor) -> Denoise:
    """`denoise` whose network sees the clean init latents wherever mask is 0; the noise that it finds is taken from the true x.

    The way of timestep samplers, whose latents are x / sqrt(1 + sigma^2): in that scale the clean latents are laid in.
    """

    def blended(x: Tensor, sigma: Tensor, call: int) -> Tensor:
        seen = torch.lerp(init * math.hypot(1, float(sigma)), x, mask)
        return x - (seen - denoise(seen, sigma, call))

    return blended


def held_back(keep: Callable[[Tensor], Denoise], mask: Tensor, free_at: Tensor, schedule: NoiseSchedule) -> Denoise:
    """`keep(mask)`, but a cell that mask 1 gives free stays kept until the noise has fallen to its share of the training timesteps.

    keep: one of the two above for a mask. free_at: as mask, 0 .. 1, 1: free from the start.
    """
    last = len(schedule.sigmas) - 1

    def held(x: Tensor, sigma: Tensor, call: int) -> Tensor:
        return keep(mask * (free_at * last >= schedule.t(sigma)))(x, sigma, call)

    return held


def _to_denoised(predict: Predict, x: Tensor, sigma: float, t: float, call: int, prediction_type: str) -> Tensor:
    length = math.hypot(1, sigma)
    output = predict(x / length, t, call)
    if prediction_type == "v_prediction":
        return x / length**2 - output * (sigma / length)
    return torch.sub(x, output, alpha=sigma)
