"""Trains the miniature's UNet to predict noise in cached latents, under the frozen text encoder."""

import torch
import torch.nn.functional as F
from diffusers import UNet2DConditionModel
from torch import Tensor

from webui.training.progress import Stage

BATCH = 32
LEARNING_RATE = 1.5e-3
EMPTY_CAPTIONS = 0.1  # share of captions left empty: what classifier-free guidance subtracts
SNR_CAP = 5.0  # min-SNR weighting, arXiv:2303.09556
SNR_FLOOR = 0.1  # and its counterpart for the noisiest steps, where the colour of the whole is decided and plain weights hardly count
AVERAGE_DECAY = 0.999  # of the running mean of the weights, which is what gets exported
TIMESTEPS = 1000


def train_unet(
    unet: UNet2DConditionModel, average: UNet2DConditionModel, latents: Tensor, states: Tensor, empty: Tensor, stage: Stage, seed: int = 3
) -> None:
    """Steps of BATCH pictures; `average` follows the weights of `unet`.

    latents: (n, 4, 16, 16) of variance 1. states: (n, captions, 77, width), what the text encoder makes of each picture's captions.
    empty: (77, width), what it makes of no caption.
    """
    optimizer = torch.optim.AdamW(unet.parameters(), lr=LEARNING_RATE, betas=(0.9, 0.99), weight_decay=1e-3)
    if stage.step == 0:
        average.load_state_dict(unet.state_dict())
    stage.resume(unet=unet, average=average, optimizer=optimizer)
    alphas = cumulative_alphas().float()
    torch.manual_seed(seed + stage.step)
    for step in stage.steps():
        for group in optimizer.param_groups:
            group["lr"] = LEARNING_RATE * stage.cosine(step, warmup=100)
        chosen = torch.randint(len(latents), (BATCH,))
        text = states[chosen, torch.randint(states.shape[1], (BATCH,))].float()
        text[torch.rand(BATCH) < EMPTY_CAPTIONS] = empty.float()
        loss = noise_loss(unet, latents[chosen].float(), text, alphas)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(unet.parameters(), 1.0)
        optimizer.step()
        follow(average, unet, min(AVERAGE_DECAY, (1 + step) / (10 + step)))
        stage.done(step, loss.item(), unet=unet, average=average, optimizer=optimizer)


def noise_loss(unet: UNet2DConditionModel, clean: Tensor, states: Tensor, alphas: Tensor) -> Tensor:
    """Mean squared error of the predicted noise at one timestep a row, spread evenly over all, weighted by clamp(SNR, floor, cap) / SNR."""
    count = len(clean)
    t = ((torch.randperm(count) + torch.rand(count)) / count * TIMESTEPS).long()
    alpha = alphas[t][:, None, None, None]
    noise = torch.randn_like(clean)
    noisy = alpha.sqrt() * clean + (1 - alpha).sqrt() * noise
    with torch.autocast("cpu", torch.bfloat16):
        predicted = unet(noisy, t, states).sample.float()
    ratio = (alpha / (1 - alpha)).flatten()
    weight = ratio.clamp(SNR_FLOOR, SNR_CAP) / ratio
    return (weight * F.mse_loss(predicted, noise, reduction="none").mean(dim=(1, 2, 3))).mean()


def cumulative_alphas() -> Tensor:
    """Products of 1 - beta over SD 1.x's scaled-linear betas: (1000,), float64."""
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, TIMESTEPS, dtype=torch.float64) ** 2
    return torch.cumprod(1 - betas, dim=0)


@torch.no_grad()
def follow(average: UNet2DConditionModel, unet: UNet2DConditionModel, decay: float) -> None:
    """Move each weight of `average` towards that of `unet` by 1 - decay."""
    torch._foreach_lerp_(list(average.parameters()), list(unet.parameters()), 1 - decay)
