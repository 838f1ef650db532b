"""DiffusionModel: a loaded checkpoint, its parts and the facts about them."""

from contextlib import AbstractContextManager, nullcontext
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from webui.core.family import predicting
from webui.engine.diffusers_parts import AutoencoderKL, StableDiffusionPipeline, StableDiffusionXLPipeline, UNet2DConditionModel
from webui.engine.family import Family
from webui.engine.placement import Placement
from webui.engine.scratch import Scratch

TRAIN_STEPS = 1000
BETA_START, BETA_END = 0.00085, 0.012  # "scaled linear": evenly spaced square roots (arXiv:2112.10752)


class DiffusionModel:
    """Holds a diffusers pipeline and names its parts. Its weights are shared by every copy that `with_vae` makes."""

    def __init__(
        self,
        pipeline: Any,
        family: Family,
        path: Path,
        vae_path: Path | None = None,
        placement: Placement | None = None,
        scratch: Scratch | None = None,
    ) -> None:
        self.pipeline = pipeline
        self.family = family
        self.path = path  # of the checkpoint
        self.vae_path = vae_path  # of the VAE, where it is not the checkpoint's own
        self.placement = placement  # None: all parts stay where they are
        self.scratch = scratch or Scratch()  # for changed weights; one for all models with the same parts

    @property
    def unet(self) -> UNet2DConditionModel:
        return self.pipeline.unet

    @property
    def vae(self) -> AutoencoderKL:
        return self.pipeline.vae

    @property
    def text_encoders(self) -> tuple[nn.Module, ...]:
        """One, or SDXL's two; in the order in which their states are joined."""
        return tuple(getattr(self.pipeline, layout.component) for layout in self.family.text_encoders)

    @property
    def tokenizers(self) -> tuple[Any, ...]:
        """The tokenizer of each of `text_encoders`."""
        return tuple(getattr(self.pipeline, layout.tokenizer) for layout in self.family.text_encoders)

    @property
    def text_encoder(self) -> nn.Module:
        return self.text_encoders[0]

    @property
    def tokenizer(self) -> Any:
        return self.tokenizers[0]

    @property
    def device(self) -> torch.device:
        """Where all work is done."""
        return self.placement.device if self.placement else first_weight(self.unet).device

    @property
    def dtype(self) -> torch.dtype:
        """The UNet's and the text encoders' type; the VAE's may differ."""
        return first_weight(self.unet).dtype

    @property
    def scaling_factor(self) -> float:
        """Latents of the UNet = latents of the VAE * this."""
        return float(self.vae.config.scaling_factor)

    @cached_property
    def alphas_cumprod(self) -> Tensor:
        """(1000,) float64 on the CPU: the share of the picture's variance that is left at each training timestep."""
        alphas = alphas_cumprod()
        return with_zero_terminal_snr(alphas) if self.family.zero_terminal_snr else alphas

    def at_work(self, part: nn.Module) -> AbstractContextManager[None]:
        """Within the block a text encoder or the VAE is on the device, and can be called."""
        return self.placement.at_work(part) if self.placement else nullcontext()

    def unet_at_work(self) -> AbstractContextManager[None]:
        """Within the block the UNet can be called."""
        return self.placement.unet_at_work(self.unet) if self.placement else nullcontext()

    def predicting(self, prediction_type: str) -> "DiffusionModel":
        """This model, or one with the very same parts whose UNet answers something else than its file says; see core.family.predicting."""
        family = predicting(self.family, prediction_type)
        if family == self.family:
            return self
        return DiffusionModel(self.pipeline, family, self.path, self.vae_path, self.placement, self.scratch)

    def with_vae(self, vae: AutoencoderKL, vae_path: Path | None = None) -> "DiffusionModel":
        """A new model with another VAE and the very same UNet, text encoders and tokenizers."""
        components = {**self.pipeline.components, "vae": vae}
        return DiffusionModel(make_pipeline(self.family, components), self.family, self.path, vae_path, self.placement, self.scratch)


def first_weight(part: nn.Module) -> Tensor:
    """By which a part tells its device and type: asking diffusers for them walks through all its layers, milliseconds at every step."""
    return next(part.parameters())


def make_pipeline(family: Family, components: dict[str, Any]) -> StableDiffusionPipeline | StableDiffusionXLPipeline:
    """The pipeline that holds the components; none of them is copied, moved or changed."""
    if family.is_sdxl:
        empty = dict.fromkeys(("text_encoder", "tokenizer", "image_encoder", "feature_extractor"))
        return StableDiffusionXLPipeline(**{**empty, **components}, add_watermarker=False)
    empty = dict.fromkeys(("safety_checker", "image_encoder", "feature_extractor"))
    return StableDiffusionPipeline(**{**empty, **components}, requires_safety_checker=False)


def alphas_cumprod() -> Tensor:
    """(1000,) float64: the noise schedule of every Stable Diffusion, cumulative product of 1 - beta."""
    roots = torch.linspace(BETA_START**0.5, BETA_END**0.5, TRAIN_STEPS, dtype=torch.float64)
    return torch.cumprod(1 - roots**2, dim=0)


def with_zero_terminal_snr(alphas: Tensor) -> Tensor:
    """The schedule stretched so that its last step is pure noise (Lin et al. 2023, arXiv:2305.08891, Algorithm 1)."""
    roots = alphas.sqrt()
    return ((roots - roots[-1]) * roots[0] / (roots[0] - roots[-1])) ** 2
