"""The one door for model files: names, shapes and tensors out of .safetensors and .ckpt, and no code out of anything.

What a file is, is decided by its content, never by its name. Safetensors are read tensor by tensor with plain reads
into fresh memory: no mapping, so a file that is replaced or cut while in use can hurt nobody. Zip files with a pickle
(.ckpt, .pt, .bin of torch >= 1.6) go through torch's weights_only reader after their container has been checked;
everything else is refused with the advice to convert it.
"""

import io
import math
import os
import struct
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from webui.core.errors import BadModelFile
from webui.core.safetensors_header import TensorEntry, open_model_file, read_header, read_into, refuse_by_its_start

CPU = torch.device("cpu")
DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
MAX_PICKLE_BYTES = 64_000_000
MAX_DEPTH = 8  # of lists and dictionaries within one another
MAX_VALUES = 100_000  # in a file that is read as plain data
LOCAL_HEADER = struct.Struct("<4sHHHHHIIIHH")  # of a zip member: signature ... name length, extra length
END_RECORD_BYTES = (22, 22 + 76)  # after the directory: plain, and with the 64-bit record and its locator
DESCRIPTOR_BYTES = 24  # at most, after a member whose sizes were not known beforehand


class ModelFile(Protocol):
    """An open model file: shapes at once, tensors when asked for."""

    name: str
    shapes: dict[str, tuple[int, ...]]
    metadata: dict[str, str]

    def read(
        self, key: str, dtype: torch.dtype | None = None, third: int | None = None, device: torch.device = CPU, rows: slice | None = None
    ) -> Tensor:
        """One tensor in memory of its own, on `device`; numbers with a fraction are cast to `dtype`.

        third: 0, 1 or 2 takes that third of the rows, as of the joined q, k and v of open_clip's attention. rows: takes these alone,
        so that no more than they are in memory.
        """


class SafetensorsFile:
    """Tensors are read from disk one at a time, so only one is in memory twice, and only when it is cast."""

    def __init__(self, file: io.FileIO, name: str) -> None:
        header = read_header(file, name)
        self.name, self.metadata = name, header.metadata
        self.shapes = {key: entry.shape for key, entry in header.tensors.items()}
        self._file, self._entries = file, header.tensors
        self._scratch = torch.empty(0, dtype=torch.uint8)

    def read(
        self, key: str, dtype: torch.dtype | None = None, third: int | None = None, device: torch.device = CPU, rows: slice | None = None
    ) -> Tensor:
        entry = _rows_of(self._entries[key], _wanted_rows(self.shapes[key], third, rows))
        if entry.dtype not in DTYPES:
            raise BadModelFile(f"{self.name} holds numbers of the type {entry.dtype}, which Easel cannot use")
        stored = DTYPES[entry.dtype]
        target = dtype if dtype and stored.is_floating_point else stored
        moves = target != stored or device.type != "cpu"
        raw = self._scratch_of(entry.end - entry.start) if moves else torch.empty(entry.end - entry.start, dtype=torch.uint8)
        self._file.seek(entry.start)
        read_into(self._file, memoryview(raw.numpy()), self.name)
        tensor = raw.view(stored).reshape(entry.shape)
        return tensor.to(device, target, copy=True) if moves else tensor

    def _scratch_of(self, size: int) -> Tensor:
        """Memory that is used again for each tensor on its way elsewhere: fresh memory costs more than the reading."""
        if len(self._scratch) < size:
            self._scratch = torch.empty(size, dtype=torch.uint8)
        return self._scratch[:size]


class UnpickledFile:
    """The tensors of a .ckpt, .pt or .bin, all in memory already."""

    def __init__(self, tensors: Mapping[str, Tensor], metadata: dict[str, str], name: str) -> None:
        self.name, self.metadata, self._tensors = name, metadata, tensors
        self.shapes = {key: tuple(tensor.shape) for key, tensor in tensors.items()}

    def read(
        self, key: str, dtype: torch.dtype | None = None, third: int | None = None, device: torch.device = CPU, rows: slice | None = None
    ) -> Tensor:
        wanted = _wanted_rows(self.shapes[key], third, rows)
        tensor = self._tensors[key] if wanted is None else self._tensors[key][wanted]
        target = dtype if dtype and tensor.is_floating_point() else tensor.dtype
        return tensor.to(device, target, copy=True, memory_format=torch.contiguous_format)


@contextmanager
def open_tensors(path: Path) -> Iterator[ModelFile]:
    """Open a model file for the length of a `with` block."""
    with open_model_file(path) as file:
        start = file.read(512)
        if start[:4] == b"PK\x03\x04":
            yield UnpickledFile(*_unpickle(file, path.name), path.name)
            return
        refuse_by_its_start(start, path.name)
        yield SafetensorsFile(file, path.name)


