"""Upscalers' model files: of every architecture that spandrel knows, read through Easel's own door, and applied in tiles."""

import logging
import math
import sys
import warnings
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from webui.core.errors import BadModelFile, EngineError, OutOfMemory
from webui.engine.device import memory_sentence
from webui.engine.ladders import give_memory_back, is_out_of_memory
from webui.engine.model_file import read_plain

MOST_BYTES = 4_000_000_000  # of a file; the largest upscalers have a tenth of that
SMALLEST_TILE = 32  # pixels a side, below which a tile is not cut again when memory runs out
FUNCTIONS = "torchvision.transforms.functional"
log = logging.getLogger(__name__)
Tiles = Generator[tuple[int, int], None, Image.Image]  # yields (tiles that are done, tiles), returns the picture


@contextmanager
def _torchvision_stood_in_for() -> Iterator[None]:
    """spandrel's architectures for faces and for holes in pictures, which Easel has no use for, import three names of torchvision."""
    stand_in = ModuleType(FUNCTIONS)
    stand_in.__dict__.update(InterpolationMode=SimpleNamespace, rotate=None, normalize=None)
    known = sys.modules.setdefault(FUNCTIONS, stand_in)
    try:
        yield
    finally:
        if known is stand_in:
            del sys.modules[FUNCTIONS]


with _torchvision_stood_in_for():
    import spandrel
    from spandrel.architectures.Compact import Compact as Compact  # for training.upscaler


@dataclass
class UpscalerModel:
    """A network that makes pictures `scale` times as large, in the number type that it works in."""

    name: str  # of its file, for sentences
    network: spandrel.ImageModelDescriptor[Any]

    @property
    def scale(self) -> int:
        return self.network.scale

    @property
    def size(self) -> int:
        """Bytes of its weights."""
        return sum(weight.nbytes for weight in self.network.model.parameters())

    def enlarged(self, image: Image.Image, tile: int, overlap: int) -> Tiles:
        """The picture, RGB, `scale` times as large. tile: pixels a side that are worked on at once, 0: all; overlap: of neighbours.

        Where memory runs out, tiles become smaller; where 16 bits are too few, the network works in 32 from then on. Raises OutOfMemory,
        EngineError where not even that helps.
        """
        if not tile or self.network.tiling is spandrel.ModelTiling.INTERNAL:
            tile = max(image.size)
        while True:
            try:
                return (yield from self._in_tiles(image, min(tile, max(image.size)), overlap))
            except _NotFinite:
                self._widen()
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
                tile = _smaller(min(tile, max(image.size)), self.network.device)
            give_memory_back()
            log.warning("%s: memory ran out, or 16 bits were too few; it is tried again in tiles of %d pixels", self.name, tile)

    def _in_tiles(self, image: Image.Image, tile: int, overlap: int) -> Tiles:
        """Tiles become rows and rows the picture: each fades in where it covers the one before, but not at its own rim."""
        overlap = min(overlap, tile // 2)
        lefts, tops = _starts(image.width, tile, overlap), _starts(image.height, tile, overlap)
        by, width = self.scale, image.width
        result = Image.new("RGB", (width * by, image.height * by))
        for number, top in enumerate(tops):
            bottom = min(top + tile, image.height)
            row = Image.new("RGB", (width * by, (bottom - top) * by))
            for count, left in enumerate(lefts, start=1):
                piece = self._run(image.crop((left, top, min(left + tile, width), bottom)))
                row.paste(piece, (left * by, 0), _fade(piece.size, overlap * by if left else 0, across=True))
                yield number * len(lefts) + count, len(lefts) * len(tops)
            result.paste(row, (0, top * by), _fade(row.size, overlap * by if top else 0, across=False))
        return result

    def _run(self, image: Image.Image) -> Image.Image:
        """One tile through the network."""
        grey = self.network.input_channels == 1
        pixels = np.asarray(image.convert("L" if grey else "RGB"), dtype=np.float32) / 255
        x = torch.from_numpy(pixels.reshape(*pixels.shape[:2], -1)).permute(2, 0, 1)[None]
        y: Tensor = self.network(x.to(self.network.device, self.network.dtype))[0].float()
        if not bool(torch.isfinite(y).all()):
            raise _NotFinite
        rows = (y * 255).round().to(torch.uint8).permute(1, 2, 0).cpu().numpy()
        return Image.fromarray(rows[:, :, 0] if rows.shape[2] == 1 else rows).convert("RGB")

    def _widen(self) -> None:
        if self.network.dtype is torch.float32:
            raise EngineError(f"{self.name} gave no numbers, in 32-bit arithmetic too: its file may be damaged; get it again")
        self.network.float()


class _NotFinite(Exception):
    """The network gave something that is no number."""


def load_upscaler(path: Path, device: torch.device, dtype: torch.dtype = torch.float32) -> UpscalerModel:
    """Read a model file onto the device. dtype: worked in where the architecture can, else fp32. Raises BadModelFile, StorageError."""
    content = read_plain(path, MOST_BYTES)
    try:
        with warnings.catch_warnings(action="ignore"):  # older architectures' code is told what torch will want one day
            network = spandrel.MAIN_REGISTRY.load(spandrel.canonicalize_state_dict(content))
    except spandrel.UnsupportedModelError:
        raise BadModelFile(f"{path.name} is no upscaler of a kind that Easel knows; is it another kind of model?") from None
    except Exception as error:  # a file of strangers can break an architecture's loader in any way
        raise BadModelFile(f"{path.name} cannot be used as an upscaler ({type(error).__name__}): get it again, or another") from error
    usable = isinstance(network, spandrel.ImageModelDescriptor) and network.purpose in ("SR", "Restoration")
    if not usable or {network.input_channels, network.output_channels} - {1, 3}:
        raise BadModelFile(f"{path.name} ({network.architecture.name}) does not make pictures larger; choose another upscaler")
    fits = {torch.float16: network.supports_half, torch.bfloat16: network.supports_bfloat16}.get(dtype, True)
    network.to(device, dtype if fits else torch.float32).eval()
    network.model.requires_grad_(False)
    return UpscalerModel(path.name, network)


def _starts(length: int, tile: int, overlap: int) -> list[int]:
    """Where tiles begin along a side: as few as will do, evenly, the last one ending with the side."""
    if length <= tile:
        return [0]
    count = math.ceil((length - overlap) / (tile - overlap))
    return [round(i * (length - tile) / (count - 1)) for i in range(count)]


def _fade(size: tuple[int, int], overlap: int, across: bool) -> Image.Image:
    """How much of a tile or a row shows, 0 .. 255. Over `overlap` pixels from the left, or from the top: nothing in the first quarter,
    where the network lacked what lies beyond the rim, then more and more, and all in the last."""
    length = size[0] if across else size[1]
    share = ((np.arange(length, dtype=np.float32) + 0.5) / overlap * 2 - 0.5).clip(0, 1) if overlap else np.ones(length, np.float32)
    line = (share * 255).round().astype(np.uint8)
    return Image.fromarray(line[None] if across else line[:, None]).resize(size, Image.Resampling.NEAREST)


def _smaller(tile: int, device: torch.device) -> int:
    if tile <= SMALLEST_TILE:
        raise OutOfMemory(f"memory ran out while making a picture larger: {memory_sentence(device)}; close other programs")
    return max(tile // 2, SMALLEST_TILE)
