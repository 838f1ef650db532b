"""Checkpoint files -> DiffusionModel, and back: single files in LDM layout, diffusers folders, VAE files. Never a network."""

import json
from collections.abc import Generator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from webui.core.diffusers_folder import INDEX
from webui.core.errors import BadModelFile
from webui.core.family import family_of_unet
from webui.core.text_encoders import NEEDED, lacks
from webui.engine.component_places import folder_parts, open_part, single_file_parts, stand_ins, vae_part
from webui.engine.device import safe_half
from webui.engine.diffusers_parts import AutoencoderKL, EulerDiscreteScheduler, PNDMScheduler
from webui.engine.family import UNET_PREFIX, VAE_PREFIX, Family, complete, load_family
from webui.engine.ldm_keys import Place, text_places, unet_places, vae_places
from webui.engine.load_progress import Tell, counted
from webui.engine.model import DiffusionModel, make_pipeline
from webui.engine.model_file import open_tensors
from webui.engine.module_loading import Part, Reading, load_autoencoder, load_text_encoder, load_unet
from webui.engine.prediction import by_its_answer
from webui.engine.spare import Spare
from webui.engine.tensor_writer import Outgoing, new_place, write_tensors
from webui.engine.tokenizers import load_tokenizer

Layout = Literal["single file", "diffusers folder"]
SCHEDULERS = {"PNDMScheduler": PNDMScheduler, "EulerDiscreteScheduler": EulerDiscreteScheduler}
NO_VAE = "{} has no VAE; choose one for it (VAE files belong into models/VAE/)"


def load_checkpoint(
    path: Path,
    dtype: torch.dtype,
    device: torch.device,
    vae_path: Path | None = None,
    *,
    vae_dtype: torch.dtype | None = None,
    text_paths: Sequence[Path] = (),
    tell: Tell = lambda share: None,
    spare: Spare | None = None,
) -> DiffusionModel:
    """Load a single file (.safetensors or .ckpt) or a diffusers folder.

    vae_path: a VAE file that takes the place of the checkpoint's own. vae_dtype: `dtype` where None. text_paths: files with the text
    encoders that the checkpoint lacks. tell: is told which share has been read. spare: memory for weights.
    """
    vae_dtype = vae_dtype or dtype
    with ExitStack() as files:
        if path.is_dir():
            family, parts = folder_parts(path, files)
        else:
            family, parts = single_file_parts(files.enter_context(open_tensors(path)))
        if vae_path is None and not parts["vae"].is_there:
            raise BadModelFile(NO_VAE.format(path.name))
        parts |= stand_ins(family, parts, [files.enter_context(open_tensors(text)) for text in text_paths], path.name)
        _check_complete(family, parts, path.name)
        parts = counted({name: part for name, part in parts.items() if name != "vae" or vae_path is None}, tell)
        components: dict[str, Any] = {}
        if vae_path is not None:
            components["vae"] = load_vae(vae_path, vae_dtype, device, family)
        with Reading(dtype, device, spare) as reading:
            if vae_path is None:
                components["vae"] = _build_vae(parts["vae"], family, vae_dtype, reading)
            for layout in family.text_encoders:
                config = family.read_config(layout.component)
                components[layout.component] = load_text_encoder(parts[layout.component], config, reading)
                components[layout.tokenizer] = load_tokenizer(layout.pad_token)
            components["unet"] = load_unet(parts["unet"], family.read_config("unet"), reading)  # last: its frame takes the longest
    family = by_its_answer(family, components["unet"])
    components["scheduler"] = _scheduler(family)
    return DiffusionModel(make_pipeline(family, components), family, path, vae_path)


def _check_complete(family: Family, parts: Mapping[str, Part], name: str) -> None:
    """Raises BadModelFile for what the checkpoint `name` lacks; a VAE aside."""
    missing = [part.title for component, part in parts.items() if component != "vae" and not part.is_there]
    kinds = [kind for kind in NEEDED.get(family.config, ()) if not parts[kind.component].is_there]
    if kinds and parts["unet"].is_there:
        raise BadModelFile(lacks(name, kinds))
    if missing:
        raise BadModelFile(f"{name} has no {' and no '.join(missing)}; get the complete checkpoint")


