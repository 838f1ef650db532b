"""A picture on the way: what the model makes with what was learnt until now."""

from typing import Any

import torch
from PIL import Image
from torch import Tensor

from webui.core.training_request import TrainingRequest
from webui.engine.latents import decode_latents
from webui.engine.model import DiffusionModel
from webui.training.loop import Addition, Texts

STEPS = 20
CFG_SCALE = 7.0


@torch.no_grad()
def sample_picture(model: DiffusionModel, addition: Addition, request: TrainingRequest) -> Image.Image:
    """The picture of `sample_prompt`, of the training's size and seed. To be called while the addition is attached.

    DDIM without noise: Song et al. 2021 (arXiv:2010.02502), equation 12 with sigma 0.
    """
    states = Texts(model, addition).of([request.sample_prompt or request.name, ""]).to(model.dtype)
    alphas = model.alphas_cumprod.float().to(model.device)
    times = list(range(len(alphas) - 1, -1, -(len(alphas) // STEPS)))
    shape = (1, 4, request.height // 8, request.width // 8)
    x = torch.randn(shape, generator=torch.Generator().manual_seed(request.seed)).to(model.device)
    for t, following in zip(times, [*times[1:], None], strict=True):
        alpha = alphas[t].clamp(min=1e-6)  # zero terminal SNR: there is noise alone
        later = alphas[following] if following is not None else alphas.new_ones(())
        noise = _noise(model, x, t, alpha, states)
        clean = (x - (1 - alpha).sqrt() * noise) / alpha.sqrt()
        x = later.sqrt() * clean + (1 - later).sqrt() * noise
    return decode_latents(model, x)[0]


def _noise(model: DiffusionModel, x: Tensor, t: int, alpha: Tensor, states: Tensor) -> Tensor:
    """The noise that the model sees in x (1, 4, h, w), after guidance."""
    both = torch.cat([x, x]).to(model.dtype)
    answer: Any = model.unet(both, torch.tensor([t, t], device=model.device), states).sample.float()
    told = answer[1:] + CFG_SCALE * (answer[:1] - answer[1:])
    return alpha.sqrt() * told + (1 - alpha).sqrt() * x if model.family.prediction_type == "v_prediction" else told
