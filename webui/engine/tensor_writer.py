"""Writing safetensors a piece at a time: the header first, from shapes alone, then each tensor as it is made.

So a file of any size is written with no more in memory than the piece that is on its way to the disk. Files appear
whole or not at all: they grow under another name beside their place and are renamed at the end.
"""

import json
import math
import os
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor

from webui.core.errors import BadRequest, StorageError
from webui.engine.number_types import DTYPES

PART = ".part"  # ending of what is still being written
ALIGNMENT = 8  # bytes; the header is padded with spaces so that the tensors begin at a multiple
NAMES = {dtype: name for name, dtype in DTYPES.items()}  # in the header
PRECISIONS = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}
ORDER = ("I64", "F64", "F32", "I32", "BF16", "F16", "I16", "F8_E4M3", "F8_E5M2", "I8", "U8", "BOOL")  # safetensors' own


@dataclass(frozen=True)
class Outgoing:
    """A tensor that will be written. pieces: makes its values, in order and each cut along the first axis, when they are wanted."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    pieces: Callable[[], Iterable[Tensor]]

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


@contextmanager
def new_place(path: Path, *, replace: bool = False) -> Iterator[Path]:
    """A path beside `path` to write a file or a folder to; it takes the name `path` at the end of the block, and is removed after an error.

    Raises BadRequest where `path` is taken (unless `replace`), StorageError where the disk refuses.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}{PART}")
    _check_free(path, replace)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield part
        _check_free(path, replace)  # somebody else may have been faster
        part.replace(path)
    except OSError as error:
        raise StorageError(f"{path} could not be written: {error.strerror}; free some space or choose another folder") from error
    finally:
        _remove(part)


def write_tensors(path: Path, tensors: Mapping[str, Outgoing], metadata: Mapping[str, str]) -> Generator[float]:
    """Write a safetensors file at `path` at once; yields the share of its bytes that is written, 0 .. 1, after each tensor.

    Raises OSError; wrap it in `new_place`.
    """
    ordered = sorted(tensors.items(), key=lambda item: (ORDER.index(NAMES[item[1].dtype]), item[0]))
    total = max(1, sum(tensor.nbytes for tensor in tensors.values()))
    done = 0
    with path.open("wb") as file:
        file.write(_header(ordered, metadata))
        for _, tensor in ordered:
            _write_pieces(file, tensor)
            done += tensor.nbytes
            yield done / total
        file.flush()
        os.fsync(file.fileno())


def save_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str], *, replace: bool = False) -> None:
    """Write tensors that are in memory already. Raises BadRequest where `path` is taken (unless `replace`), StorageError."""
    outgoing = {name: Outgoing(tensor.dtype, tuple(tensor.shape), lambda tensor=tensor: [tensor]) for name, tensor in tensors.items()}
    with new_place(path, replace=replace) as part:
        for _ in write_tensors(part, outgoing, metadata):
            pass


def _header(tensors: Iterable[tuple[str, Outgoing]], metadata: Mapping[str, str]) -> bytes:
    """8 bytes of length, then JSON; see core/safetensors_header.py."""
    content: dict[str, object] = {"__metadata__": {"format": "pt", **metadata}}
    position = 0
    for name, tensor in tensors:
        end = position + tensor.nbytes
        content[name] = {"dtype": NAMES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [position, end]}
        position = end
    text = json.dumps(content, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "replace")
    text += b" " * (-len(text) % ALIGNMENT)
    return len(text).to_bytes(8, "little") + text


def _write_pieces(file: BinaryIO, tensor: Outgoing) -> None:
    written = 0
    for piece in tensor.pieces():
        ready = piece.detach().to("cpu", tensor.dtype).contiguous()
        file.write(memoryview(ready.reshape(-1).view(torch.uint8).numpy()))
        written += ready.nbytes
    if written != tensor.nbytes:
        raise ValueError(f"{written} bytes for a tensor of {tensor.nbytes}")


def _check_free(path: Path, replace: bool) -> None:
    if path.exists() and not replace:
        raise BadRequest(f"{path.name} exists already in {path.parent.name}/; choose another name, or move the old one away first")


def _remove(part: Path) -> None:
    """The unfinished file, or the folder with all that is in it."""
    if part.is_dir():
        for file in part.iterdir():
            _remove(file)
        part.rmdir()
    else:
        part.unlink(missing_ok=True)
