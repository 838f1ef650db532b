"""Pictures on the way of a training equal those of diffusers' own DDIM."""

import numpy as np
import torch
from diffusers import DDIMScheduler

from webui.core.training_request import TrainingRequest
from webui.engine.latents import decode_latents
from webui.engine.model import DiffusionModel
from webui.engine.text_encoding import encode_prompt
from webui.training.lora import LoraTraining
from webui.training.sampling import CFG_SCALE, STEPS, sample_picture


def test_a_sample_is_ddim_over_the_model_as_it_is(model: DiffusionModel) -> None:
    request = TrainingRequest(kind="lora", name="sks", sample_prompt="red", width=64, height=64, seed=3)
    lora = LoraTraining(model, rank=2)
    with lora.attached():
        made = np.asarray(sample_picture(model, lora, request)).astype(int)
    assert np.abs(made - _by_diffusers(model, request)).max() <= 1


@torch.no_grad()
def _by_diffusers(model: DiffusionModel, request: TrainingRequest) -> np.ndarray:
    scheduler = DDIMScheduler(clip_sample=False, timestep_spacing="trailing")
    scheduler.alphas_cumprod = model.alphas_cumprod.float()
    scheduler.set_timesteps(STEPS)
    red, nothing = (encode_prompt(model, text, 1).states[None] for text in (request.sample_prompt, ""))
    x = torch.randn((1, 4, 8, 8), generator=torch.Generator().manual_seed(request.seed))
    for t in scheduler.timesteps:
        cond, uncond = (model.unet(x, t, states).sample for states in (red, nothing))
        x = scheduler.step(uncond + CFG_SCALE * (cond - uncond), t, x).prev_sample
    return np.asarray(decode_latents(model, x)[0]).astype(int)
