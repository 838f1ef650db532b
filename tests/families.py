"""Tiny models of all families, put together in memory within a second or two: those of tests/tiny.py are written and read as files."""

import functools
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from tests.tiny import tiny_parts
from webui.core.family import family_of_unet
from webui.engine.diffusers_parts import EulerDiscreteScheduler
from webui.engine.family import complete
from webui.engine.model import DiffusionModel, make_pipeline
from webui.engine.tokenizers import load_tokenizer

WORDS = 49408


@functools.cache
def family_model(name: str, *, in_channels: int = 4, prediction_type: str = "", zero_terminal_snr: bool = False) -> DiffusionModel:
    """A model of the family, random but seeded, fp32 on the CPU, the same object for the whole test session: leave it as it is.

    in_channels 9: for inpainting. prediction_type "": the family's own.
    """
    parts = _parts(name, in_channels)
    family = complete(family_of_unet(parts["unet"].config.cross_attention_dim, in_channels, name))
    family = replace(family, prediction_type=prediction_type or family.prediction_type, zero_terminal_snr=zero_terminal_snr, native_size=64)
    components = {"unet": parts["unet"], "vae": parts["vae"], "scheduler": EulerDiscreteScheduler(steps_offset=1)}
    for layout in family.text_encoders:
        owner = "sdxl" if name == "sdxl_refiner" else name  # the refiner has SDXL's second text encoder
        components[layout.component] = _with_all_words(owner, layout.component)
        components[layout.tokenizer] = load_tokenizer(layout.pad_token)
    return DiffusionModel(make_pipeline(family, components), family, Path(f"{name}.safetensors"))


@functools.cache
def _parts(name: str, in_channels: int) -> dict[str, nn.Module]:
    return tiny_parts(name, vocabulary=500, in_channels=in_channels)


@functools.cache
def _with_all_words(name: str, component: str) -> nn.Module:
    """The family's text encoder, its vocabulary whole: drawing all those vectors at once takes a tenth of what transformers takes."""
    encoder = _parts(name, 4)[component]
    generator = torch.Generator().manual_seed(0)
    vectors = torch.randn(WORDS, encoder.config.hidden_size, generator=generator) * 0.02
    encoder.get_input_embeddings().weight = nn.Parameter(vectors, requires_grad=False)
    return encoder
