"""The one door for model files: names, shapes and tensors out of .safetensors and .ckpt, and no code out of anything.

What a file is, is decided by its content, never by its name. Safetensors are read tensor by tensor with plain reads
into memory of their own: no mapping, so a file that is replaced or cut while in use can hurt nobody. Zip files with a pickle
(.ckpt, .pt, .bin of torch >= 1.6) are converted to safetensors in a process of its own, after their container has been
checked (converted.py, unpickle.py); everything else is refused with the advice to convert it.
"""

import io
import json
import os
import struct
import threading
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, UntypedStorage

from webui.core.errors import BadModelFile
from webui.core.safetensors_header import TensorEntry, open_model_file, read_header, read_into, refuse_by_its_start
from webui.engine.converted import converted
from webui.engine.number_types import DTYPES
from webui.engine.spare import in_memory
from webui.engine.unpickle import CONTENT, UNNAMED

CPU = torch.device("cpu")
PIECE = 1 << 20  # numbers that are read, and cast or moved, at once
MAX_PICKLE_BYTES = 64_000_000
MAX_DIRECTORY_BYTES = 8_000_000  # of a zip file: some 80,000 members
LOCAL_HEADER = struct.Struct("<4sHHHHHIIIHH")  # of a zip member: signature ... name length, extra length
END_RECORD_BYTES = (22, 22 + 76)  # after the directory: plain, and with the 64-bit record and its locator
DESCRIPTOR_BYTES = 24  # at most, after a member whose sizes were not known beforehand


@dataclass(frozen=True)
class ReadAs:
    """How a tensor is to be read; without any word, all of it, as it is stored, into main memory."""

    dtype: torch.dtype | None = None  # to which numbers with a fraction are cast
    device: torch.device = CPU
    third: int | None = None  # 0, 1 or 2: that third of the rows, as of the joined q, k and v of open_clip's attention
    rows: slice | None = None  # these alone, so that no more than they are in memory
    piece: UntypedStorage | None = None  # memory in which the tensor may be laid, where it fits

    def rows_of(self, shape: tuple[int, ...]) -> slice | None:
        """The part of the first axis to read; None is all of the tensor."""
        if self.third is None:
            return self.rows
        size = shape[0] // 3
        return slice(self.third * size, (self.third + 1) * size)


AS_STORED = ReadAs()


class ModelFile(Protocol):
    """An open model file: shapes at once, tensors when asked for."""

    name: str
    shapes: dict[str, tuple[int, ...]]
    metadata: dict[str, str]

    def read(self, key: str, how: ReadAs = AS_STORED) -> Tensor:
        """One tensor in memory of its own."""


class SafetensorsFile:
    """Tensors are read from disk piece by piece, so nothing but a piece is in memory twice, and only where it is cast or moved.

    Several threads may read at once.
    """

    def __init__(self, file: io.FileIO, name: str) -> None:
        header = read_header(file, name)
        self.name = name
        self.metadata = {key: text for key, text in header.metadata.items() if key != CONTENT}
        self.shapes = {key: entry.shape for key, entry in header.tensors.items() if not key.startswith(UNNAMED)}
        self._file, self._entries = file, header.tensors
        self._mine = threading.local()  # each reading thread's scratch memory
        self._position = threading.Lock()  # where the system cannot read at a place without moving there

    def read(self, key: str, how: ReadAs = AS_STORED) -> Tensor:
        entry = self._entries[key]
        entry = _rows_of(entry, how.rows_of(entry.shape))
        if entry.dtype not in DTYPES:
            raise BadModelFile(f"{self.name} holds numbers of the type {entry.dtype}, which Easel cannot use")
        stored = DTYPES[entry.dtype]
        target = how.dtype if how.dtype and stored.is_floating_point else stored
        result = in_memory(how.piece, entry.shape, target, how.device)
        if target == stored and how.device.type == "cpu":
            self._fill(memoryview(result.flatten().view(torch.uint8).numpy()), entry.start)
            return result
        start = entry.start
        for part in result.flatten().split(PIECE):
            raw = self._scratch_of(len(part) * stored.itemsize)
            self._fill(memoryview(raw.numpy()), start)
            part.copy_(raw.view(stored))
            start += len(raw)
        return result

    def _fill(self, buffer: memoryview, start: int) -> None:
        if hasattr(os, "preadv"):
            read_into(self._file, buffer, self.name, start)
        else:
            with self._position:
                self._file.seek(start)
                read_into(self._file, buffer, self.name)

    def _scratch_of(self, size: int) -> Tensor:
        """Memory that is used again for each piece: it stays in the processor's cache."""
        scratch: Tensor | None = getattr(self._mine, "scratch", None)
        if scratch is None or len(scratch) < size:
            self._mine.scratch = scratch = torch.empty(size, dtype=torch.uint8)
        return scratch[:size]


