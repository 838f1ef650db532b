"""Checkpoints and VAEs as a merge reads them: under the field's names, a few rows at a time."""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from webui.core.errors import BadModelFile
from webui.core.family import Family, detect_family
from webui.engine.family import VAE_PREFIX
from webui.engine.ldm_keys import OLD_VAE_ATTENTION, vae_places
from webui.engine.model_file import ModelFile, ReadAs, open_tensors

CHUNK = 2**18  # numbers read at once: 1 MB in fp32
TEXT_MODEL = "cond_stage_model.transformer."
TEXT_PARTS = ("embeddings.", "encoder.", "final_layer_norm.")  # of CLIP; some trainers leave out the level "text_model" above them
VAE_PARTS = ("encoder.", "decoder.", "quant_conv.", "post_quant_conv.")


@dataclass(frozen=True)
class MergeSource:
    """An open model file. keys: the field's name of each tensor -> its name in this file."""

    file: ModelFile
    keys: dict[str, str]

    def shape(self, name: str) -> tuple[int, ...]:
        return self.file.shapes[self.keys[name]]

    def dtype(self, name: str) -> torch.dtype:
        """As it is stored; reads no numbers."""
        return self.file.read(self.keys[name], ReadAs(rows=slice(0, 0) if self.shape(name) else None)).dtype

    def rows(self, name: str, rows: slice | None, dtype: torch.dtype | None = None) -> Tensor:
        """Some rows, or all of a tensor, in memory of their own; numbers with a fraction as `dtype`."""
        return self.file.read(self.keys[name], ReadAs(dtype, rows=rows if self.shape(name) else None))

    def row_slices(self, name: str) -> Iterator[slice]:
        """The tensor's rows in portions of about CHUNK numbers."""
        shape = self.shape(name)
        count = shape[0] if shape else 1
        row = max(1, torch.Size(shape[1:]).numel())
        step = max(1, CHUNK // row)
        return (slice(first, min(first + step, count)) for first in range(0, count, step))


def open_checkpoint(path: Path, files: ExitStack) -> tuple[MergeSource, Family]:
    """A checkpoint in a single file. Raises BadModelFile, saying what it is, for anything else."""
    if path.is_dir():
        raise BadModelFile(f"{path.name} is a diffusers folder; save it as a single file first, which can be merged")
    file = files.enter_context(open_tensors(path))
    family = detect_family(file.shapes, file.metadata, file.name)
    return MergeSource(file, {_field_name(key): key for key in file.shapes}), family


def open_vae(path: Path, files: ExitStack) -> MergeSource:
    """A VAE, under the names that it has in a checkpoint; from a VAE file in LDM or diffusers layout, or a whole checkpoint."""
    file = files.enter_context(open_tensors(path))
    prefix = VAE_PREFIX if any(key.startswith(VAE_PREFIX) for key in file.shapes) else ""
    own = {key.removeprefix(prefix): key for key in file.shapes if key.startswith(prefix)}
    own = {name: key for name, key in own.items() if name.startswith(VAE_PARTS)}
    if "decoder.conv_in.weight" not in own:
        raise BadModelFile(f"{path.name} is not a VAE (no tensor decoder.conv_in.weight); choose a file of models/VAE/")
    if any(name.startswith("encoder.down_blocks.") for name in own):
        own = _from_diffusers(own)
    return MergeSource(file, {VAE_PREFIX + name: key for name, key in own.items()})


def _field_name(key: str) -> str:
    """The name that nearly all files use for the tensor."""
    rest = key.removeprefix(TEXT_MODEL)
    return f"{TEXT_MODEL}text_model.{rest}" if rest != key and rest.startswith(TEXT_PARTS) else key


def _from_diffusers(own: dict[str, str]) -> dict[str, str]:
    """LDM names for diffusers' ones, and for those that diffusers used before 0.18."""
    current = {}
    for name, key in own.items():
        for new, old in OLD_VAE_ATTENTION.items():
            name = name.replace(f".attentions.0.{old}.", f".attentions.0.{new}.")
        current[name] = key
    blocks = {name.split(".")[2] for name in current if name.startswith("encoder.down_blocks.")}
    layers = {name.split(".")[4] for name in current if name.startswith("encoder.down_blocks.0.resnets.")}
    places = vae_places(current, {"block_out_channels": [0] * len(blocks), "layers_per_block": len(layers)})
    return {places[name].key: key for name, key in current.items()}
