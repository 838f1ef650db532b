"""Small checkpoints with random but seeded weights, in the layouts of real ones: made in a moment, loaded in less."""

import functools
import tempfile
from pathlib import Path
from typing import Any

import torch

from webui.engine.checkpoint import load_checkpoint, save_single_file
from webui.engine.diffusers_parts import (
    AutoencoderKL,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    UNet2DConditionModel,
)
from webui.engine.family import load_family
from webui.engine.model import DiffusionModel

WIDTHS = [32, 64, 64, 64]  # of the UNet's blocks, as many as the family has
CPU = torch.device("cpu")


def tiny_checkpoint(path: Path, *, family: str = "miniature", dtype: torch.dtype = torch.float16, seed: int = 0) -> Path:
    """Write a complete single file of the family's layout: narrow UNet and VAE, text encoders of few layers."""
    parts = tiny_parts(family, seed)
    save_single_file(path, **parts, dtype=dtype, metadata={"modelspec.title": f"tiny {family}"})
    return path


def full_size_parts(family: str = "sd1") -> dict[str, Any]:
    """Modules in the family's full size (SD 1.5: 860 M + 84 M + 123 M weights, 2.1 GB; SDXL: 3.5 G, 7 GB), fp16, random."""
    facts = load_family(family)
    generator = torch.Generator().manual_seed(0)
    with torch.device("meta"):
        parts: dict[str, Any] = {
            "unet": UNet2DConditionModel.from_config(facts.read_config("unet")),
            "vae": AutoencoderKL.from_config(facts.read_config("vae")),
        }
        for layout in facts.text_encoders:
            config = facts.read_config(layout.component)
            projected = config["architectures"] == ["CLIPTextModelWithProjection"]
            parts[layout.component] = (CLIPTextModelWithProjection if projected else CLIPTextModel)(CLIPTextConfig.from_dict(config))
    for module in parts.values():
        weights = {key: torch.randn(tensor.shape, generator=generator).half() * 0.02 for key, tensor in module.state_dict().items()}
        module.load_state_dict(weights, assign=True)
    return parts


def tiny_parts(family: str, seed: int = 0, vocabulary: int = 49408, **unet_changes: Any) -> dict[str, Any]:
    """The modules of a tiny model: unet, vae, text_encoder and, for SDXL, text_encoder_2.

    vocabulary: fewer than 49408 tokens make SDXL's text encoders light, but then no prompt can be encoded.
    """
    facts = load_family(family)
    unet, vae = facts.read_config("unet"), facts.read_config("vae")
    blocks = len(unet["block_out_channels"])
    unet.update(block_out_channels=WIDTHS[:blocks])
    if isinstance(unet.get("attention_head_dim"), list):
        unet["attention_head_dim"] = [1] * blocks
    if "transformer_layers_per_block" in unet:
        unet["transformer_layers_per_block"] = 1
    vae.update(block_out_channels=[32] * len(vae["block_out_channels"]))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        parts: dict[str, Any] = {
            "unet": UNet2DConditionModel.from_config(unet | unet_changes),
            "vae": AutoencoderKL.from_config(vae),
            "text_encoder": None,
        }
        for layout in facts.text_encoders:
            parts[layout.component] = _text_encoder(facts.read_config(layout.component), vocabulary)
    return {name: part and part.eval().requires_grad_(False) for name, part in parts.items()}


def _text_encoder(config: dict[str, Any], vocabulary: int) -> CLIPTextModel | CLIPTextModelWithProjection:
    """The family's width (it is what tells families apart), but thin layers, and few where they are wide."""
    layers = config["num_hidden_layers"] if config["hidden_size"] < 256 else 2
    config.update(num_hidden_layers=layers, intermediate_size=config["hidden_size"] // 4, vocab_size=vocabulary)
    projected = config["architectures"] == ["CLIPTextModelWithProjection"]
    return (CLIPTextModelWithProjection if projected else CLIPTextModel)(CLIPTextConfig.from_dict(config))


@functools.cache
def tiny_model(family: str = "miniature") -> DiffusionModel:
    """A loaded tiny model in fp32 on the CPU, the same object for the whole test session: leave it as it is."""
    with tempfile.TemporaryDirectory() as folder:
        return load_checkpoint(tiny_checkpoint(Path(folder) / "tiny.safetensors", family=family), torch.float32, CPU)
