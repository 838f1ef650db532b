"""Listing model folders: which model files lie there, and what lies beside each. Nothing is opened, nothing is trusted."""

import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

from webui.core.diffusers_folder import INDEX, folder_facts
from webui.core.family import Family
from webui.core.settings import Settings

VAE_BESIDE = (".vae.safetensors", ".vae.pt", ".vae.ckpt")  # a checkpoint's own VAE: its stem and one of these
ENDINGS: dict[str, tuple[str, ...]] = {  # kind of model -> endings of its files; where two files share a stem, the first ending counts
    "checkpoint": (".safetensors", ".ckpt"),
    "vae": (".safetensors", ".ckpt", ".pt"),
    "lora": (".safetensors", ".ckpt", ".pt", ".bin"),
    "embedding": (".safetensors", ".pt", ".bin"),
    "hypernetwork": (".safetensors", ".pt", ".ckpt"),
    "aesthetic": (".safetensors", ".pt"),
}
KIND_TITLES = {
    "checkpoint": "checkpoint",
    "vae": "VAE",
    "lora": "LoRA",
    "embedding": "embedding",
    "hypernetwork": "hypernetwork",
    "aesthetic": "aesthetic embedding",
}
PICTURES = tuple(f"{middle}.{ending}" for middle in (".preview", "") for ending in ("png", "jpg", "jpeg", "webp"))
SIDECARS = (".json", ".civitai.info", ".description.txt", ".txt", *PICTURES)  # a model's stem and one of these
MAX_DEPTH = 8  # folders within folders
MAX_ENTRIES = 200_000  # files and folders looked at below one model folder
Entries = Mapping[str, "os.DirEntry[str]"]


class Companion(NamedTuple):
    """A file beside a model that may say something about it; ending: one of SIDECARS."""

    ending: str
    path: Path
    mtime: float
    size: int


@dataclass(frozen=True)
class ModelFile:
    """One model file, or a folder in diffusers' layout.

    name: its path below the model folder, with /; family: where it is known (never of VAEs), else None;
    problem: why it cannot be used, "" if nothing is known against it; size: bytes; mtime: unix seconds; alias: the name that a
    LoRA was given in training; beside: its sidecars, as far as they were looked for."""

    path: Path
    name: str
    size: int
    mtime: float
    sha256: str | None = None
    family: Family | None = None
    problem: str = ""
    alias: str = field(default="", compare=False)
    beside: tuple[Companion, ...] = field(default=(), repr=False, compare=False)

    @property
    def stem(self) -> str:
        """File name without its ending (and without .vae)."""
        return without_ending(self.path.name)

    @property
    def model_name(self) -> str:
        """The wire protocol's model_name: `name` without its ending, / as _."""
        return without_ending(self.name).replace("/", "_")

    @property
    def short_hash(self) -> str:
        """First 10 hex digits of the sha256, "" while unknown."""
        return (self.sha256 or "")[:10]

    @property
    def title(self) -> str:
        """ "folder/file.safetensors [0123456789]"; without brackets while the hash is unknown."""
        return f"{self.name} [{self.short_hash}]" if self.sha256 else self.name


def folders_of(kind: str, settings: Settings) -> tuple[Path, ...]:
    """Where files of a kind are looked for, in order of preference."""
    folders = {
        "checkpoint": settings.checkpoint_dirs,
        "vae": settings.vae_dirs,
        "lora": settings.lora_dirs,
        "embedding": settings.embeddings_dirs,
        "hypernetwork": settings.hypernetwork_dirs,
        "aesthetic": settings.aesthetic_dirs,
    }
    return folders[kind]


def list_kind(kind: str, settings: Settings) -> list[ModelFile]:
    """The files of a kind. Checkpoints come with the miniature and the one of --ckpt, VAEs with those beside checkpoints."""
    models = list_models(folders_of(kind, settings), ENDINGS[kind], whole_folders=kind == "checkpoint")
    if kind == "vae":
        models += list_models(settings.checkpoint_dirs, VAE_BESIDE)
    if kind == "checkpoint":
        models = [model for model in models if not model.name.lower().endswith(VAE_BESIDE)]
        named = Path(settings.checkpoint).expanduser() if settings.checkpoint else None
        for path in filter(None, (settings.builtin_checkpoint, named)):
            if not any(same_file(path, model.path) for model in models):
                models += filter(None, [model_at(path.name, path.absolute())])
    return models


def list_models(folders: Iterable[Path], endings: tuple[str, ...], *, whole_folders: bool = False) -> list[ModelFile]:
    """The regular files below the folders with these endings, each folder in the order of names; names are unique.

    whole_folders: a folder in diffusers' layout counts as one model, and what is in it not.
    """
    models: list[ModelFile] = []
    taken: set[str] = set()
    for folder in dict.fromkeys(folders):
        for model in sorted(_found(folder, endings, whole_folders), key=lambda model: model.name.casefold()):
            name = model.name if model.name not in taken else f"{folder.name}/{model.name}"
            if name not in taken:
                taken.add(name)
                models.append(model if name == model.name else replace(model, name=name))
    return models