def load_vae(path: Path, dtype: torch.dtype, device: torch.device, family: Family | None = None) -> AutoencoderKL:
    """A VAE alone: from a VAE file in LDM or diffusers layout, a whole checkpoint, or a diffusers folder.

    family: the one of the model it is for, whose scaling factor it gets; SD 1.x where None.
    """
    folder = path / "vae" if (path / INDEX).is_file() else path
    with ExitStack() as files:
        file = open_part(folder, files) if path.is_dir() else files.enter_context(open_tensors(path))
        prefix = VAE_PREFIX if any(key.startswith(VAE_PREFIX) for key in file.shapes) else ""
        if f"{prefix}decoder.conv_in.weight" not in file.shapes:
            if f"{UNET_PREFIX}input_blocks.0.0.weight" in file.shapes or (path / INDEX).is_file():
                raise BadModelFile(NO_VAE.format(path.name))
            raise BadModelFile(f"{path.name} is not a VAE (no tensor decoder.conv_in.weight)")
        with Reading(dtype, device) as reading:
            return _build_vae(vae_part(file, prefix), family or load_family("sd1"), dtype, reading)


def _build_vae(part: Part, family: Family, dtype: torch.dtype, reading: Reading) -> AutoencoderKL:
    """A VAE from its tensors. SDXL's overflows in fp16 ("force_upcast" in its configuration) and is kept in a type that does not."""
    config = family.read_config("vae")
    safe = safe_half() if config.get("force_upcast") and dtype == torch.float16 else dtype
    return load_autoencoder(part, config, reading, safe)


