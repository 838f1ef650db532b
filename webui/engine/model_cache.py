"""The models in memory, the only holder of weights between jobs: the least recently used one goes first."""

import gc
from collections import OrderedDict
from pathlib import Path

import torch

from webui.core.errors import BadRequest, MissingModel
from webui.engine.checkpoint import load_checkpoint, load_vae
from webui.engine.model import DiffusionModel

Identity = tuple[tuple[str, int, int], ...]  # path, time of change in ns, size in bytes, of each file
Key = tuple[Identity, torch.dtype, torch.device, torch.dtype]
MAX_VAES = 3  # kept for one checkpoint


class ModelCache:
    """Keeps the last checkpoints, each with the VAEs it was used with; a file that has changed is loaded anew."""

    def __init__(self, max_models: int = 2) -> None:
        if max_models < 1:
            raise BadRequest(f"a cache of {max_models} models holds none; use 1 or more")
        self._max_models = max_models
        self._models: OrderedDict[Key, OrderedDict[Identity | None, DiffusionModel]] = OrderedDict()

    def load(
        self,
        checkpoint_path: Path,
        vae_path: Path | None,
        dtype: torch.dtype,
        device: torch.device,
        *,
        vae_dtype: torch.dtype | None = None,
    ) -> DiffusionModel:
        """The model, from memory where it is there. If loading fails, whatever else is held stays as it was."""
        key = (identity(checkpoint_path), dtype, device, vae_dtype or dtype)
        vae_key = identity(vae_path) if vae_path else None
        models = self._models.get(key)
        if models is None:
            self._make_room()
            model = load_checkpoint(checkpoint_path, dtype, device, vae_path, vae_dtype=vae_dtype)
            self._models[key] = OrderedDict({vae_key: model})
            return model
        self._models.move_to_end(key)
        if vae_key not in models:
            some = next(iter(models.values()))
            vae = load_vae(vae_path or checkpoint_path, vae_dtype or dtype, device, some.family)
            models[vae_key] = some.with_vae(vae, vae_path)
        models.move_to_end(vae_key)
        while len(models) > MAX_VAES:
            models.popitem(last=False)
        return models[vae_key]

    def forget(self) -> None:
        """Let go of every model."""
        self._models.clear()
        _give_memory_back()

    def __len__(self) -> int:
        return len(self._models)

    def _make_room(self) -> None:
        """Before a load, so that no more than `max_models` are ever in memory at once."""
        full = len(self._models) >= self._max_models
        while len(self._models) >= self._max_models:
            self._models.popitem(last=False)
        if full:
            _give_memory_back()


def identity(path: Path) -> Identity:
    """What tells one state of a model file from another without reading it; of a folder, all files in it."""
    try:
        files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
        facts = [(file, file.stat()) for file in files]
    except OSError:
        raise MissingModel(f"{path.name} is not there (any more); refresh the list of models") from None
    return tuple((str(file), fact.st_mtime_ns, fact.st_size) for file, fact in facts)


def _give_memory_back() -> None:
    """Modules refer to themselves in circles, and CUDA's allocator keeps what was freed."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
