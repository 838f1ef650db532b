"""What lies in the model folders: names, hashes, families. Files are listed without being trusted, and found by any name users know."""

import hashlib
import os
import stat
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Protocol

from webui.core.errors import BadModelFile, EaselError, MissingModel
from webui.core.family import Family, detect_family
from webui.core.safetensors_header import open_model_file, read_header
from webui.core.settings import Settings

CHECKPOINT_ENDINGS = (".safetensors", ".ckpt")
VAE_ENDINGS = (".safetensors", ".ckpt", ".pt")
LORA_ENDINGS = (".safetensors", ".ckpt", ".pt", ".bin")
EMBEDDING_ENDINGS = (".safetensors", ".pt", ".bin")
HYPERNETWORK_ENDINGS = (".safetensors", ".pt", ".ckpt")
VAE_BESIDE = (".vae.safetensors", ".vae.pt", ".vae.ckpt")  # a checkpoint's own VAE: its stem and one of these
MAX_DEPTH = 8  # folders within folders
MAX_ENTRIES = 50_000  # files and folders looked at below one model folder
HASHED_AT_ONCE = 64_000_000  # bytes: files up to this size get their sha256 when they are listed


class HashStore(Protocol):
    """Remembers sha256 sums; an entry counts only while time and size of the file are the same."""

    def get(self, path: Path, mtime: float, size: int) -> str | None: ...

    def put(self, path: Path, mtime: float, size: int, sha256: str) -> None: ...


class MemoryHashes:
    """A HashStore that forgets at the end of the process."""

    def __init__(self) -> None:
        self._sums: dict[tuple[Path, float, int], str] = {}

    def get(self, path: Path, mtime: float, size: int) -> str | None:
        return self._sums.get((path, mtime, size))

    def put(self, path: Path, mtime: float, size: int, sha256: str) -> None:
        self._sums[path, mtime, size] = sha256


@dataclass(frozen=True)
class ModelFile:
    """One model file. name: its path below the model folder, with /; family: of checkpoints in safetensors, else None;
    problem: why a checkpoint cannot be used, "" if nothing is known against it; size: bytes; mtime: unix seconds."""

    path: Path
    name: str
    size: int
    mtime: float
    sha256: str | None = None
    family: Family | None = None
    problem: str = ""

    @property
    def stem(self) -> str:
        """File name without its ending (and without .vae)."""
        return _without_ending(self.path.name)

    @property
    def model_name(self) -> str:
        """The wire protocol's model_name: `name` without its ending, / as _."""
        return _without_ending(self.name).replace("/", "_")

    @property
    def short_hash(self) -> str:
        """First 10 hex digits of the sha256, "" while unknown."""
        return (self.sha256 or "")[:10]

    @property
    def title(self) -> str:
        """ "folder/file.safetensors [0123456789]"; without brackets while the hash is unknown."""
        return f"{self.name} [{self.short_hash}]" if self.sha256 else self.name


@dataclass(frozen=True)
class _Lists:
    checkpoints: tuple[ModelFile, ...]
    vaes: tuple[ModelFile, ...]
    loras: tuple[ModelFile, ...]
    embeddings: tuple[ModelFile, ...]
    hypernetworks: tuple[ModelFile, ...]


