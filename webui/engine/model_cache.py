"""The models in memory, the only holder of weights between jobs: the least recently used one goes first."""

import logging
import math
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import torch
from torch import nn

from webui.core.diffusers_folder import all_weight_files
from webui.core.errors import BadModelFile, BadRequest, MissingModel
from webui.core.event import Event
from webui.core.torch_outline import read_shapes
from webui.engine.checkpoint import load_checkpoint, load_vae
from webui.engine.device import memory_sentence
from webui.engine.fingerprint import fingerprint
from webui.engine.ladders import give_memory_back, is_out_of_memory, with_less_memory
from webui.engine.load_progress import Tell
from webui.engine.model import DiffusionModel
from webui.engine.placement import CPU, Placement, pin
from webui.engine.spare import Spare

log = logging.getLogger(__name__)
Identity = tuple[tuple[str, int, int], ...]  # path, time of change in ns, size in bytes, of each file
Key = tuple[Identity, torch.dtype, torch.device, torch.dtype]
Place = tuple[Key, Identity | None]  # of the checkpoint, of the VAE


class ModelCache:
    """Keeps the last models, each pair of checkpoint and VAE for itself; a file that has changed is loaded anew.

    max_bytes: of weights in all, those that several models share counted once. The newest model is always kept, whatever its size.
    """

    def __init__(
        self,
        max_bytes: int,
        place: Callable[[int], Placement | None] = lambda weights: None,
        tell: Tell = lambda share: None,
        *,
        max_aside: int = 0,
    ) -> None:
        """place: bytes of a checkpoint's weights -> where they wait; None: on the device. tell: as of load_checkpoint.

        max_aside: bytes of models that have left a card and are kept in main memory, from where they come back without their files.
        """
        self._place, self._tell = place, tell
        self._models: OrderedDict[Place, DiffusionModel] = OrderedDict()
        self._aside: OrderedDict[Place, DiffusionModel] = OrderedDict()  # those that have left the card
        self._fingerprints: dict[Place, str] = {}
        self._max_bytes = self._max_aside = 0
        self.resize(max_bytes, max_aside)

    def resize(self, max_bytes: int, max_aside: int = 0) -> None:
        """Hold as much as that from now on; what is too much goes at once, but for the newest model."""
        if max_bytes < 1:
            raise BadRequest(f"a cache of {max_bytes} bytes holds no model; give it as many as two checkpoints have")
        if (max_bytes, max_aside) != (self._max_bytes, self._max_aside):
            self._max_bytes, self._max_aside = max_bytes, max_aside
            self._clear_scratch()
            self._shrink()
            self._shrink_aside()

    def load(
        self,
        checkpoint_path: Path,
        vae_path: Path | None,
        dtype: torch.dtype,
        device: torch.device,
        *,
        vae_dtype: torch.dtype | None = None,
        text_paths: tuple[Path, ...] = (),
    ) -> DiffusionModel:
        """The model, from memory where it is there. If its file is refused, whatever else is held stays as it was."""
        key = (sum(map(identity, text_paths), identity(checkpoint_path)), dtype, device, vae_dtype or dtype)
        place = (key, identity(vae_path) if vae_path else None)
        self._clear_scratch(key)
        same_file = [aside for aside in self._aside if aside[0] == key]
        if place not in self._models and same_file:
            self._bring_back(place if place in same_file else same_file[-1])
        if place in self._models:
            self._models.move_to_end(place)
            return self._models[place]
        same_unet = [model for (held, _), model in self._models.items() if held == key]
        if same_unet:
            model = _with_vae(same_unet[-1], vae_path, vae_dtype or dtype, device)
        else:
            self._forget_outdated(checkpoint_path, key)
            expected = sum(_expected_bytes(path, dtype) for path in (checkpoint_path, *text_paths))
            spare = self._make_room(expected)
            model = self._read(checkpoint_path, vae_path, dtype, device, vae_dtype, text_paths, self._place(expected), spare)
        self._models[place] = model
        self._fingerprints[place] = fingerprint(_modules(model))
        self._shrink()
        return model

    def _read(
        self,
        path: Path,
        vae_path: Path | None,
        dtype: torch.dtype,
        device: torch.device,
        vae_dtype: torch.dtype | None,
        text_paths: tuple[Path, ...],
        placement: Placement | None,
        spare: Spare,
    ) -> DiffusionModel:
        """Where there is no memory for one more model, the others go. spare: what those have left that went before."""

        def read(spare: Spare) -> DiffusionModel:
            home = placement.home if placement else device
            model = load_checkpoint(path, dtype, home, vae_path, vae_dtype=vae_dtype, text_paths=text_paths, tell=self._tell, spare=spare)
            model.placement = placement
            for part in _modules(model) if placement else ():
                _pin_for(device, part)
            return model

        def read_alone() -> DiffusionModel:
            spare.clear()
            return read(self._drop_while(lambda: bool(self._models)))

        advice = f"there is no memory for {path.name}: {memory_sentence(device)}; close other programs, or choose a smaller checkpoint"
        return with_less_memory([lambda: read(spare), read_alone], advice)

    def checked(self, events: Iterator[Event]) -> Iterator[Event]:
        """The events; where they end in an error, a model whose weights it has left changed is forgotten, and read again when needed."""
        try:
            yield from events
        except Exception:
            for place, model in list(self._models.items()):
                if not _is_intact(model, self._fingerprints[place]):
                    log.warning("an error has left %s changed in memory; it will be loaded again", model.path.name)
                    self._forget_one(place)
            raise

    def keep_newest(self) -> None:
        """Let go of every model but the one that was asked for last."""
        self._drop_while(lambda: len(self._models) > 1)

    def _set_aside(self, place: Place, spare: Spare) -> None:
        """Out of the card's memory, into main memory where there is room; or out of main memory, which is then spare."""
        model = self._models.pop(place)
        working = {id(part) for other in self._models.values() for part in _modules(other)}
        if not self._max_aside:
            del self._fingerprints[place]
            spare.add(_modules(model) if model.placement is None else ())
            return
        for part in (part for part in _modules(model) if id(part) not in working):
            part.to(CPU)
            _pin_for(model.device, part)
        self._aside[place] = model
        self._shrink_aside()

    def _shrink_aside(self) -> None:
        while self._aside and bytes_of(self._aside.values()) > self._max_aside:
            dropped, _ = self._aside.popitem(last=False)
            del self._fingerprints[dropped]

    def _bring_back(self, place: Place) -> None:
        """To the card again, or, where its memory is not enough, to nowhere: the file is then read as if for the first time."""
        model, device = self._aside.pop(place), place[0][2]
        self._make_room(bytes_of([model]))
        try:
            for part in _modules(model) if model.placement is None else ():
                part.to(device)
            self._models[place] = model
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            del self._fingerprints[place]

    def _forget_outdated(self, checkpoint_path: Path, key: Key) -> None:
        """Let go of models of this checkpoint as it was before its file changed: nobody can ask for them again."""
        for models in (self._models, self._aside):
            for place in [place for place, model in models.items() if model.path == checkpoint_path and place[0][0] != key[0]]:
                del models[place], self._fingerprints[place]

    def _clear_scratch(self, but: Key | None = None) -> None:
        """Of all models, or of those of other checkpoints."""
        for (key, _), model in self._models.items():
            if key != but:
                model.scratch.clear()

    def _forget_one(self, place: Place) -> None:
        del self._models[place], self._fingerprints[place]

    def forget(self) -> None:
        """Let go of every model."""
        self._models.clear()
        self._aside.clear()
        self._fingerprints.clear()
        give_memory_back()

    def __len__(self) -> int:
        """Pairs of checkpoint and VAE."""
        return len(self._models)

    @property
    def held_bytes(self) -> int:
        """Of all weights in memory."""
        return bytes_of(self._models.values())

    def _make_room(self, expected: int) -> Spare:
        """Before a load, so that not even during it more than `max_bytes` are in memory; what those who go leave is for the load."""
        return self._drop_while(lambda: bool(self._models) and self.held_bytes + expected > self._max_bytes)

    def _shrink(self) -> None:
        """After a load, by what the models truly take."""
        self._drop_while(lambda: len(self._models) > 1 and self.held_bytes > self._max_bytes)

    def _drop_while(self, too_much: Callable[[], bool]) -> Spare:
        """Let the oldest go; gives the memory that they leave."""
        spare, dropped = Spare(), False
        while too_much():
            self._set_aside(next(iter(self._models)), spare)
            dropped = True
        if dropped and (torch.cuda.is_available() or not spare.is_free):
            give_memory_back()
        return spare