class ConvertedFile(SafetensorsFile):
    """What was a torch file: tensors of a dictionary in the dictionary are named "outer.inner", texts and whole numbers are metadata."""

    def __init__(self, file: io.FileIO, name: str) -> None:
        super().__init__(file, name)
        content = json.loads(read_header(file, name).metadata[CONTENT])
        for outer, value in content.get("pairs", ()) if isinstance(content, dict) else ():
            if isinstance(value, dict) and outer != "state_dict":
                self._name_inner(outer, value.get("pairs", ()))
            elif isinstance(outer, str) and isinstance(value, (str, int)):
                self.metadata[outer] = str(value)

    def _name_inner(self, outer: Any, pairs: Any) -> None:
        for inner, value in pairs:
            if isinstance(outer, str) and isinstance(inner, str) and isinstance(value, dict) and "tensor" in value:
                entry = self._entries[value["tensor"]]
                self._entries[f"{outer}.{inner}"], self.shapes[f"{outer}.{inner}"] = entry, entry.shape


class TensorsInMemory:
    """A ModelFile of tensors that were read already."""

    def __init__(self, tensors: Mapping[str, Tensor], name: str) -> None:
        self.name, self._tensors = name, tensors
        self.metadata: dict[str, str] = {}
        self.shapes = {key: tuple(tensor.shape) for key, tensor in tensors.items()}

    def read(self, key: str, how: ReadAs = AS_STORED) -> Tensor:
        wanted = how.rows_of(self.shapes[key])
        tensor = self._tensors[key] if wanted is None else self._tensors[key][wanted]
        return tensor.to(how.device, how.dtype if how.dtype and tensor.is_floating_point() else tensor.dtype, copy=True)


class FilesInPieces:
    """A ModelFile of several open ones, which hold different tensors; of none, an empty one."""

    def __init__(self, pieces: Sequence[ModelFile], name: str) -> None:
        self.name, self.metadata = name, {key: text for piece in pieces for key, text in piece.metadata.items()}
        self.shapes = {key: shape for piece in pieces for key, shape in piece.shapes.items()}
        self._owners = {key: piece for piece in pieces for key in piece.shapes}

    def read(self, key: str, how: ReadAs = AS_STORED) -> Tensor:
        return self._owners[key].read(key, how)


@contextmanager
def open_tensors(path: Path) -> Iterator[ModelFile]:
    """Open a model file for the length of a `with` block."""
    with open_model_file(path) as file:
        start = file.read(512)
        if start[:4] == b"PK\x03\x04":
            check_zip(file, path.name)
            with converted(file, path.name) as tensors:
                yield ConvertedFile(tensors, path.name)
            return
        refuse_by_its_start(start, path.name)
        yield SafetensorsFile(file, path.name)


