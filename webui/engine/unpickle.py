"""Reads one torch file in a process of its own, and writes what is in it as safetensors: `python -m webui.engine.unpickle NAME`.

Standard input is the torch file, standard output the safetensors file to write: this process opens no other. It limits its own memory,
time and output by the size of its input, cuts itself off from the network where the system lets it, and unpickles with torch's
weights_only reader, which builds nothing but tensors and plain data. A refusal is a sentence on standard error, with status REFUSED.
"""

import ctypes
import io
import json
import math
import os
import sys
from contextlib import suppress
from typing import Any, BinaryIO

from webui.core.errors import BadModelFile

REFUSED = 3
DISK_FULL = 4
MARK = "easel: "  # before the sentence, to tell it from what libraries may print
SPARE_BYTES = 1_000_000_000  # of memory, beyond what the process has at its start and twice its input
SECONDS = 120  # of one core, and one more for each BYTES_A_SECOND of input
BYTES_A_SECOND = 50_000_000
OWN_USERS, OWN_NETWORK = 0x10000000, 0x40000000  # CLONE_NEWUSER, CLONE_NEWNET of Linux
MAX_DEPTH = 8  # of lists and dictionaries within one another
MAX_VALUES = 200_000
CONTENT = "easel.content"  # the metadata entry that describes what is not simply a named tensor
UNNAMED = "easel.tensor."  # begins the names of tensors that have none of their own


def main() -> int:
    """Convert standard input to standard output. Returns the exit status."""
    name = sys.argv[1] if len(sys.argv) > 1 else "the file"
    source = io.FileIO(0, "rb", closefd=False)
    _cut_off()
    try:
        import torch  # noqa: F401  before the limits: its libraries need address space whatever the file is

        limit(os.fstat(0).st_size)
        convert(source, name, io.FileIO(1, "wb", closefd=False))
    except BadModelFile as error:
        return _tell(REFUSED, str(error))
    except MemoryError:
        return _tell(REFUSED, f"{name} unfolds to more than its own size; it is damaged or hostile")
    except OSError as error:
        return _tell(DISK_FULL, error.strerror or str(error))
    return 0


def _cut_off() -> None:
    """Leave the network, on Linux where users may have namespaces of their own; elsewhere nothing happens."""
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).unshare(OWN_USERS | OWN_NETWORK)


def _tell(status: int, sentence: str) -> int:
    sys.stderr.buffer.write(f"{MARK}{sentence}\n".encode("utf-8", "replace"))
    return status


def limit(size: int) -> None:
    """Bound what this process may use for an input of `size` bytes. Systems without such limits (Windows) rely on the parent's clock."""
    try:
        import resource
    except ImportError:
        return
    with open("/proc/self/statm") if os.path.exists("/proc/self/statm") else io.StringIO("0") as file:
        present = int(file.read().split()[0]) * resource.getpagesize()
    limits = {
        "RLIMIT_AS": present + 2 * size + SPARE_BYTES,
        "RLIMIT_CPU": SECONDS + size // BYTES_A_SECOND,
        "RLIMIT_FSIZE": 2 * size + SPARE_BYTES,
        "RLIMIT_CORE": 0,
        "RLIMIT_NPROC": 0,
    }
    for what, most in limits.items():
        with suppress(AttributeError, ValueError, OSError):
            resource.setrlimit(getattr(resource, what), (most, most))


def convert(source: io.FileIO, name: str, target: BinaryIO) -> None:
    """Write the safetensors file. Raises BadModelFile, MemoryError, OSError."""
    size = os.fstat(source.fileno()).st_size
    tensors: dict[str, Any] = {}
    content = _described(_loaded(source, name), name, tensors)
    if sum(math.prod(tensor.shape) * tensor.itemsize for tensor in tensors.values()) > 2 * size:
        raise BadModelFile(f"{name} is smaller than its tensors; the file is damaged or hostile")
    _write(target, tensors, json.dumps(content))


