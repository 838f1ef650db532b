"""Opening model files and reading safetensors headers: pure Python, nothing of the file is trusted.

A safetensors file is 8 bytes (little-endian length n of the header), n bytes of JSON, then the tensors' bytes:
`{"name": {"dtype": "F16", "shape": [2, 3], "data_offsets": [0, 12]}, ..., "__metadata__": {"key": "text"}}`.
"""

import io
import json
import math
import os
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeGuard

from webui.core.errors import BadModelFile, MissingModel

MAX_HEADER_BYTES = 25_000_000
MAX_TENSORS = 20_000
MAX_DIMENSIONS = 8
ITEM_BYTES = {
    name: size
    for size, names in {
        8: ("F64", "I64", "U64"),
        4: ("F32", "I32", "U32"),
        2: ("F16", "BF16", "I16", "U16"),
        1: ("F8_E4M3", "F8_E5M2", "I8", "U8", "BOOL"),
    }.items()
    for name in names
}


@dataclass(frozen=True)
class TensorEntry:
    """Where one tensor lies: `start` and `end` are byte positions in the file."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


@dataclass(frozen=True)
class Header:
    """What a safetensors file says about itself; names and metadata are data from strangers."""

    tensors: dict[str, TensorEntry]
    metadata: dict[str, str] = field(default_factory=dict)


def open_model_file(path: Path) -> io.FileIO:
    """Open a regular file for reading, unbuffered; a pipe or device is refused without waiting for it.

    What is examined is what was opened, so that nobody can put another file in its place in between.
    """
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
    try:
        descriptor = os.open(path, flags)
    except (FileNotFoundError, NotADirectoryError):
        raise MissingModel(f"{path.name} is not there (any more); refresh the list of models") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise BadModelFile(f"{path.name} cannot be opened: {reason}") from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise BadModelFile(f"{path.name} is not a file but a folder, pipe or device; a model is an ordinary file")
    return io.FileIO(descriptor, "rb")


def refuse_by_its_start(start: bytes, name: str) -> None:
    """Files that are often taken for models, each with its own advice."""
    if not start:
        raise BadModelFile(f"{name} is empty; download or copy it again")
    if start.lstrip()[:1] == b"<":
        raise BadModelFile(f"{name} is a web page, not a model; open it in a text editor to see why the download failed")
    if start.startswith(b"version https://git-lfs"):
        raise BadModelFile(f"{name} only points to the model (Git LFS); download the file itself")
    if start[:1] == b"\x80" and start[1:2] <= b"\x05" and start[8:9] != b"{":
        raise BadModelFile(f"{name} is in torch's old format, which can run code; convert it to safetensors")
    if start[257:262] == b"ustar" or start[:6] == b"7z\xbc\xaf\x27\x1c" or start[:2] == b"\x1f\x8b":
        raise BadModelFile(f"{name} is an archive; unpack it, or convert what is in it to safetensors")


def read_header(file: io.FileIO, name: str) -> Header:
    """The header, checked: every tensor's bytes lie in the file, side by side, none twice, and none is left over."""
    size = os.fstat(file.fileno()).st_size
    file.seek(0)
    length = int.from_bytes(file.read(8), "little")
    if size < 10 or length > size - 8:
        raise BadModelFile(f"{name} is not a safetensors file, or it is cut short; download or copy it again")
    if length > MAX_HEADER_BYTES:
        raise BadModelFile(f"{name} has a header of {length} bytes; more than {MAX_HEADER_BYTES} are not read")
    items = _parse_json(read_exactly(file, length, name), name)
    metadata = items.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise BadModelFile(f"{name} has a damaged header: its metadata are not texts")
    if len(items) > MAX_TENSORS:
        raise BadModelFile(f"{name} lists {len(items)} tensors; more than {MAX_TENSORS} are not read")
    tensors = {key: _parse_entry(key, item, 8 + length, name) for key, item in items.items()}
    _check_coverage(tensors, 8 + length, size, name)
    return Header(tensors, metadata)


def read_exactly(file: io.FileIO, count: int, name: str) -> bytearray:
    """The next `count` bytes; a file that ends early is refused."""
    buffer = bytearray(count)
    read_into(file, memoryview(buffer), name)
    return buffer


def read_into(file: io.FileIO, buffer: memoryview, name: str, start: int | None = None) -> None:
    """Fill `buffer` from the file's present position; with `start` from there, the position being left alone (where the system can)."""
    filled = 0
    while filled < len(buffer):
        try:
            rest = buffer[filled:]
            count = file.readinto(rest) if start is None else os.preadv(file.fileno(), [rest], start + filled)
        except OSError as error:
            raise BadModelFile(f"{name} cannot be read: {error.strerror}") from None
        if not count:
            raise BadModelFile(f"{name} ends too early; download or copy it again")
        filled += count


def _parse_json(text: bytearray, name: str) -> dict[str, Any]:
    try:
        items = json.loads(text, object_pairs_hook=_no_name_twice)
    except (ValueError, RecursionError):
        raise BadModelFile(f"{name} is not a safetensors file, or its header is damaged") from None
    if not isinstance(items, dict):
        raise BadModelFile(f"{name} has a damaged header: it is not a list of named tensors")
    return items


def _no_name_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    items = dict(pairs)
    if len(items) != len(pairs):
        raise ValueError("a name occurs twice")
    return items


def _parse_entry(key: str, item: Any, data_start: int, name: str) -> TensorEntry:
    damaged = BadModelFile(f"{name} has a damaged header: tensor {key[:80]!r} is described wrongly")
    if not isinstance(item, dict):
        raise damaged
    dtype, shape, offsets = item.get("dtype"), item.get("shape"), item.get("data_offsets")
    if not isinstance(dtype, str) or not _is_counts(shape) or not _is_counts(offsets) or len(offsets) != 2:
        raise damaged
    if dtype not in ITEM_BYTES:
        raise BadModelFile(f"{name} holds numbers of the type {dtype[:20]!r}, which Easel does not know")
    if len(shape) > MAX_DIMENSIONS or math.prod(shape) * ITEM_BYTES[dtype] != offsets[1] - offsets[0]:
        raise damaged
    return TensorEntry(dtype, tuple(shape), data_start + offsets[0], data_start + offsets[1])


def _is_counts(values: Any) -> TypeGuard[list[int]]:
    return isinstance(values, list) and all(type(value) is int and value >= 0 for value in values)


def _check_coverage(tensors: dict[str, TensorEntry], data_start: int, size: int, name: str) -> None:
    position = data_start
    for entry in sorted(tensors.values(), key=lambda entry: (entry.start, entry.end)):
        if entry.start != position:
            raise BadModelFile(f"{name} has a damaged header: its tensors overlap or leave gaps")
        position = entry.end
    if position != size:
        problem = "is cut short" if position > size else "has bytes at its end that belong to no tensor"
        raise BadModelFile(f"{name} {problem}; download or copy it again")
