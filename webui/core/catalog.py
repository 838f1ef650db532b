"""The models that Easel has, and which of them a text names: over folders that are listed without being trusted."""

import hashlib
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from webui.core.diffusers_folder import folder_sha256
from webui.core.errors import EaselError, MissingModel
from webui.core.family import Family
from webui.core.lora_hash import lora_hash
from webui.core.model_details import read_details
from webui.core.model_listing import (
    ENDINGS,
    KIND_TITLES,
    VAE_BESIDE,
    ModelFile,
    folders_of,
    list_kind,
    model_at,
    model_in,
    same_file,
    with_companions,
)
from webui.core.model_names import find_listed, find_mentioned, missing, old_hash_of
from webui.core.safetensors_header import open_model_file
from webui.core.settings import Settings
from webui.core.sidecars import Sidecar, read_sidecars
from webui.core.text_encoders import TextEncoders
from webui.core.upscalers import find_listed_upscaler, list_upscalers

__all__ = ["Catalog", "HashStore", "MemoryHashes", "ModelFile", "ModelIndex", "old_hash_of", "sha256_of"]

HASHED_AT_ONCE = 64_000_000  # bytes: files up to this size get their sha256 when they are listed
USUAL_SIZE = 512  # pixels: of checkpoints whose family cannot be told from outside
Verdict = tuple[Family | None, str]  # family and problem of a checkpoint


class HashStore(Protocol):
    """Remembers sha256 sums; an entry counts only while time and size of the file are the same."""

    def get(self, path: Path, mtime: float, size: int) -> str | None: ...

    def put(self, path: Path, mtime: float, size: int, sha256: str) -> None: ...


class ModelIndex(Protocol):
    """What an earlier look into the folders found, kept somewhere: of LoRAs, embeddings, hypernetworks, and of the checkpoints' headers."""

    def files(self, kind: str) -> Sequence[ModelFile]:
        """All files of a kind, in order of names."""

    def named(self, kind: str, text: str) -> Sequence[ModelFile]:
        """At least those whose path, name, stem or alias is `text` in any spelling."""

    def verdict(self, model: ModelFile) -> Verdict | None:
        """What the header of this checkpoint said when it was last read, if the file is still the same."""


class MemoryHashes:
    """A HashStore that forgets at the end of the process."""

    def __init__(self) -> None:
        self._sums: dict[tuple[Path, float, int], str] = {}

    def get(self, path: Path, mtime: float, size: int) -> str | None:
        return self._sums.get((path, mtime, size))

    def put(self, path: Path, mtime: float, size: int, sha256: str) -> None:
        self._sums[path, mtime, size] = sha256


