"""Which model a text names, among those that are listed."""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from difflib import get_close_matches
from pathlib import Path

from webui.core.errors import EaselError, MissingModel
from webui.core.model_listing import ENDINGS, KIND_TITLES, ModelFile, without_ending
from webui.core.safetensors_header import open_model_file

Names = Callable[[ModelFile], tuple[str, ...]]


def find_listed(text: str, models: Sequence[ModelFile]) -> ModelFile | None:
    """The checkpoint or VAE that `text` names: exact names before file names before hashes."""
    wanted = text.strip()
    name, bracket, rest = wanted.rpartition(" [")
    found = _first_named(wanted, models)
    if found is None and bracket and rest.endswith("]"):
        found = _by_hash(rest[:-1], models) or _first_named(name.strip(), models)
    return found or _by_hash(wanted, models)


def find_mentioned(kind: str, text: str, models: Iterable[ModelFile]) -> ModelFile | None:
    """The LoRA, embedding or hypernetwork that a prompt mentions: by its path below the folder, then by its file name, then by its
    alias, each as it is spelled before any spelling. Raises MissingModel when the text fits several as well as another."""
    candidates = list(models)
    for fold in (str, str.casefold):
        for names in (_paths, _file_names, _aliases):
            found = [model for model in candidates if fold(text) in map(fold, names(model))]
            if found:
                return _only(kind, text, found)
    return None


def missing(kind: str, text: str, models: Iterable[ModelFile], folder: Path) -> MissingModel:
    """The error for a model that is not there, with what comes close."""
    wanted = text.strip()[:200]
    names = {name: model.name for model in models for name in (model.name.casefold(), model.stem.casefold())}
    close = dict.fromkeys(names[name] for name in get_close_matches(wanted.casefold(), names, n=3, cutoff=0.5))
    advice = f"did you mean {' or '.join(close)}?" if close else f"put the file into {folder} and refresh the list"
    return MissingModel(f"{KIND_TITLES[kind]} {wanted!r} is not there; {advice}")


def old_hash_of(path: Path) -> str:
    """The 8 hex digits of pictures made before 2023: sha256 over 64 KiB at 1 MiB, "" for shorter files. Files collide: only to look up."""
    with open_model_file(path) as file:
        file.seek(0x100000)
        part = file.read(0x10000)
    return hashlib.sha256(part).hexdigest()[:8] if part else ""


def _only(kind: str, text: str, found: list[ModelFile]) -> ModelFile:
    """The one model among those that `text` names equally well; of one name in one folder the first ending of ENDINGS counts."""
    places = {(model.path.parent, model.stem) for model in found}
    if len(places) > 1:
        names = ", ".join(without_ending(model.name) for model in found[:5])
        raise MissingModel(f"{KIND_TITLES[kind]} {text[:200]!r} could be one of several: {names}; name the folder too, as they stand here")
    endings = ENDINGS[kind]
    return min(found, key=lambda model: next(i for i, ending in enumerate(endings) if model.name.lower().endswith(ending)))


def _first_named(wanted: str, models: Sequence[ModelFile]) -> ModelFile | None:
    for fold in (str, str.casefold):
        for names in (_full_names, _short_names):
            for model in models:
                if fold(wanted) in map(fold, names(model)):
                    bare = (without_ending(model.name), *_short_names(model)[1:])
                    return _first_of_twins(model, models) if fold(wanted) in map(fold, bare) else model
    return None


def _first_of_twins(found: ModelFile, models: Sequence[ModelFile]) -> ModelFile:
    """Of files in one folder that differ in their endings alone the safetensors one."""
    twins = (model for model in models if (model.path.parent, model.stem) == (found.path.parent, found.stem))
    return next((model for model in twins if model.name.lower().endswith(ENDINGS["checkpoint"][0])), found)


def _full_names(model: ModelFile) -> tuple[str, ...]:
    return model.title, model.name, str(model.path), without_ending(model.name)


def _short_names(model: ModelFile) -> tuple[str, ...]:
    return model.path.name, model.stem, model.model_name


def _paths(model: ModelFile) -> tuple[str, ...]:
    return model.name, without_ending(model.name)


def _file_names(model: ModelFile) -> tuple[str, ...]:
    return model.path.name, model.stem


def _aliases(model: ModelFile) -> tuple[str, ...]:
    return (model.alias,) if model.alias else ()


def _by_hash(wanted: str, models: Sequence[ModelFile]) -> ModelFile | None:
    """By 10 or 64 digits of the sha256 where it is known, or by the 8 digits of old pictures."""
    digits = wanted.lower()
    if len(digits) not in (8, 10, 64) or not set(digits) <= set("0123456789abcdef"):
        return None
    if len(digits) > 8:
        return next((model for model in models if model.sha256 and model.sha256.startswith(digits)), None)
    return next((model for model in models if _has_old_hash(model, digits)), None)


def _has_old_hash(model: ModelFile, digits: str) -> bool:
    try:
        return old_hash_of(model.path) == digits
    except EaselError:
        return False