def _modules(model: DiffusionModel) -> list[nn.Module]:
    return [part for part in model.pipeline.components.values() if isinstance(part, nn.Module)]


def _with_vae(model: DiffusionModel, vae_path: Path | None, dtype: torch.dtype, device: torch.device) -> DiffusionModel:
    """The model with a VAE file's VAE, or again its own, which waits where the other parts do."""
    home = model.placement.home if model.placement else device
    other = model.with_vae(load_vae(vae_path or model.path, dtype, home, model.family), vae_path)
    if model.placement:
        _pin_for(model.device, other.vae)
    return other


def _pin_for(device: torch.device, part: nn.Module) -> None:
    """So that a card takes the part from main memory at full speed."""
    if device.type == "cuda":
        pin(part)


def _is_intact(model: DiffusionModel, expected: str) -> bool:
    """Whether the weights are those that were loaded; they are not where the device cannot even tell."""
    try:
        return fingerprint(_modules(model)) == expected
    except RuntimeError:
        return False


def bytes_of(models: Iterable[DiffusionModel]) -> int:
    """Of the models' weights, and of what is kept for changed ones; memory that several tensors share is counted once."""
    models = list(models)
    modules = [part for model in models for part in _modules(model)]
    tensors = [tensor for module in modules for tensor in (*module.parameters(), *module.buffers())]
    storages = {(tensor.device, tensor.untyped_storage().data_ptr()): tensor.untyped_storage().nbytes() for tensor in tensors}
    return sum(storages.values()) + sum({id(model.scratch): model.scratch.nbytes for model in models}.values())


def identity(path: Path) -> Identity:
    """What tells one state of a model file from another without reading it; of a folder, all files in it."""
    try:
        files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
        facts = [(file, file.stat()) for file in files]
    except OSError:
        raise MissingModel(f"{path.name} is not there (any more); refresh the list of models") from None
    return tuple((str(file), fact.st_mtime_ns, fact.st_size) for file, fact in facts)


def _expected_bytes(path: Path, dtype: torch.dtype) -> int:
    """About as many as the model will take, by the shapes that its files tell; 0 for a file that will be refused."""
    if path.is_dir():
        return sum(_expected_bytes(file, dtype) for file in all_weight_files(path))
    try:
        shapes = read_shapes(path)
    except BadModelFile:  # the door says it better
        return 0
    return dtype.itemsize * sum(math.prod(shape) for name, shape in shapes.items() if not name.startswith("model_ema."))