def save_model(
    model: DiffusionModel,
    path: Path,
    dtype: torch.dtype = torch.float16,
    layout: Layout = "single file",
    *,
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Do all of `saving_model` at once."""
    for _ in saving_model(model, path, dtype, layout, metadata=metadata):
        pass


def saving_model(
    model: DiffusionModel,
    path: Path,
    dtype: torch.dtype = torch.float16,
    layout: Layout = "single file",
    *,
    metadata: Mapping[str, str] | None = None,
) -> Generator[float]:
    """Write a model in memory as one file in the field's layout (.safetensors), or as a diffusers folder, with weights of `dtype`.

    Yields the share that is written, 0 .. 1; closed before the end, it leaves nothing. Prediction type and zero terminal SNR are written
    as markers that loading, ours and others', understands. No more memory is taken than one tensor and the header. Raises BadRequest
    where `path` exists, StorageError where the disk refuses.
    """
    family = model.family
    encoders = {layout.component: encoder for layout, encoder in zip(family.text_encoders, model.text_encoders, strict=True)}
    modules = {"unet": model.unet, "vae": model.vae, **encoders}
    with new_place(path) as part:
        if layout == "diffusers folder":
            yield from _write_folder(part, model, modules, dtype)
            return
        tensors = _in_ldm_layout(family, modules, dtype)
        if family.zero_terminal_snr:
            tensors["ztsnr"] = _constant(torch.zeros(0))
        if family.prediction_type == "v_prediction" and load_family(family.config).prediction_type != "v_prediction":
            tensors["v_pred"] = _constant(torch.zeros(0))
        predicts = {"modelspec.prediction_type": "v" if family.prediction_type == "v_prediction" else "epsilon"}
        yield from write_tensors(part, tensors, {**predicts, **(metadata or {})})


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
    """Write modules that are in training, or were just made, in the field's single-file layout; takes the place of an older file.

    dtype: of all weights in the file. The text encoders are those that the UNet's family has.
    """
    family = complete(family_of_unet(unet.config.cross_attention_dim, unet.config.in_channels, path.name))
    given = {"unet": unet, "vae": vae, "text_encoder": text_encoder, "text_encoder_2": text_encoder_2}
    modules = {name: module for name, module in given.items() if module is not None}
    for layout in family.text_encoders:
        if layout.component not in modules:
            raise ValueError(f"a model of the family {family.name} needs its {layout.component}")
    with new_place(path, replace=True) as part:
        for _ in write_tensors(part, _in_ldm_layout(family, modules, dtype), metadata or {}):
            pass


def _in_ldm_layout(family: Family, modules: Mapping[str, nn.Module], dtype: torch.dtype) -> dict[str, Outgoing]:
    """All weights under their names in a single file."""
    unet, vae = modules["unet"], modules["vae"]
    tensors = _renamed(unet, unet_places(unet.state_dict(), unet.config), UNET_PREFIX, dtype)
    tensors |= _renamed(vae, vae_places(vae.state_dict(), vae.config), VAE_PREFIX, dtype)
    for layout in family.text_encoders:
        encoder = modules[layout.component]
        tensors |= _renamed(encoder, text_places(encoder.state_dict(), layout.naming), layout.prefix, dtype)
        if layout.naming == "clip":  # older programs look for this constant
            positions = torch.arange(encoder.config.max_position_embeddings)[None]
            tensors[f"{layout.prefix}embeddings.position_ids"] = _constant(positions)
    return tensors


def _renamed(module: nn.Module, places: Mapping[str, Place], prefix: str, dtype: torch.dtype) -> dict[str, Outgoing]:
    """The module's weights at their places; q, k and v as rows of one matrix where the layout joins them."""
    tensors: dict[str, Outgoing] = {}
    thirds: dict[str, list[Tensor]] = {}
    for key, tensor in module.state_dict().items():
        place = places[key]
        if place.third is not None:
            thirds.setdefault(place.key, [tensor] * 3)[place.third] = tensor
            continue
        stored = tensor.T if place.transposed else tensor
        shape = (*stored.shape, 1, 1) if place.as_convolution and tensor.ndim == 2 else tuple(stored.shape)
        tensors[prefix + place.key] = _outgoing([stored], shape, dtype)
    for key, rows in thirds.items():
        tensors[prefix + key] = _outgoing(rows, (3 * len(rows[0]), *rows[0].shape[1:]), dtype)
    return tensors


def _outgoing(pieces: list[Tensor], shape: tuple[int, ...], dtype: torch.dtype) -> Outgoing:
    """Numbers with a fraction are written in `dtype`."""
    return Outgoing(dtype if pieces[0].is_floating_point() else pieces[0].dtype, shape, lambda: pieces)


def _constant(tensor: Tensor) -> Outgoing:
    return Outgoing(tensor.dtype, tuple(tensor.shape), lambda: [tensor])


def _write_folder(folder: Path, model: DiffusionModel, modules: Mapping[str, nn.Module], dtype: torch.dtype) -> Generator[float]:
    """A diffusers folder: configuration and weights for each component in a folder of its own, and the index. Yields the share written."""
    pipeline, family = model.pipeline, model.family
    pipeline.save_config(folder)
    for layout, tokenizer in zip(family.text_encoders, model.tokenizers, strict=True):
        tokenizer.save_pretrained(folder / layout.tokenizer)
    scheduler: dict[str, Any] = {"prediction_type": family.prediction_type}
    if family.zero_terminal_snr:
        scheduler["rescale_betas_zero_snr"] = True
    _write_config(folder / "scheduler" / "scheduler_config.json", pipeline.scheduler.to_json_string(), scheduler)
    numbers = {name: sum(tensor.numel() for tensor in module.state_dict().values()) for name, module in modules.items()}
    before, total = 0, sum(numbers.values())
    for name, module in modules.items():
        place, is_text = folder / name, name not in ("unet", "vae")
        config = module.config.to_json_string(use_diff=False) if is_text else module.to_json_string()
        facts = {"dtype": str(dtype).removeprefix("torch.")} if is_text else {}
        if name == "unet":
            facts["sample_size"] = family.native_size // 8  # in latents; it tells the native size
        _write_config(place / "config.json", config, facts)
        level = "text_model." if is_text else ""  # older programs know no other names; "text_projection" lies beside it
        keys = {key: key if key.startswith(("text_model.", "text_projection.")) else level + key for key in module.state_dict()}
        tensors = {keys[key]: _outgoing([tensor], tuple(tensor.shape), dtype) for key, tensor in module.state_dict().items()}
        for share in write_tensors(place / ("model.safetensors" if is_text else "diffusion_pytorch_model.safetensors"), tensors, {}):
            yield (before + share * numbers[name]) / total
        before += numbers[name]


def _write_config(path: Path, text: str, changes: Mapping[str, Any]) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({**json.loads(text), **changes}, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _scheduler(family: Family) -> Any:
    """The scheduler that the pipeline holds; Easel's own loop does not use it."""
    config = {**family.read_config("scheduler"), "prediction_type": family.prediction_type}
    return SCHEDULERS.get(config["_class_name"], PNDMScheduler).from_config(config)