def _loaded(source: io.FileIO, name: str) -> Any:
    """What the file holds: tensors and plain data. Of a training's checkpoint only the weights."""
    import torch

    source.seek(0)
    try:
        with torch.serialization.safe_globals(_stand_ins()):
            content = torch.load(source, map_location="cpu", weights_only=True)
    except MemoryError:
        raise
    except Exception:  # whatever a hostile pickle provokes: unpickling, type, value, recursion errors
        raise BadModelFile(f"{name} holds more than plain tensors and is not opened; convert it to safetensors") from None
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        return {key: value for key, value in content.items() if key == "state_dict" or isinstance(value, (str, int, float))}
    return content


class _Forgotten:
    """Stands for a class of other programs whose objects are beside the point."""

    def __new__(cls, *arguments: Any) -> "_Forgotten":
        return super().__new__(cls)

    def __setstate__(self, state: Any) -> None:
        pass


class _Parameters(dict):  # type: ignore[type-arg]
    """Stands for torch.nn.ParameterDict, in which the first textual inversions keep their vectors."""

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, dict) and isinstance(state.get("_parameters"), dict):
            self.update(state["_parameters"])


def _stand_ins() -> list[Any]:
    lightning = "pytorch_lightning.callbacks.model_checkpoint"  # a key in the first Stable Diffusion checkpoints names it
    return [
        (_Forgotten, f"{lightning}.ModelCheckpoint"),
        (_Parameters, "torch.nn.modules.container.ParameterDict"),
    ]


def _described(content: Any, name: str, tensors: dict[str, Any]) -> Any:
    """`content` as JSON, its tensors put into `tensors` and named in their places: {"tensor": its name}. Other objects become null."""
    import torch

    left = MAX_VALUES
    named = content.get("state_dict", content) if isinstance(content, dict) else {}

    def describe(value: Any, depth: int, own_name: str = "") -> Any:
        nonlocal left
        left -= 1
        if left < 0 or depth > MAX_DEPTH:
            raise BadModelFile(f"{name} is nested too deeply or holds too much; it is damaged or hostile")
        if isinstance(value, torch.Tensor):
            free = own_name and own_name != "__metadata__" and not own_name.startswith(UNNAMED)
            key = own_name if free else f"{UNNAMED}{len(tensors)}"
            tensors[key] = checked(key, value, name)
            return {"tensor": key}
        if isinstance(value, dict):
            names = value is named
            pairs = ((key, key if names and isinstance(key, str) else "", inner) for key, inner in value.items())
            return {"pairs": [[describe(key, depth + 1), describe(inner, depth + 1, own)] for key, own, inner in pairs]}
        if isinstance(value, (list, tuple)):
            return {type(value).__name__ if type(value) in (list, tuple) else "list": [describe(inner, depth + 1) for inner in value]}
        large = type(value) is int and abs(value) >= 2**63
        return value if type(value) in (str, int, float, bool) and not large else None

    return describe(content, 0)


def checked(key: str, tensor: Any, name: str) -> Any:
    """`tensor`, if it is plain and claims no more than the file holds: no strides of 0, no shapes beyond the storage, no other layout."""
    import torch

    plain = tensor.layout is torch.strided and tensor.device.type == "cpu" and not tensor.is_quantized
    if not plain or math.prod(tensor.shape) * tensor.itemsize > tensor.untyped_storage().nbytes():
        raise BadModelFile(f"{name}: tensor {key[:80]!r} is larger than its data; the file is damaged or hostile")
    return tensor.detach()


def _write(target: BinaryIO, tensors: dict[str, Any], content: str) -> None:
    import torch

    from webui.engine.number_types import DTYPES

    types = {dtype: name for name, dtype in DTYPES.items()}
    header: dict[str, Any] = {"__metadata__": {CONTENT: content}}
    position = 0
    for key, tensor in tensors.items():
        if tensor.dtype not in types:
            raise BadModelFile(f"it holds numbers of the type {tensor.dtype}, which Easel cannot use; convert it to safetensors")
        end = position + tensor.numel() * tensor.itemsize
        header[key] = {"dtype": types[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [position, end]}
        position = end
    text = json.dumps(header).encode()
    _write_all(target, memoryview(len(text).to_bytes(8, "little") + text))
    for tensor in tensors.values():
        _write_all(target, memoryview(tensor.contiguous().reshape(-1).view(torch.uint8).numpy()))


def _write_all(target: BinaryIO, data: memoryview) -> None:
    while data:
        data = data[target.write(data) :]


if __name__ == "__main__":
    sys.exit(main())