class FolderIndex:
    """A ModelIndex that lists the folders at every question and knows no aliases: for programs without a database."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def files(self, kind: str) -> Sequence[ModelFile]:
        return list_kind(kind, self._settings)

    def named(self, kind: str, text: str) -> Sequence[ModelFile]:
        return self.files(kind)

    def verdict(self, model: ModelFile) -> Verdict | None:
        return None


class Catalog:
    """Finds models. Checkpoints and VAEs are listed at first use and renewed by `refresh`; all others are the index's.

    Safe to use from several threads.
    """

    def __init__(self, settings: Settings, hashes: HashStore | None = None, index: ModelIndex | None = None) -> None:
        self._settings = settings
        self._hashes: HashStore = hashes if hashes is not None else MemoryHashes()
        self._index: ModelIndex = index if index is not None else FolderIndex(settings)
        self.text_encoders = TextEncoders(settings)
        self._lock = threading.Lock()
        self._lists: dict[str, tuple[ModelFile, ...]] = {}
        self._verdicts: dict[tuple[Path, float, int], Verdict] = {}

    def checkpoints(self) -> list[ModelFile]:
        """All checkpoints by name; the miniature is always among them."""
        return list(self._listed("checkpoint"))

    def vaes(self) -> list[ModelFile]:
        """VAEs of the VAE folders, then those that lie beside checkpoints."""
        return list(self._listed("vae"))

    def loras(self) -> list[ModelFile]:
        return list(self._index.files("lora"))

    def embeddings(self) -> list[ModelFile]:
        return list(self._index.files("embedding"))

    def hypernetworks(self) -> list[ModelFile]:
        return list(self._index.files("hypernetwork"))

    def aesthetic_embeddings(self) -> list[ModelFile]:
        return list(self._index.files("aesthetic"))

    def upscalers(self) -> list[ModelFile]:
        """The model files that make pictures larger, as their folders stand now."""
        return list_upscalers(self._settings)

    def refresh(self) -> None:
        """Look for checkpoints and VAEs again; files that did not change are not opened, but for those that had a problem."""
        self._verdicts = {key: verdict for key, verdict in self._verdicts.items() if not verdict[1]}
        found = {kind: self._read(kind) for kind in ("checkpoint", "vae")}
        with self._lock:
            self._lists = found

    def default_checkpoint(self) -> ModelFile:
        """The one of --ckpt, else the miniature, else the first. Raises MissingModel."""
        if self._settings.checkpoint:
            return self.find_checkpoint(self._settings.checkpoint)
        models = self.checkpoints()
        if not models:
            raise MissingModel(f"there is no checkpoint: put one into {self._settings.checkpoint_dirs[0]}")
        return next((model for model in models if same_file(model.path, self._settings.builtin_checkpoint)), models[0])

    def find_checkpoint(self, text: str) -> ModelFile:
        """By title, name, "name [hash]", file name, model name, path, stem or hash (8, 10, 64 digits); "" is the default one.

        A file that came after the last look is found by its name as well.
        """
        return self._find("checkpoint", text) if text.strip() else self.default_checkpoint()

    def find_vae(self, text: str) -> ModelFile:
        """By the same names as checkpoints. "Automatic" and "None" are no files: the caller knows them."""
        return self._find("vae", text)

    def find_lora(self, text: str) -> ModelFile:
        """The LoRA that a prompt mentions: by file name with or without ending and folder, or by the name it was given in training.

        Raises MissingModel, also where the name fits several; the error says what comes close.
        """
        return self._find_mentioned("lora", text)

    def find_embedding(self, text: str) -> ModelFile:
        """By file name with or without ending and folder; errors as for find_lora."""
        return self._find_mentioned("embedding", text)

    def find_hypernetwork(self, text: str) -> ModelFile:
        """By file name with or without ending and folder; errors as for find_lora."""
        return self._find_mentioned("hypernetwork", text)

    def find_aesthetic(self, text: str) -> ModelFile:
        """By file name with or without ending and folder; errors as for find_lora."""
        return self._find_mentioned("aesthetic", text)

    def find_upscaler(self, text: str) -> ModelFile:
        """By name, file name or stem, in any spelling. Raises MissingModel, with the names that there are."""
        return find_listed_upscaler(text, self.upscalers(), str(self._settings.upscaler_dirs[0]))

    def vae_for(self, checkpoint: ModelFile) -> ModelFile | None:
        """What VAE "Automatic" means for a checkpoint, None for its own: the one that its json names, else `automatic_vae`.

        Raises MissingModel where the json names one that is not there.
        """
        name = self.notes_on(checkpoint).vae
        if name in ("", "Automatic"):
            return self.automatic_vae(checkpoint)
        return None if name == "None" else self.find_vae(name)

    def notes_on(self, checkpoint: ModelFile) -> Sidecar:
        """What lies beside a checkpoint and says how it is to be used, as it stands now."""
        return read_sidecars(with_companions(checkpoint, folders_of("checkpoint", self._settings)).beside)

    def native_size(self, checkpoint: ModelFile) -> int:
        """Pixels of one side for which it is: by its json, else by its family; USUAL_SIZE where nothing tells."""
        return self.notes_on(checkpoint).native_size or (checkpoint.family.native_size if checkpoint.family else USUAL_SIZE)

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
        return replace(model, sha256=self._sum(model.path, model, sha256_of))

    def lora_hash(self, model: ModelFile) -> str:
        """The 12 digits by which infotexts name a LoRA, worked out and remembered if they were not known; see core.lora_hash."""
        return self._sum(lora_key(model.path), model, lora_hash)

    def _sum(self, key: Path, model: ModelFile, work_out: Callable[[Path], str]) -> str:
        """The sum that is remembered under `key`, worked out over the model's file if there is none."""
        known = self._hashes.get(key, model.mtime, model.size)
        if known is None:
            known = work_out(model.path)
            self._hashes.put(key, model.mtime, model.size, known)
        return known

    def _find(self, kind: str, text: str) -> ModelFile:
        models = self._listed(kind)
        found = find_listed(text, models)
        if found is None:
            folders = folders_of(kind, self._settings)
            fresh = model_in(folders, ENDINGS[kind], text.strip())
            if fresh is None:
                raise missing(kind, text, models, folders[0])
            return self._looked_at(kind, fresh)
        present = model_at(found.name, found.path)
        if present is None:
            raise MissingModel(f"the file of {KIND_TITLES[kind]} {found.name} is not there any more; refresh the list")
        same = (present.mtime, present.size) == (found.mtime, found.size)
        return found if same else self._looked_at(kind, present)

    def _find_mentioned(self, kind: str, text: str) -> ModelFile:
        wanted, folders = text.strip(), folders_of(kind, self._settings)
        there = [model for model in self._index.named(kind, wanted) if model_at(model.name, model.path) is not None]
        found = find_mentioned(kind, wanted, there) or model_in(folders, ENDINGS[kind], wanted)
        if found is None:
            raise missing(kind, text, self._index.files(kind), folders[0])
        return found

    def _listed(self, kind: str) -> tuple[ModelFile, ...]:
        with self._lock:
            if kind not in self._lists:
                self._lists[kind] = self._read(kind)
            return self._lists[kind]

    def _read(self, kind: str) -> tuple[ModelFile, ...]:
        return tuple(self._looked_at(kind, model) for model in list_kind(kind, self._settings))

    def _looked_at(self, kind: str, model: ModelFile) -> ModelFile:
        """`model` with its hash, and a checkpoint with its family or problem."""
        model = self._hashed(model)
        if kind != "checkpoint":
            return model
        family, problem = self._verdict(model)
        return replace(model, family=family, problem=problem)

    def _verdict(self, model: ModelFile) -> Verdict:
        key = (model.path, model.mtime, model.size)
        if key not in self._verdicts:
            told = self._index.verdict(model)
            if told is None:
                details = read_details("checkpoint", replace(model, beside=()))
                told = details.family, details.problem
            self._verdicts[key] = told
        return self._verdicts[key]

    def _hashed(self, model: ModelFile) -> ModelFile:
        model = replace(model, sha256=self._hashes.get(model.path, model.mtime, model.size))
        try:
            return self.with_hash(model) if model.size <= HASHED_AT_ONCE else model
        except EaselError:
            return model


def sha256_of(path: Path) -> str:
    """64 hex digits over the whole file, or over all weights of a folder (seconds for a few GB). Raises MissingModel or BadModelFile."""
    if path.is_dir():
        return folder_sha256(path)
    with open_model_file(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def lora_key(path: Path) -> Path:
    """Under which a HashStore keeps a LoRA's hash: a path that no file can have."""
    return path / "lora"