def model_at(name: str, path: Path) -> ModelFile | None:
    """The model at `path`, called `name`; None for what is neither a regular file nor a diffusers folder (links are followed)."""
    try:
        status = path.stat()
    except (OSError, ValueError):
        return None
    if stat.S_ISDIR(status.st_mode):
        facts = folder_facts(path)
        return ModelFile(path, name, *facts) if facts else None
    return ModelFile(path, name, status.st_size, status.st_mtime) if stat.S_ISREG(status.st_mode) else None


def with_companions(model: ModelFile, folders: Iterable[Path]) -> ModelFile:
    """`model` with the sidecars that lie beside it now; folders: those of its kind, which links may not leave."""
    root = next((folder for folder in folders if model.path.is_relative_to(folder)), model.path.parent)
    return replace(model, beside=tuple(_companions_of(root, model.path)))


def model_in(folders: Iterable[Path], endings: tuple[str, ...], text: str) -> ModelFile | None:
    """The file that `text` names, relative to one of the folders, with or without its ending: looked for without listing anything."""
    if not text.isprintable() or len(text) > 500 or "\\" in text or any(part[:1] in ("", ".") for part in text.split("/")):
        return None  # also ".." and absolute paths
    for folder in folders:
        for ending in ("", *endings):
            path = folder / (text + ending)
            model = model_at(text + ending, path) if path.is_relative_to(folder) else None  # not so for "C:x" on Windows
            is_whole_folder = endings == ENDINGS["checkpoint"] and path.is_dir()
            if model is not None and (model.name.lower().endswith(endings) or is_whole_folder):
                return with_companions(model, (folder,))
    return None


def same_file(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except (OSError, ValueError):
        return False


def without_ending(name: str) -> str:
    """`name` without the ending of a model file."""
    lower = name.lower()
    for ending in (*VAE_BESIDE, ".safetensors", ".ckpt", ".pt", ".pth", ".bin"):
        if lower.endswith(ending):
            return name[: -len(ending)]
    return name


def _found(folder: Path, endings: tuple[str, ...], whole_folders: bool) -> Iterator[ModelFile]:
    for prefix, entries in _walk(folder, whole_folders):
        if whole_folders and prefix and INDEX in entries:
            model = model_at(prefix[:-1], folder / prefix)
            if model is not None:
                yield with_companions(model, (folder,))
            continue
        for name, entry in entries.items():
            if name.lower().endswith(endings):
                status = _status(entry)
                if status is not None:
                    beside = tuple(_companions(folder, entries, without_ending(name)))
                    yield ModelFile(Path(entry.path), prefix + name, status.st_size, status.st_mtime, beside=beside)


def _companions_of(folder: Path, path: Path) -> Iterator[Companion]:
    """The sidecars of one model, without listing its folder."""
    for ending in SIDECARS:
        beside = path.with_name(without_ending(path.name) + ending)
        try:
            status = beside.lstat()
            if stat.S_ISLNK(status.st_mode) and _stays_in(folder, beside):
                status = beside.stat()
        except (OSError, ValueError):
            continue
        if stat.S_ISREG(status.st_mode):
            yield Companion(ending, beside, status.st_mtime, status.st_size)


def _companions(folder: Path, entries: Entries, stem: str) -> Iterator[Companion]:
    """The sidecars of the model `stem` among the entries of its folder; links that lead out of the model folder are left alone."""
    for ending in SIDECARS:
        entry = entries.get(stem + ending)
        if entry is not None and (not entry.is_symlink() or _stays_in(folder, Path(entry.path))):
            status = _status(entry)
            if status is not None:
                yield Companion(ending, Path(entry.path), status.st_mtime, status.st_size)


def _stays_in(folder: Path, path: Path) -> bool:
    try:
        return path.resolve(strict=True).is_relative_to(folder.resolve())
    except (OSError, RuntimeError, ValueError):
        return False


def _status(entry: "os.DirEntry[str]") -> os.stat_result | None:
    """The status of a regular file (links are followed), None for anything else."""
    try:
        status = entry.stat()
    except (OSError, ValueError):
        return None
    return status if stat.S_ISREG(status.st_mode) else None


def _walk(folder: Path, whole_folders: bool) -> Iterator[tuple[str, Entries]]:
    """(path below `folder` with / at its end, what lies there apart from folders) of each folder below `folder` and of itself.

    Links are followed, loops and hidden folders are not. Names that cannot be shown (not UTF-8, control characters) are left out.
    Folders that cannot be read count as empty. whole_folders: those in diffusers' layout are not entered further.
    """
    seen: set[tuple[int, int]] = set()
    waiting = [(folder, "", 0)]
    left = MAX_ENTRIES
    while waiting:
        here, prefix, depth = waiting.pop()
        try:
            status = here.stat()
            if (status.st_dev, status.st_ino) in seen or depth > MAX_DEPTH:
                continue
            entries = sorted(os.scandir(here), key=lambda entry: entry.name)[:left]
        except OSError:
            continue
        seen.add((status.st_dev, status.st_ino))
        left -= len(entries)
        shown = [entry for entry in entries if entry.name.isprintable() and not entry.name.startswith(".")]
        folders = {entry.name for entry in shown if _is_folder(entry)}
        if not (whole_folders and prefix and any(entry.name == INDEX for entry in shown)):
            waiting += [(Path(entry.path), f"{prefix}{entry.name}/", depth + 1) for entry in shown if entry.name in folders]
        yield prefix, {entry.name: entry for entry in shown if entry.name not in folders}


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False
