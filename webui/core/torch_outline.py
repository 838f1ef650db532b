"""What a .pt, .bin or .ckpt file holds, without unpickling it: names and shapes, read off the pickle's instructions. Nothing is ever built.

A torch file is a zip archive whose `data.pkl` describes the tensors that lie in the other members. Its instructions are followed on
paper: functions and classes stay names, calls stay notes of what would be called with what, so nothing of the file is executed.
Only for listing and for cards; the engine reads tensors through its own door.
"""

import io
import math
import os
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from pickletools import genops  # takes pickles apart for people to read; executes nothing
from typing import Any

from webui.core.errors import BadModelFile
from webui.core.family import Shapes
from webui.core.safetensors_header import open_model_file, read_header, refuse_by_its_start

MAX_PICKLE_BYTES = 8_000_000
MAX_DIRECTORY_BYTES = 4_000_000  # of the zip archive
MAX_STEPS = 600_000  # instructions
MAX_NAMES = 20_000
MAX_DEPTH = 8
END = b"PK\x05\x06"  # of the last record of a zip archive without a comment: 22 bytes
KEYS = (str, int, float)
HIDDEN = ("state_dict", "_parameters")  # levels that add nothing to the names of tensors


@dataclass
class _Call:
    """A call that is not made, or an object that is not there."""

    function: Any
    arguments: Any
    state: Any = None


@dataclass(frozen=True)
class _Name:
    """A function or class that is never looked up."""

    name: str


MARK = object()


@dataclass
class Outline:
    """shapes: of tensors, under their keys joined by dots ("string_to_param.*"); values: texts and numbers likewise."""

    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    values: dict[str, str | int | float] = field(default_factory=dict)


def read_shapes(path: Path) -> Shapes:
    """Of the tensors in a safetensors or a torch file, by their names. Raises BadModelFile, MissingModel."""
    with open_model_file(path) as file:
        start = file.read(512)
        file.seek(0)
        if start[:4] == b"PK\x03\x04":
            return read_outline(file, path.name).shapes
        refuse_by_its_start(start, path.name)
        return {name: entry.shape for name, entry in read_header(file, path.name).tensors.items()}


def read_outline(file: io.FileIO, name: str) -> Outline:
    """The outline of an open torch file. Raises BadModelFile with what to do."""
    start = file.read(512)
    if start[:4] != b"PK\x03\x04":
        refuse_by_its_start(start, name)
        raise BadModelFile(f"{name} is not a zip file as torch writes it; convert it to safetensors")
    outline = Outline()
    try:
        _collect(_follow(_description(file, name)), "", outline, [MAX_NAMES], 0)
    except BadModelFile:
        raise
    except Exception:  # whatever damaged archives and pickles provoke in the readers of the standard library
        raise BadModelFile(f"{name} is damaged, or not a file as torch writes it; download it again or convert it to safetensors") from None
    if any(math.prod(shape) > os.fstat(file.fileno()).st_size for shape in outline.shapes.values()):  # a number has a byte at least
        raise BadModelFile(f"{name} is smaller than its tensors; the file is damaged or hostile")
    return outline


def _description(file: io.FileIO, name: str) -> bytes:
    """The bytes of data.pkl."""
    file.seek(max(os.fstat(file.fileno()).st_size - 22, 0))
    end = file.read(22)
    if end[:4] != END or int.from_bytes(end[12:16], "little") > MAX_DIRECTORY_BYTES:
        raise BadModelFile(f"{name} is not a zip file as torch writes it; convert it to safetensors")
    with zipfile.ZipFile(file) as archive:
        members = [member for member in archive.infolist() if member.filename.endswith("/data.pkl")]
        if len(members) != 1 or members[0].compress_type != zipfile.ZIP_STORED or members[0].flag_bits & 1:
            raise BadModelFile(f"{name} is not a zip file as torch writes it; convert it to safetensors")
        if members[0].file_size > MAX_PICKLE_BYTES:
            raise BadModelFile(f"{name} has a description of {members[0].file_size} bytes; more than {MAX_PICKLE_BYTES} are not looked at")
        return archive.read(members[0])


def _follow(pickle: bytes) -> Any:
    """The value that the instructions describe. Raises all kinds of errors for damaged ones."""
    stack: list[Any] = []
    memo: dict[int, Any] = {}
    for step, (instruction, argument, _) in enumerate(genops(pickle)):
        name = instruction.name
        if step > MAX_STEPS:
            raise ValueError("too many instructions")
        if name == "STOP":
            return stack.pop()
        if name in PLAIN:
            stack.append(argument)
        elif name in FRESH:
            stack.append(FRESH[name]())
        elif name in ACTIONS:
            ACTIONS[name](stack, argument)
        elif name in ("BINPUT", "LONG_BINPUT", "PUT", "MEMOIZE"):
            memo[len(memo) if name == "MEMOIZE" else int(argument or 0)] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET", "GET"):
            stack.append(memo[int(argument or 0)])
        elif name not in ("PROTO", "FRAME"):
            raise ValueError(name)
    raise ValueError("no end")


