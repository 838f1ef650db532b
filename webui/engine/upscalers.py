"""The upscalers' models that a worker has in memory."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from webui.engine.device import Device

if TYPE_CHECKING:
    from webui.engine.upscaler_model import UpscalerModel

MOST_KEPT = 2  # models: as many as one job uses at once


class UpscalerStore:
    """Loads models by name and keeps those that were used last. find: name -> the file; raises MissingModel."""

    def __init__(self, find: Callable[[str], Path], device: Device) -> None:
        self._find, self._device = find, device
        self._models: dict[tuple[Path, int, int], UpscalerModel] = {}  # by file, its time and its size; used last comes last

    def load(self, name: str) -> "UpscalerModel":
        """Raises MissingModel, BadModelFile, StorageError."""
        from webui.engine.upscaler_model import load_upscaler  # brings spandrel along: a second that most jobs can do without

        path = self._find(name)
        status = path.stat()
        key = (path, status.st_mtime_ns, status.st_size)
        model = self._models.pop(key, None) or load_upscaler(path, self._device.torch_device, self._device.dtype)
        self._models[key] = model
        for old in list(self._models)[:-MOST_KEPT]:
            del self._models[old]
        return model