def read_plain(path: Path, most: int) -> Any:
    """All that a small model file holds: safetensors as {name: tensor}, a torch file as plain data with tensors among it.

    Plain data are texts, numbers, truth values, None, and lists, tuples and dictionaries of them; None also stands for anything else.
    most: bytes that a file of the wanted kind can have; larger ones are refused unread.
    """
    with open_model_file(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > most:
            raise BadModelFile(f"{path.name} has {size} bytes; a file of its kind has at most {most}: is it another kind of model?")
        start = file.read(512)
        if start[:4] != b"PK\x03\x04":
            refuse_by_its_start(start, path.name)
            tensors = SafetensorsFile(file, path.name)
            return {key: tensors.read(key) for key in tensors.shapes}
        check_zip(file, path.name)
        with converted(file, path.name) as found:
            header = read_header(found, path.name)
            return _put_together(json.loads(header.metadata[CONTENT]), SafetensorsFile(found, path.name))


def _put_together(described: Any, tensors: SafetensorsFile) -> Any:
    """The value that unpickle.py described, with its tensors."""
    if not isinstance(described, dict):
        return described
    ((form, content),) = described.items()
    if form == "tensor":
        return tensors.read(content)
    if form == "pairs":
        keys = (key if not isinstance(key, dict) else str(key) for key, _ in content)
        return {key: _put_together(value, tensors) for key, (_, value) in zip(keys, content, strict=True)}
    values = [_put_together(value, tensors) for value in content]
    return tuple(values) if form == "tuple" else values


def _rows_of(entry: TensorEntry, rows: slice | None) -> TensorEntry:
    if rows is None:
        return entry
    first, last, _ = rows.indices(entry.shape[0])
    row = (entry.end - entry.start) // max(1, entry.shape[0])
    return TensorEntry(entry.dtype, (last - first, *entry.shape[1:]), entry.start + first * row, entry.start + last * row)


def check_zip(file: io.FileIO, name: str) -> None:
    """Refuse a zip file that is more than torch writes: stored members of one folder, side by side from byte 0 to the end.

    So nothing is hidden before, between or after the members, none unfolds to more than its own size, and a reader
    that starts at the front sees the same file as one that starts at the end.
    """
    refusal = BadModelFile(f"{name} is not a zip file as torch writes it; convert it to safetensors")
    size = os.fstat(file.fileno()).st_size
    file.seek(max(size - 22, 0))
    end = file.read(22)
    if end[:4] != b"PK\x05\x06" or int.from_bytes(end[12:16], "little") > MAX_DIRECTORY_BYTES:
        raise refusal
    file.seek(0)
    try:
        archive = zipfile.ZipFile(file)
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OSError, struct.error):
        raise refusal from None
    members = sorted(archive.infolist(), key=lambda member: member.header_offset)
    names = [member.filename for member in members]
    roots = {member_name.split("/")[0] for member_name in names}
    pickles = [member for member in members if member.filename.lower().endswith((".pkl", ".pickle"))]
    if not names or len(set(names)) != len(names) or len(roots) != 1 or archive.comment:
        raise refusal
    if [member.filename for member in pickles] != [f"{roots.pop()}/data.pkl"] or pickles[0].file_size > MAX_PICKLE_BYTES:
        raise refusal
    position = 0
    for member in members:
        slack = member.header_offset - position
        if not 0 <= slack <= DESCRIPTOR_BYTES * (position > 0) or not _is_stored(member):
            raise refusal
        position = _end_of(file, member, refusal)
    directory = sum(46 + len(m.orig_filename.encode()) + len(m.extra) + len(m.comment) for m in members)
    trailer = size - archive.start_dir - directory
    if not 0 <= archive.start_dir - position <= DESCRIPTOR_BYTES or trailer not in END_RECORD_BYTES:
        raise refusal


def _is_stored(member: zipfile.ZipInfo) -> bool:
    encrypted = member.flag_bits & 0x1
    return member.compress_type == zipfile.ZIP_STORED and member.compress_size == member.file_size and not encrypted


def _end_of(file: io.FileIO, member: zipfile.ZipInfo, refusal: BadModelFile) -> int:
    """Where the member's bytes end, by its own header, which must agree with the directory's."""
    file.seek(member.header_offset)
    raw = file.read(LOCAL_HEADER.size)
    if len(raw) < LOCAL_HEADER.size:
        raise refusal
    signature, _, flags, method, _, _, _, _, _, name_length, extra_length = LOCAL_HEADER.unpack(raw)
    local_name = file.read(name_length)
    if signature != b"PK\x03\x04" or method != zipfile.ZIP_STORED or flags & 0x1:
        raise refusal
    if local_name != member.orig_filename.encode():
        raise refusal
    return member.header_offset + LOCAL_HEADER.size + name_length + extra_length + member.file_size