def read_plain(path: Path, most: int) -> Any:
    """All that a small model file holds: safetensors as {name: tensor}, a torch file as it is, plain data with tensors among it.

    Plain data are texts, numbers, truth values, None, and lists, tuples and dictionaries of them. most: bytes that a file of the wanted
    kind can have; larger ones are refused unread. Tensors may have requires_grad.
    """
    with open_model_file(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > most:
            raise BadModelFile(f"{path.name} has {size} bytes; a file of its kind has at most {most}: is it another kind of model?")
        start = file.read(512)
        if start[:4] == b"PK\x03\x04":
            content = _load_zip(file, path.name)
            _check_plain(content, size, path.name)
            return content
        refuse_by_its_start(start, path.name)
        tensors = SafetensorsFile(file, path.name)
        return {key: tensors.read(key) for key in tensors.shapes}


def _wanted_rows(shape: tuple[int, ...], third: int | None, rows: slice | None) -> slice | None:
    """The part of the first axis to read; None is all of the tensor."""
    if third is None:
        return rows
    size = shape[0] // 3
    return slice(third * size, (third + 1) * size)


def _rows_of(entry: TensorEntry, rows: slice | None) -> TensorEntry:
    if rows is None:
        return entry
    first, last, _ = rows.indices(entry.shape[0])
    row = (entry.end - entry.start) // max(1, entry.shape[0])
    return TensorEntry(entry.dtype, (last - first, *entry.shape[1:]), entry.start + first * row, entry.start + last * row)


def _load_zip(file: io.FileIO, name: str) -> Any:
    """What a torch zip file holds; nothing but harmless types is ever built.

    Those are torch's own list, and the class of module parameters in which old embeddings keep their vectors.
    """
    check_zip(file, name)
    file.seek(0)
    try:
        with torch.serialization.safe_globals([nn.ParameterDict]):
            return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever a hostile pickle provokes: unpickling, type, value, memory, recursion errors
        if isinstance(error, MemoryError):
            raise
        raise BadModelFile(f"{name} holds more than plain tensors and is not opened; convert it to safetensors") from None


def _unpickle(file: io.FileIO, name: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The named tensors of a torch zip file, and the texts and whole numbers beside them.

    Tensors of a dict within the dict are named "outer.inner".
    """
    content = _load_zip(file, name)
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
    if not isinstance(content, dict):
        raise BadModelFile(f"{name} is not a list of named tensors; convert it to safetensors")
    tensors = _tensors_in(content)
    for outer, value in content.items():
        inner = vars(value).get("_parameters") if isinstance(value, nn.ParameterDict) else value
        if isinstance(outer, str) and isinstance(inner, dict):
            tensors |= {f"{outer}.{key}": tensor for key, tensor in _tensors_in(inner).items()}
    for key, tensor in tensors.items():
        _check_tensor(key, tensor, name)
    facts = {key: str(value) for key, value in content.items() if isinstance(key, str) and _is_fact(value)}
    return {key: tensor.detach() for key, tensor in tensors.items()}, facts


def _tensors_in(content: Mapping[Any, Any]) -> dict[str, Tensor]:
    return {key: value for key, value in content.items() if isinstance(key, str) and isinstance(value, Tensor)}


def _is_fact(value: Any) -> bool:
    return isinstance(value, str) or (isinstance(value, int) and value.bit_length() < 64)


def _check_plain(content: Any, size: int, name: str) -> None:
    """Refuse what is not plain data, is nested without end, or has tensors that together claim more than the file's `size` in bytes."""
    waiting, seen, claimed = [(content, 0)], 0, 0
    while waiting:
        value, depth = waiting.pop()
        parts = len(value) * 2 if isinstance(value, (dict, list, tuple)) else 0
        seen += 1 + parts
        if depth > MAX_DEPTH or seen > MAX_VALUES:
            raise BadModelFile(f"{name} is nested too deeply or holds too many values; it is damaged or hostile")
        if isinstance(value, Tensor):
            _check_tensor("", value, name)
            claimed += value.numel() * value.itemsize
        elif isinstance(value, dict):
            waiting += [(part, depth + 1) for pair in value.items() for part in pair]
        elif parts:
            waiting += [(part, depth + 1) for part in value]
        elif value is not None and not isinstance(value, (str, int, float, list, tuple)):
            raise BadModelFile(f"{name} holds a {type(value).__name__}, which no model file needs; convert it to safetensors")
    if claimed > size:
        raise BadModelFile(f"{name} is smaller than its tensors; the file is damaged or hostile")


def _check_tensor(key: str, tensor: Tensor, name: str) -> None:
    """Refuse tensors that claim more than the file holds: strides of 0, shapes beyond the storage, other layouts."""
    plain = tensor.layout is torch.strided and tensor.device.type == "cpu" and not tensor.is_quantized
    if not plain or math.prod(tensor.shape) * tensor.itemsize > tensor.untyped_storage().nbytes():
        raise BadModelFile(f"{name}: tensor {key[:80]!r} is larger than its data; the file is damaged or hostile")


def check_zip(file: io.FileIO, name: str) -> None:
    """Refuse a zip file that is more than torch writes: stored members of one folder, side by side from byte 0 to the end.

    So nothing is hidden before, between or after the members, none unfolds to more than its own size, and a reader
    that starts at the front sees the same file as one that starts at the end.
    """
    refusal = BadModelFile(f"{name} is not a zip file as torch writes it; convert it to safetensors")
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
    size = os.fstat(file.fileno()).st_size
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
