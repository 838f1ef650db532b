"""Checkpoint files -> DiffusionModel, and back: single files in LDM layout, diffusers folders, VAE files. Never a network."""

import os
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from webui.core.errors import BadModelFile, StorageError
from webui.core.family import family_of_unet
from webui.engine.component_places import folder_parts, single_file_parts, vae_part, weight_file
from webui.engine.diffusers_parts import AutoencoderKL, EulerDiscreteScheduler, PNDMScheduler
from webui.engine.family import UNET_PREFIX, VAE_PREFIX, Family, complete, load_family
from webui.engine.ldm_keys import Place, text_places, unet_places, vae_places
from webui.engine.model import DiffusionModel, make_pipeline
from webui.engine.model_file import open_tensors
from webui.engine.module_loading import Part, load_autoencoder, load_text_encoder, load_unet
from webui.engine.tokenizers import load_tokenizer

SCHEDULERS = {"PNDMScheduler": PNDMScheduler, "EulerDiscreteScheduler": EulerDiscreteScheduler}
NO_VAE = "{} has no VAE; choose one for it (VAE files belong into models/VAE/)"


def load_checkpoint(
    path: Path,
    dtype: torch.dtype,
    device: torch.device,
    vae_path: Path | None = None,
    *,
    vae_dtype: torch.dtype | None = None,
) -> DiffusionModel:
    """Load a single file (.safetensors or .ckpt) or a diffusers folder.

    vae_path: a VAE file that takes the place of the checkpoint's own. vae_dtype: `dtype` where None.
    """
    vae_dtype = vae_dtype or dtype
    with ExitStack() as files:
        if path.is_dir():
            family, parts = folder_parts(path, files)
        else:
            family, parts = single_file_parts(files.enter_context(open_tensors(path)))
        if vae_path is None and not parts["vae"].is_there:
            raise BadModelFile(NO_VAE.format(path.name))
        missing = [part.title for name, part in parts.items() if name != "vae" and not part.is_there]
        if missing:
            raise BadModelFile(f"{path.name} has no {' and no '.join(missing)}; get the complete checkpoint")
        components: dict[str, Any] = {"scheduler": _scheduler(family)}
        if vae_path is None:
            components["vae"] = _build_vae(parts["vae"], family, vae_dtype, device)
        else:
            components["vae"] = load_vae(vae_path, vae_dtype, device, family)
        components["unet"] = load_unet(parts["unet"], family.read_config("unet"), dtype, device)
        for layout in family.text_encoders:
            config = family.read_config(layout.component)
            components[layout.component] = load_text_encoder(parts[layout.component], config, dtype, device)
            components[layout.tokenizer] = load_tokenizer(layout.pad_token)
    return DiffusionModel(make_pipeline(family, components), family, path, vae_path)


def load_vae(path: Path, dtype: torch.dtype, device: torch.device, family: Family | None = None) -> AutoencoderKL:
    """A VAE alone: from a VAE file in LDM or diffusers layout, a whole checkpoint, or a diffusers folder.

    family: the one of the model it is for, whose scaling factor it gets; SD 1.x where None.
    """
    folder = path / "vae" if (path / "vae").is_dir() else path
    with open_tensors(weight_file(folder) if folder.is_dir() else path) as file:
        prefix = VAE_PREFIX if any(key.startswith(VAE_PREFIX) for key in file.shapes) else ""
        if f"{prefix}decoder.conv_in.weight" not in file.shapes:
            if f"{UNET_PREFIX}input_blocks.0.0.weight" in file.shapes:
                raise BadModelFile(NO_VAE.format(path.name))
            raise BadModelFile(f"{path.name} is not a VAE (no tensor decoder.conv_in.weight)")
        return _build_vae(vae_part(file, prefix), family or load_family("sd1"), dtype, device)


def _build_vae(part: Part, family: Family, dtype: torch.dtype, device: torch.device) -> AutoencoderKL:
    """A VAE from its tensors. SDXL's overflows in fp16 ("force_upcast" in its configuration) and is kept in fp32."""
    config = family.read_config("vae")
    safe = torch.float32 if config.get("force_upcast") and dtype == torch.float16 else dtype
    return load_autoencoder(part, config, safe, device)


def save_single_file(
    path: Path,
    *,
    unet: nn.Module,
    vae: nn.Module,
    text_encoder: nn.Module | None,
    text_encoder_2: nn.Module | None = None,
    dtype: torch.dtype = torch.float16,
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write the field's single-file layout as safetensors; the file appears whole or not at all.

    dtype: of all weights in the file. The text encoders are those that the UNet's family has.
    """
    family = complete(family_of_unet(unet.config.cross_attention_dim, unet.config.in_channels, path.name))
    encoders = {"text_encoder": text_encoder, "text_encoder_2": text_encoder_2}
    tensors = _in_ldm_layout(unet, unet_places(unet.state_dict(), unet.config), UNET_PREFIX)
    tensors |= _in_ldm_layout(vae, vae_places(vae.state_dict(), vae.config), VAE_PREFIX)
    for layout in family.text_encoders:
        encoder = encoders[layout.component]
        if encoder is None:
            raise ValueError(f"a model of the family {family.name} needs its {layout.component}")
        tensors |= _in_ldm_layout(encoder, text_places(encoder.state_dict(), layout.naming), layout.prefix)
        if layout.naming == "clip":  # older programs look for this constant
            tensors[f"{layout.prefix}embeddings.position_ids"] = torch.arange(encoder.config.max_position_embeddings)[None]
    cast = {key: tensor.to(dtype) if tensor.is_floating_point() else tensor for key, tensor in tensors.items()}
    _write(path, {key: tensor.cpu().contiguous() for key, tensor in cast.items()}, dict(metadata or {}))


def _in_ldm_layout(module: nn.Module, places: Mapping[str, Place], prefix: str) -> dict[str, Tensor]:
    """The module's weights under their names in a single file; q, k and v joined where the layout joins them."""
    tensors: dict[str, Tensor] = {}
    thirds: dict[str, list[Tensor]] = {}
    for key, tensor in module.state_dict().items():
        place = places[key]
        if place.third is not None:
            thirds.setdefault(place.key, [tensor] * 3)[place.third] = tensor
        elif place.as_convolution and tensor.ndim == 2:
            tensors[prefix + place.key] = tensor[:, :, None, None]
        else:
            tensors[prefix + place.key] = tensor.T if place.transposed else tensor
    return tensors | {prefix + key: torch.cat(parts) for key, parts in thirds.items()}


def _write(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """Beside the final place first, on disk for certain, then renamed."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(tensors, temporary, metadata={"format": "pt", **metadata})
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise StorageError(f"{path} could not be written: {error.strerror}; free some space or choose another folder") from error
    finally:
        temporary.unlink(missing_ok=True)


def _scheduler(family: Family) -> Any:
    """The scheduler that the pipeline holds; Easel's own loop does not use it."""
    config = {**family.read_config("scheduler"), "prediction_type": family.prediction_type}
    return SCHEDULERS.get(config["_class_name"], PNDMScheduler).from_config(config)