class Catalog:
    """The lists of model files; made at first use, renewed by `refresh`. Safe to use from several threads."""

    def __init__(self, settings: Settings, hashes: HashStore | None = None) -> None:
        self._settings = settings
        self._hashes: HashStore = hashes if hashes is not None else MemoryHashes()
        self._lock = threading.Lock()
        self._lists: _Lists | None = None

    def checkpoints(self) -> list[ModelFile]:
        """All checkpoints by name; the miniature is always among them."""
        return list(self._current().checkpoints)

    def vaes(self) -> list[ModelFile]:
        """VAEs of the VAE folders, then those that lie beside checkpoints."""
        return list(self._current().vaes)

    def loras(self) -> list[ModelFile]:
        return list(self._current().loras)

    def embeddings(self) -> list[ModelFile]:
        return list(self._current().embeddings)

    def hypernetworks(self) -> list[ModelFile]:
        return list(self._current().hypernetworks)

    def refresh(self) -> None:
        """Look into the folders again."""
        with self._lock:
            self._lists = self._read()

    def default_checkpoint(self) -> ModelFile:
        """The one of --ckpt, else the miniature, else the first. Raises MissingModel."""
        if self._settings.checkpoint:
            return self.find_checkpoint(self._settings.checkpoint)
        models = self.checkpoints()
        if not models:
            raise MissingModel(f"there is no checkpoint: put one into {self._settings.checkpoint_dirs[0]}")
        return next((model for model in models if _same_file(model.path, self._settings.builtin_checkpoint)), models[0])

    def find_checkpoint(self, text: str) -> ModelFile:
        """By title, name, "name [hash]", file name, model name, path, stem or hash (8, 10, 64 digits); "" is the default one."""
        if not text.strip():
            return self.default_checkpoint()
        return _find("checkpoint", text, self.checkpoints(), self._settings.checkpoint_dirs[0])

    def find_vae(self, text: str) -> ModelFile:
        """By the same names as checkpoints. "Automatic" and "None" are no files: the caller knows them."""
        return _find("VAE", text, self.vaes(), self._settings.vae_dirs[0])

    def automatic_vae(self, checkpoint: ModelFile) -> ModelFile | None:
        """The VAE with the checkpoint's stem and .vae.safetensors, .vae.pt or .vae.ckpt, beside it or in a VAE folder."""
        for ending in VAE_BESIDE:
            wanted = checkpoint.stem + ending
            matches = [vae for vae in self.vaes() if vae.path.name == wanted]
            beside = [vae for vae in matches if vae.path.parent == checkpoint.path.parent]
            in_vae_folder = [vae for vae in matches if any(vae.path.is_relative_to(folder) for folder in self._settings.vae_dirs)]
            for vae in (*beside, *in_vae_folder):
                return vae
        return None

    def with_hash(self, model: ModelFile) -> ModelFile:
        """`model` with its sha256, worked out (seconds for large files) and remembered if it was not known."""
        if model.sha256:
            return model
        known = self._hashes.get(model.path, model.mtime, model.size)
        if known is None:
            known = sha256_of(model.path)
            self._hashes.put(model.path, model.mtime, model.size, known)
        return replace(model, sha256=known)

    def _current(self) -> _Lists:
        with self._lock:
            if self._lists is None:
                self._lists = self._read()
            return self._lists

    def _read(self) -> _Lists:
        s = self._settings
        return _Lists(
            tuple(map(self._checkpoint, self._all_checkpoints())),
            tuple(map(self._hashed, (*_listed(s.vae_dirs, VAE_ENDINGS), *_listed(s.checkpoint_dirs, VAE_BESIDE)))),
            tuple(map(self._remembered, _listed(s.lora_dirs, LORA_ENDINGS))),
            tuple(map(self._remembered, _listed(s.embeddings_dirs, EMBEDDING_ENDINGS))),
            tuple(map(self._remembered, _listed(s.hypernetwork_dirs, HYPERNETWORK_ENDINGS))),
        )

    def _all_checkpoints(self) -> list[ModelFile]:
        models = [m for m in _listed(self._settings.checkpoint_dirs, CHECKPOINT_ENDINGS) if not m.name.lower().endswith(VAE_BESIDE)]
        named = Path(self._settings.checkpoint).expanduser() if self._settings.checkpoint else None
        for path in filter(None, (self._settings.builtin_checkpoint, named)):
            if not any(_same_file(path, model.path) for model in models):
                models += _models(path.name, [path.absolute()])
        return models

    def _checkpoint(self, model: ModelFile) -> ModelFile:
        model = self._hashed(model)
        if not model.name.lower().endswith(".safetensors"):
            return model
        try:
            with open_model_file(model.path) as file:
                header = read_header(file, model.path.name)
            shapes = {name: entry.shape for name, entry in header.tensors.items()}
            return replace(model, family=detect_family(shapes, header.metadata, model.path.name))
        except (BadModelFile, MissingModel) as error:
            return replace(model, problem=str(error))

    def _remembered(self, model: ModelFile) -> ModelFile:
        return replace(model, sha256=self._hashes.get(model.path, model.mtime, model.size))

    def _hashed(self, model: ModelFile) -> ModelFile:
        model = self._remembered(model)
        try:
            return self.with_hash(model) if model.size <= HASHED_AT_ONCE else model
        except EaselError:
            return model