def _marked(stack: list[Any]) -> list[Any]:
    """Take what lies above the last mark, and the mark."""
    items: list[Any] = []
    while (item := stack.pop()) is not MARK:
        items.append(item)
    return items[::-1]


def _last(stack: list[Any], count: int) -> list[Any]:
    if len(stack) < count:
        raise ValueError("the stack is empty")
    return [stack.pop() for _ in range(count)][::-1]


def _set_items(stack: list[Any], pairs: list[Any]) -> None:
    if isinstance(stack[-1], dict):
        for key, value in zip(pairs[::2], pairs[1::2], strict=True):
            stack[-1][key if isinstance(key, KEYS) else type(key).__name__] = value


def _append(stack: list[Any], items: list[Any]) -> None:
    if isinstance(stack[-1], list):
        stack[-1].extend(items)


def _dict(stack: list[Any], _: Any) -> None:
    pairs = _marked(stack)
    stack.append({})
    _set_items(stack, pairs)


def _call(stack: list[Any], _: Any) -> None:
    function, arguments = _last(stack, 2)
    ordered = isinstance(function, _Name) and function.name == "collections OrderedDict"
    stack.append({} if ordered else _Call(function, arguments))


def _build(stack: list[Any], _: Any) -> None:
    state = stack.pop()
    if isinstance(stack[-1], _Call):
        stack[-1].state = state


NUMBERS = ("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT")
UNICODES = ("UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8")
BYTES = ("STRING", "BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES")
PLAIN = frozenset((*NUMBERS, *UNICODES, *BYTES))
FRESH: dict[str, Callable[[], Any]] = {
    "MARK": lambda: MARK,
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_DICT": dict,
    "EMPTY_LIST": list,
    "EMPTY_SET": list,
    "EMPTY_TUPLE": tuple,
}
ACTIONS: dict[str, Callable[[list[Any], Any], Any]] = {
    "GLOBAL": lambda stack, argument: stack.append(_Name(str(argument))),
    "STACK_GLOBAL": lambda stack, _: stack.append(_Name(" ".join(map(str, _last(stack, 2))))),
    "TUPLE": lambda stack, _: stack.append(tuple(_marked(stack))),
    "TUPLE1": lambda stack, _: stack.append(tuple(_last(stack, 1))),
    "TUPLE2": lambda stack, _: stack.append(tuple(_last(stack, 2))),
    "TUPLE3": lambda stack, _: stack.append(tuple(_last(stack, 3))),
    "LIST": lambda stack, _: stack.append(_marked(stack)),
    "DICT": _dict,
    "SETITEM": lambda stack, _: _set_items(stack, _last(stack, 2)),
    "SETITEMS": lambda stack, _: _set_items(stack, _marked(stack)),
    "APPEND": lambda stack, _: _append(stack, _last(stack, 1)),
    "APPENDS": lambda stack, _: _append(stack, _marked(stack)),
    "ADDITEMS": lambda stack, _: _append(stack, _marked(stack)),
    "REDUCE": _call,
    "NEWOBJ": _call,
    "BUILD": _build,
    "BINPERSID": lambda stack, _: stack.append(_Call("storage", stack.pop())),
    "POP": lambda stack, _: stack.pop(),
    "POP_MARK": lambda stack, _: _marked(stack),
    "DUP": lambda stack, _: stack.append(stack[-1]),
}


def _collect(value: Any, key: str, outline: Outline, left: list[int], depth: int) -> None:
    """Note the tensors and the plain values in `value`; `left` counts down over the whole file, so that loops and bombs end."""
    left[0] -= 1
    if left[0] < 0 or depth > MAX_DEPTH:
        return
    shape = _shape_of(value)
    if shape is not None:
        outline.shapes[key] = shape
    elif isinstance(value, _Call):
        arguments = value.arguments if isinstance(value.arguments, tuple) else ()
        for inner in (*arguments[:1], value.state):  # a parameter around its tensor; a module with its parameters as state
            _collect(inner, key, outline, left, depth + 1)
    elif isinstance(value, KEYS):
        if not isinstance(value, int) or abs(value) < 2**63:
            outline.values[key] = value
    else:
        for name, inner in _items(value):
            path = key if name in HIDDEN else f"{key}.{name}" if key else name
            _collect(inner, path, outline, left, depth + 1)


def _items(value: Any) -> Iterator[tuple[str, Any]]:
    pairs: Any = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, (list, tuple)) else ()
    return ((str(key)[:200], inner) for key, inner in pairs)


def _shape_of(value: Any) -> tuple[int, ...] | None:
    """The shape, if `value` is the note of a tensor that is put together: torch._utils._rebuild_tensor_v2(storage, offset, shape, ...)."""
    if not isinstance(value, _Call) or not isinstance(value.function, _Name) or not isinstance(value.arguments, tuple):
        return None
    if value.function.name != "torch._utils _rebuild_tensor_v2" or len(value.arguments) < 3:
        return None
    shape = value.arguments[2]
    fits = isinstance(shape, tuple) and len(shape) <= 8 and all(type(side) is int and 0 <= side < 2**40 for side in shape)
    return shape if fits else None
