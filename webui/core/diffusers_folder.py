"""Checkpoints in diffusers' layout: a folder, and in it one for each part, with configuration and weights. Data, never trusted."""

import hashlib
import json
import os
import re
import stat
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from webui.core.errors import BadModelFile, MissingModel
from webui.core.family import Family, family_of_unet
from webui.core.safetensors_header import open_model_file, read_exactly

INDEX = "model_index.json"  # a folder that holds it is one model
PARTS = ("unet", "vae", "text_encoder", "text_encoder_2")
MAX_CONFIG_BYTES = 1_000_000
WEIGHT_FILES = ("diffusion_pytorch_model", "model", "pytorch_model")
WEIGHT_ENDINGS = (".safetensors", ".fp16.safetensors", ".bin", ".fp16.bin")
PIECE = re.compile(rf"(?P<stem>({'|'.join(WEIGHT_FILES)})(\.fp16)?)-\d{{5}}(?P<rest>-of-\d{{5}}(\.fp16)?\.(safetensors|bin))", re.ASCII)


def folder_facts(folder: Path) -> tuple[int, float] | None:
    """(bytes of all weights, time of the last change) of a diffusers folder; None for what is none."""
    try:
        if not stat.S_ISREG((folder / INDEX).stat().st_mode):
            return None
        files = list(all_weight_files(folder))
        configurations = [folder / "unet" / "config.json", folder / "scheduler" / "scheduler_config.json"]
        times = [file.stat().st_mtime for file in (folder / INDEX, *files, *configurations) if file.is_file()]
        return sum(file.stat().st_size for file in files), max(times)
    except (OSError, ValueError):
        return None


def folder_family(folder: Path) -> Family:
    """By the UNet's configuration; prediction type and native size as the folder says. Raises BadModelFile, MissingModel."""
    unet = read_configuration(folder / "unet" / "config.json")
    width, channels, size = unet.get("cross_attention_dim"), unet.get("in_channels"), unet.get("sample_size")
    if not isinstance(width, int) or not isinstance(channels, int):
        raise BadModelFile(f"{folder.name} is a model of a kind that Easel does not know")
    family = family_of_unet(width, channels, folder.name)
    schedule = read_configuration(folder / "scheduler" / "scheduler_config.json")
    if (said := schedule.get("prediction_type", "epsilon")) in ("epsilon", "v_prediction"):  # diffusers' default is "epsilon"
        family = replace(family, prediction_type=said)
    family = replace(family, zero_terminal_snr=schedule.get("rescale_betas_zero_snr") is True)
    if isinstance(size, int) and 8 <= size <= 256:
        family = replace(family, native_size=size * 8)
    return family


def folder_sha256(folder: Path) -> str:
    """64 hex digits over the names and the sums of the folder's weight files. Raises MissingModel, BadModelFile."""
    whole = hashlib.sha256()
    for path in all_weight_files(folder):
        with open_model_file(path) as file:
            whole.update(f"{path.relative_to(folder).as_posix()} {hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
    return whole.hexdigest()


def weight_files(folder: Path) -> tuple[Path, ...]:
    """The file with a part's weights in its folder, or the pieces that diffusers cuts large ones into. Raises MissingModel where there
    are none, BadModelFile where pieces are missing."""
    for ending in WEIGHT_ENDINGS:
        for stem in WEIGHT_FILES:
            if (folder / f"{stem}{ending}").is_file():
                return (folder / f"{stem}{ending}",)
    pieces = _pieces(folder)
    if not pieces:
        raise MissingModel(f"{folder} holds no weights ({WEIGHT_FILES[0]}.safetensors or the like)")
    return pieces


def _pieces(folder: Path) -> tuple[Path, ...]:
    """The pieces "model-00001-of-00002.safetensors" and so on in the order of their numbers; none where there are none."""
    sets: dict[str, list[Path]] = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if (found := PIECE.fullmatch(path.name)) and path.is_file():
            sets.setdefault(f"{found['stem']}{found['rest']}", []).append(path)
    counts = {name: int(name.rpartition("-of-")[2][:5]) for name in sets}
    for name in sorted(sets, key=lambda name: (name.endswith(".bin"), name)):
        if len(sets[name]) == counts[name]:
            return tuple(sets[name])
    if sets:
        name = next(iter(sets))
        raise BadModelFile(f"{folder} holds {len(sets[name])} of {counts[name]} pieces of its weights; get the others, too")
    return ()


def read_configuration(path: Path) -> dict[str, Any]:
    """The JSON object in a file. Raises BadModelFile, MissingModel."""
    with open_model_file(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > MAX_CONFIG_BYTES:
            raise BadModelFile(f"{path} is too large for a configuration")
        try:
            content = json.loads(read_exactly(file, size, path.name))
        except (ValueError, RecursionError):
            raise BadModelFile(f"{path} is not valid JSON") from None
    if not isinstance(content, dict):
        raise BadModelFile(f"{path} is not a configuration")
    return content


def all_weight_files(folder: Path) -> Iterator[Path]:
    """Of all parts that have some."""
    for part in PARTS:
        try:
            yield from weight_files(folder / part)
        except (MissingModel, BadModelFile):  # loading says it
            continue
