"""Where the UNet, the VAE and the text encoders lie: in one single file (LDM layout), or in a diffusers folder."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from webui.core.diffusers_folder import INDEX, folder_family, read_configuration, weight_files
from webui.core.errors import BadModelFile, MissingModel
from webui.core.family import detect_family
from webui.core.text_encoders import NEEDED, TOKENS, fits_not, token_weights
from webui.engine.family import UNET_PREFIX, VAE_PREFIX, Family, complete
from webui.engine.ldm_keys import OLD_VAE_ATTENTION, Place, text_places, unet_places, vae_places
from webui.engine.model_file import FilesInPieces, ModelFile, open_tensors
from webui.engine.module_loading import Part

TOKEN_WEIGHT = "embeddings.token_embedding.weight"


def single_file_parts(file: ModelFile) -> tuple[Family, dict[str, Part]]:
    """The family of an open single file, and where its components lie in it."""
    family = complete(detect_family(file.shapes, file.metadata, file.name))
    parts = {"unet": Part(file, "UNet", UNET_PREFIX, unet_places), "vae": vae_part(file, VAE_PREFIX)}
    for layout in family.text_encoders:
        prefix, bare = layout.prefix, layout.prefix.removesuffix("text_model.")
        if f"{prefix}{TOKEN_WEIGHT}" not in file.shapes and f"{bare}{TOKEN_WEIGHT}" in file.shapes:
            prefix = bare  # some trainers leave the level out
        places = partial(_text_places, naming=layout.naming)
        parts[layout.component] = Part(file, layout.component.replace("_", " "), prefix, places)
    return family, parts


def vae_part(file: ModelFile, prefix: str) -> Part:
    """The VAE under `prefix`, in the names of LDM or of diffusers, old or new."""
    if f"{prefix}encoder.down_blocks.0.resnets.0.conv1.weight" in file.shapes:
        places = partial(_diffusers_vae_places, present=frozenset(file.shapes), prefix=prefix)
        return Part(file, "VAE", prefix, places)
    return Part(file, "VAE", prefix, vae_places)


def folder_parts(folder: Path, files: ExitStack) -> tuple[Family, dict[str, Part]]:
    """The family of a diffusers folder, and its components' files; its configurations are only read as data."""
    if not (folder / INDEX).is_file():
        raise BadModelFile(f"{folder.name} is a folder without {INDEX}; name a checkpoint file or a diffusers folder")
    family = complete(folder_family(folder))
    parts = {
        "unet": Part(open_part(folder / "unet", files), "UNet", "", _same_places),
        "vae": vae_part(open_part(folder / "vae", files), ""),
    }
    for layout in family.text_encoders:
        file = open_part(folder / layout.component, files)
        level = "text_model." if f"text_model.{TOKEN_WEIGHT}" in file.shapes else ""
        places = partial(_text_places, naming="clip", level=level)
        parts[layout.component] = Part(file, layout.component.replace("_", " "), "", places)
    return family, parts


def stand_ins(family: Family, parts: Mapping[str, Part], files: Sequence[ModelFile], name: str) -> dict[str, Part]:
    """Text encoders out of files of their own for those that the checkpoint `name` lacks; a file may be of any layout, or a checkpoint.

    What none holds is left out. Raises BadModelFile for a file that holds nothing of what is wanted.
    """
    kinds = NEEDED.get(family.config, ())
    lacking = [(layout, kind) for layout, kind in zip(family.text_encoders, kinds, strict=False) if not parts[layout.component].is_there]
    held = [(file, token_weights(file.shapes)) for file in files]
    useless = next(((file, texts) for file, texts in held if not {kind.width for _, kind in lacking} & set(texts)), None)
    found = {}
    for layout, kind in lacking:
        place = next(((file, texts[kind.width]) for file, texts in held if kind.width in texts), None)
        if place is not None:
            found[layout.component] = _text_part(*place, layout.component)
        elif useless is not None:
            raise BadModelFile(fits_not(useless[0].name, tuple(useless[1]), name, kind))
    return found


def _text_part(file: ModelFile, token_weight: str, component: str) -> Part:
    """The text encoder whose token embedding has this name in the file."""
    naming = "clip" if token_weight.endswith(TOKEN_WEIGHT) else "open_clip"
    prefix = token_weight.removesuffix(TOKEN_WEIGHT if naming == "clip" else TOKENS)
    level = "text_model." if naming == "clip" and prefix.endswith("text_model.") else ""
    places = partial(_text_places, naming=naming, level=level)
    return Part(file, component.replace("_", " "), prefix.removesuffix(level), places)


def image_tower_part(folder: Path, files: ExitStack) -> tuple[Part, dict[str, Any]]:
    """CLIP's image tower in a folder as transformers writes it (the whole CLIP, or the tower alone), and what its configuration says."""
    config = read_configuration(folder / "config.json")
    said = config.get("vision_config", config)
    if not isinstance(said, dict):
        raise BadModelFile(f"{folder / 'config.json'} is not a configuration of CLIP")
    return Part(open_weights(folder, files), "image tower", "", _same_places), said


def _text_places(keys: Iterable[str], config: Mapping[str, Any], *, naming: str, level: str = "") -> dict[str, Place]:
    places = text_places(keys, naming)
    outside = ("text_projection.weight",)  # lies beside the level "text_model", not in it
    return {key: place if place.key in outside else replace(place, key=level + place.key) for key, place in places.items()}


def _diffusers_vae_places(keys: Iterable[str], config: Mapping[str, Any], *, present: frozenset[str], prefix: str) -> dict[str, Place]:
    """Diffusers' own names, or those it used before 0.18 for the attention."""
    places = {}
    for key in keys:
        old = key
        for new_name, old_name in OLD_VAE_ATTENTION.items():
            old = old.replace(f"attentions.0.{new_name}.", f"attentions.0.{old_name}.")
        places[key] = Place(key if prefix + key in present else old)
    return places


def _same_places(keys: Iterable[str], config: Mapping[str, Any]) -> dict[str, Place]:
    return {key: Place(key) for key in keys}


def open_part(folder: Path, files: ExitStack) -> ModelFile:
    """The weights of one part of a model, none where there are none: it may come from elsewhere."""
    try:
        return open_weights(folder, files)
    except MissingModel:
        return FilesInPieces((), folder.name)


def open_weights(folder: Path, files: ExitStack) -> ModelFile:
    """The weights in a folder, in one file or in pieces. Raises MissingModel where there are none."""
    opened = [files.enter_context(open_tensors(path)) for path in weight_files(folder)]
    return opened[0] if len(opened) == 1 else FilesInPieces(opened, folder.name)
