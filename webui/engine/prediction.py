"""What a UNet answers where its file does not say: told by its weights, for SD 2.x, whose files for noise and for v look the same."""

import torch
from torch import Tensor
from torch.nn import functional

from webui.core.family import answering
from webui.engine.diffusers_parts import UNet2DConditionModel
from webui.engine.family import Family
from webui.engine.patches.borrowed_weights import borrowed_weights

LAST = 999  # the training timestep at which next to nothing but noise is left
SIDE = 16  # latents: enough for a clear answer
TOKENS = 77
ALIKE = 0.5  # cosine: near 1 for UNets that predict noise, near 0 for those that predict v


def by_its_answer(family: Family, unet: UNet2DConditionModel) -> Family:
    """`family`, where what it predicts was a guess, with what the UNet does predict."""
    if not family.is_guess:
        return family
    return answering(family, "epsilon" if likeness_to_noise(unet) > ALIKE else "v_prediction")


def likeness_to_noise(unet: UNet2DConditionModel) -> float:
    """The cosine between pure noise at the last timestep and what the UNet answers to it, -1 .. 1; NaN for damaged weights.

    There x is the noise but for a share of sqrt(0.0047) of the picture. So who predicts noise gives x back; who predicts
    v = 0.07 * noise - 1.0 * picture (arXiv:2202.00512) tells of a picture, which x does not show. In fp32: SD 2.1 overflows in fp16.
    """
    noise = torch.randn((1, unet.config.in_channels, SIDE, SIDE), generator=torch.Generator().manual_seed(0)).to(unet.device)
    states = torch.zeros((1, TOKENS, unet.config.cross_attention_dim), device=unet.device)
    with torch.inference_mode(), borrowed_weights(unet, dtype=torch.float32):
        answer: Tensor = unet(noise, torch.tensor(LAST, device=unet.device), encoder_hidden_states=states, return_dict=False)[0]
    return float(functional.cosine_similarity(answer.flatten(), noise.flatten(), dim=0))