def sha256_of(path: Path) -> str:
    """64 hex digits over the whole file (a few seconds for a few GB). Raises MissingModel or BadModelFile."""
    with open_model_file(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def old_hash_of(path: Path) -> str:
    """The 8 hex digits of pictures made before 2023: sha256 over 64 KiB at 1 MiB, "" for shorter files. Files collide: only to look up."""
    with open_model_file(path) as file:
        file.seek(0x100000)
        part = file.read(0x10000)
    return hashlib.sha256(part).hexdigest()[:8] if part else ""


def _listed(folders: Iterable[Path], endings: tuple[str, ...]) -> list[ModelFile]:
    """The regular files below the folders with these endings, each folder in the order of names; names are unique."""
    models: list[ModelFile] = []
    taken: set[str] = set()
    for folder in dict.fromkeys(folders):
        found = [model for name, path in _walk(folder) if name.lower().endswith(endings) for model in _models(name, [path])]
        for model in sorted(found, key=lambda model: model.name.casefold()):
            name = model.name if model.name not in taken else f"{folder.name}/{model.name}"
            if name not in taken:
                taken.add(name)
                models.append(replace(model, name=name))
    return models


def _models(name: str, paths: list[Path]) -> list[ModelFile]:
    """The model files among `paths`: regular files (links are followed), called `name`."""
    models = []
    for path in paths:
        try:
            status = path.stat()
        except (OSError, ValueError):
            continue
        if stat.S_ISREG(status.st_mode):
            models.append(ModelFile(path, name, status.st_size, status.st_mtime))
    return models


def _walk(folder: Path) -> Iterator[tuple[str, Path]]:
    """(path below `folder` with /, path) of everything that is not a folder; links are followed, loops and hidden folders are not.

    Names that cannot be shown (not UTF-8, control characters) are left out. Folders that cannot be read count as empty.
    """
    seen: set[tuple[int, int]] = set()
    waiting = [(folder, "", 0)]
    left = MAX_ENTRIES
    while waiting:
        here, prefix, depth = waiting.pop()
        try:
            status = here.stat()
            entries = sorted(os.scandir(here), key=lambda entry: entry.name)
        except OSError:
            continue
        if (status.st_dev, status.st_ino) in seen or depth > MAX_DEPTH:
            continue
        seen.add((status.st_dev, status.st_ino))
        for entry in entries[:left]:
            left -= 1
            if entry.name.isprintable() and not entry.name.startswith("."):
                if _is_folder(entry):
                    waiting.append((Path(entry.path), f"{prefix}{entry.name}/", depth + 1))
                else:
                    yield prefix + entry.name, Path(entry.path)


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def _find(kind: str, text: str, models: list[ModelFile], folder: Path) -> ModelFile:
    """The model that `text` names, exact names before file names before hashes. Raises MissingModel with what comes close."""
    wanted = text.strip()
    name, bracket, rest = wanted.rpartition(" [")
    found = _by_name(wanted, models)
    if found is None and bracket and rest.endswith("]"):
        found = _by_hash(rest[:-1], models) or _by_name(name.strip(), models)
    if found is None:
        found = _by_hash(wanted, models)
    if found is None:
        raise MissingModel(f"{kind} {wanted[:200]!r} is not there{_suggestion(wanted, models, folder)}")
    if not found.path.is_file():
        raise MissingModel(f"the file of {kind} {found.name} is not there any more; refresh the list")
    return found


def _by_name(wanted: str, models: list[ModelFile]) -> ModelFile | None:
    for fold in (str, str.casefold):
        for names in (_full_names, _short_names):
            for model in models:
                if fold(wanted) in map(fold, names(model)):
                    return model
    return None


def _full_names(model: ModelFile) -> tuple[str, ...]:
    return model.title, model.name, str(model.path), _without_ending(model.name)


def _short_names(model: ModelFile) -> tuple[str, ...]:
    return model.path.name, model.stem, model.model_name


def _by_hash(wanted: str, models: list[ModelFile]) -> ModelFile | None:
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


def _suggestion(wanted: str, models: list[ModelFile], folder: Path) -> str:
    names = {name: model.name for model in models for name in (model.name.casefold(), model.stem.casefold())}
    close = dict.fromkeys(names[name] for name in get_close_matches(wanted[:200].casefold(), names, n=3, cutoff=0.5))
    if close:
        return f"; did you mean {' or '.join(close)}?"
    return f"; put the file into {folder} and refresh the list"


def _same_file(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except (OSError, ValueError):
        return False


def _without_ending(name: str) -> str:
    lower = name.lower()
    for ending in (*VAE_BESIDE, ".safetensors", ".ckpt", ".pt", ".bin"):
        if lower.endswith(ending):
            return name[: -len(ending)]
    return name
