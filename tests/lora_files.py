"""LoRA files for tests: random but seeded changes of a model's layers, under the names that trainers give them."""

import functools
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from tests.tiny import tiny_parts
from webui.engine.family import load_family
from webui.engine.ldm_keys import unet_places
from webui.engine.model import DiffusionModel, make_pipeline

Name = Callable[[str, str], str]  # component, path of a module -> the layer's name in the file


@functools.cache
def patched_model(family: str) -> DiffusionModel:
    """The same `weights_model` for the whole test session: leave it as it was."""
    return weights_model(family)


def weights_model(family: str) -> DiffusionModel:
    """A tiny model for tests of weights: its text encoders know 100 tokens."""
    facts = load_family(family)
    parts = {name: part for name, part in tiny_parts(family, vocabulary=100).items() if part is not None}
    others = dict.fromkeys(("scheduler", "tokenizer", *(layout.tokenizer for layout in facts.text_encoders)))
    return DiffusionModel(
        make_pipeline(facts, {**dict.fromkeys(("text_encoder",)), **others, **parts}), facts, Path(f"{family}.safetensors")
    )


def layers_of(model: DiffusionModel) -> Iterator[tuple[str, str, nn.Module]]:
    """(component, path, module) of every linear layer and convolution that trainers can change."""
    for component in ("unet", *(layout.component for layout in model.family.text_encoders)):
        for path, module in getattr(model.pipeline, component).named_modules():
            if isinstance(module, nn.Linear | nn.Conv2d):
                yield component, path, module


def kohya_name(family: str) -> Name:
    """lora_unet_down_blocks_0_..., lora_te_text_model_encoder_layers_0_..., for SDXL lora_te1_ and lora_te2_."""
    encoders = {"text_encoder": "lora_te1" if family == "sdxl" else "lora_te", "text_encoder_2": "lora_te2"}

    def name(component: str, path: str) -> str:
        if component == "unet":
            return f"lora_unet_{path.replace('.', '_')}"
        level = "" if path == "text_projection" else "text_model_"
        return f"{encoders[component]}_{level}{path.removeprefix('text_model.').replace('.', '_')}"

    return name


def kohya_ldm_name(model: DiffusionModel) -> Name:
    """As kohya names SDXL's UNet: lora_unet_input_blocks_4_1_..."""
    kohya = kohya_name(model.family.config)

    def name(component: str, path: str) -> str:
        if component != "unet":
            return kohya(component, path)
        place = unet_places([f"{path}.weight"], model.unet.config)[f"{path}.weight"]
        return f"lora_unet_{place.key.removesuffix('.weight').replace('.', '_')}"

    return name


def diffusers_name(component: str, path: str) -> str:
    """unet.down_blocks.0..., text_encoder.text_model.encoder.layers.0..."""
    level = "" if component == "unet" or path == "text_projection" else "text_model."
    return f"{component}.{level}{path.removeprefix('text_model.')}"


def low_rank(weight: Tensor, rank: int, generator: torch.Generator) -> dict[str, Tensor]:
    up = torch.randn(len(weight), rank, *[1] * (weight.ndim - 2), generator=generator) * 0.1
    down = torch.randn(rank, *weight.shape[1:], generator=generator)
    return {"lora_up.weight": up, "lora_down.weight": down, "alpha": torch.tensor(rank * 0.5)}


def write_lora(
    path: Path,
    model: DiffusionModel,
    name: Name,
    *,
    make: Callable[[Tensor, int, torch.Generator], dict[str, Tensor]] = low_rank,
    rank: int = 2,
    seed: int = 0,
    metadata: dict[str, str] | None = None,
    only: str = "",
) -> Path:
    """A file that changes every layer of `model` whose path holds `only`."""
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for component, place, module in layers_of(model):
        if only in place:
            made = make(module.weight, rank, generator)
            tensors |= {f"{name(component, place)}.{part}": tensor.contiguous() for part, tensor in made.items()}
    save_file(tensors, path, metadata=metadata)
    return path
