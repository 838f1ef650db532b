"""Trains the miniature's VAE on crops of its world, and makes its latents zero-mean and unit-variance."""

import math
from random import Random

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from torch import Tensor, nn

from webui.training.progress import Stage
from webui.training.world import draw, random_scene

CROPS = ((0.0, 32, 32), (0.5, 64, 8))  # from this share of the steps on: side in pixels, and crops a step
# The VAE is convolutional: small crops of many pictures teach it colours, larger ones what the picture's rim does.
POOL = 3000  # pictures that crops are taken from
LEARNING_RATE = 2e-3
EDGE_WEIGHT = 0.5
KL_WEIGHT = 1e-8  # of the sum over a crop's latents; pixels count as a mean
QUIET = -7.0  # log variance of the posterior at the start: noise would drown the first signals
BRANCH_GAIN = 0.1  # of residual branches at the start: the network begins as a nearly linear path that lets colours through
SCALING_FACTOR = 0.18215  # SD 1.x's; `normalise` makes it true for this VAE


def train_vae(vae: AutoencoderKL, stage: Stage, seed: int = 1) -> None:
    """Steps of L1 on pixels and on their gradients, and a small KL; `stage` counts, saves and resumes."""
    optimizer = torch.optim.AdamW(vae.parameters(), lr=LEARNING_RATE, betas=(0.9, 0.99), weight_decay=0.0)
    if stage.step == 0:
        initialise(vae)
    stage.resume(vae=vae, optimizer=optimizer)
    rng = Random(seed)
    pool = torch.stack([to_tensor(draw(random_scene(rng))) for _ in range(POOL)])
    rng.seed(f"{seed} {stage.step}")
    for step in stage.steps():
        for group in optimizer.param_groups:
            group["lr"] = LEARNING_RATE * stage.cosine(step, warmup=20)
        side, count = next((side, count) for start, side, count in reversed(CROPS) if step >= start * stage.total)
        pictures = random_crops(pool, side, count, rng)
        with torch.autocast("cpu", torch.bfloat16):
            posterior = vae.encode(pictures).latent_dist
            decoded = vae.decode(posterior.sample()).sample.float()
        loss = F.l1_loss(decoded, pictures) + EDGE_WEIGHT * edge_loss(decoded, pictures)
        loss = loss + KL_WEIGHT * posterior.kl().mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        optimizer.step()
        stage.done(step, loss.item(), vae=vae, optimizer=optimizer)


@torch.no_grad()
def initialise(vae: AutoencoderKL) -> None:
    """Weights of gain 1, quiet residual branches and a quiet posterior: flat colours reach the other end from the first step."""
    for name, module in vae.named_modules():
        if isinstance(module, nn.Conv2d):
            nn.init.normal_(module.weight, std=module.weight[0].numel() ** -0.5)
            nn.init.zeros_(module.bias)
        if name.endswith(("conv2", "to_out.0")):
            module.weight *= BRANCH_GAIN
    channels = vae.config.latent_channels
    vae.quant_conv.weight[channels:] = 0
    vae.quant_conv.bias[channels:] = QUIET


def random_crops(pool: Tensor, side: int, count: int, rng: Random) -> Tensor:
    """`count` crops (count, 3, side, side) of random pictures of `pool` (n, 3, h, w)."""
    crops = []
    for _ in range(count):
        picture = pool[rng.randrange(len(pool))]
        y, x = (rng.randrange(length - side + 1) for length in picture.shape[1:])
        crops.append(picture[:, y : y + side, x : x + side])
    return torch.stack(crops)


def edge_loss(one: Tensor, other: Tensor) -> Tensor:
    """Mean absolute difference of the horizontal and vertical gradients of two batches (n, 3, h, w): keeps edges sharp."""
    across = F.l1_loss(one.diff(dim=-1), other.diff(dim=-1))
    return across + F.l1_loss(one.diff(dim=-2), other.diff(dim=-2))


def to_tensor(picture: object) -> Tensor:
    """An RGB picture as (3, height, width), -1 .. 1."""
    pixels = np.asarray(picture, dtype=np.float32) / 127.5 - 1
    return torch.from_numpy(pixels).permute(2, 0, 1)


@torch.no_grad()
def normalise(vae: AutoencoderKL, latents: Tensor) -> None:
    """Fold shift and scale into the 1x1 convolutions around the latents, channel by channel, so that
    SCALING_FACTOR * latents has mean 0 and variance 1 over `latents` (n, 4, h, w; what the VAE gives now)."""
    mean = latents.mean(dim=(0, 2, 3))
    gain = 1 / (SCALING_FACTOR * latents.std(dim=(0, 2, 3)))
    moments, back = vae.quant_conv, vae.post_quant_conv
    channels = len(mean)
    moments.weight[:channels] *= gain[:, None, None, None]
    moments.bias[:channels] = (moments.bias[:channels] - mean) * gain
    moments.bias[channels:] += 2 * gain.log()
    back.bias += (back.weight[:, :, 0, 0] * mean).sum(dim=1)
    back.weight /= gain[None, :, None, None]


@torch.no_grad()
def encode(vae: AutoencoderKL, pictures: Tensor) -> Tensor:
    """Means of the posterior of pictures (n, 3, h, w) in -1 .. 1: (n, 4, h/8, w/8), fp32, not scaled."""
    with torch.autocast("cpu", torch.bfloat16):
        return vae.encode(pictures).latent_dist.mean.float()


@torch.no_grad()
def peak_signal_to_noise(vae: AutoencoderKL, pictures: Tensor) -> float:
    """dB between pictures (n, 3, h, w) in -1 .. 1 and what the VAE makes of them."""
    decoded = vae.decode(vae.encode(pictures).latent_dist.mean).sample.clamp(-1, 1)
    return 10 * math.log10(4 / F.mse_loss(decoded, pictures).item())
