"""A corpus of hostile and damaged model files and sidecars, made anew for each test run: nothing of it lies in the repository.

Every file that would run code when it is unpickled makes `canary`; nothing may ever make it.
"""

import codecs
import functools
import gzip
import io
import json
import os
import pickle
import pkgutil
import stat
import struct
import subprocess
import tarfile
import timeit
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

U8 = {"dtype": "U8", "shape": [4], "data_offsets": [0, 4]}


class Call:
    """Pickles as a call of any function."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.parts = function, arguments

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self.parts


def safetensors(header: Any, data: bytes = b"") -> bytes:
    """A file with this header (JSON, or bytes as they are)."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def entry(shape: list[Any], start: Any, end: Any, dtype: Any = "U8") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


def torch_zip(pickled: bytes, members: dict[str, bytes] | None = None, compression: int = zipfile.ZIP_STORED) -> bytes:
    """A zip file as torch lays it out, around any pickle."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compression) as archive:
        for name, content in {"archive/data.pkl": pickled, "archive/version": b"3\n", **(members or {})}.items():
            archive.writestr(name, content)
    return stream.getvalue()


@functools.cache
def damaged_headers() -> dict[str, bytes]:
    """Safetensors files whose header lies."""
    deep = b'{"a":' * 50_000 + b"1" + b"}" * 50_000
    return {
        "empty": b"",
        "one byte": b"x",
        "100 GB header": struct.pack("<Q", 100 * 10**9) + b"{}",
        "header of all ones": b"\xff" * 64,
        "header length 0": struct.pack("<Q", 0) + b"{}",
        "cut header": safetensors({"a": U8}, bytes(4))[:20],
        "cut data": safetensors({"a": U8}, bytes(2)),
        "more data": safetensors({"a": U8}, bytes(9)),
        "overlap": safetensors({"a": entry([4], 0, 4), "b": entry([4], 2, 6)}, bytes(6)),
        "the same bytes": safetensors({"a": U8, "b": U8}, bytes(4)),
        "gap": safetensors({"a": entry([4], 0, 4), "b": entry([4], 6, 10)}, bytes(10)),
        "negative offset": safetensors({"a": entry([4], -4, 0)}, bytes(4)),
        "swapped offsets": safetensors({"a": entry([4], 4, 0)}, bytes(4)),
        "offsets beyond 64 bits": safetensors({"a": entry([2**70], 0, 2**70)}, bytes(4)),
        "overflowing shape": safetensors({"a": entry([2**32, 2**32], 0, 0)}),
        "negative shape": safetensors({"a": entry([-2, -2], 0, 4)}, bytes(4)),
        "fractions": safetensors({"a": entry([4.0], 0, 4)}, bytes(4)),
        "NaN shape": safetensors(b'{"a":{"dtype":"U8","shape":[NaN],"data_offsets":[0,Infinity]}}', bytes(4)),
        "texts as numbers": safetensors({"a": entry(["4"], "0", "4")}, bytes(4)),
        "1000 dimensions": safetensors({"a": entry([1] * 1000, 0, 1)}, bytes(1)),
        "unknown type": safetensors({"a": entry([4], 0, 4, "F4")}, bytes(4)),
        "type is a list": safetensors({"a": entry([4], 0, 4, ["U8"])}, bytes(4)),
        "doubled key": safetensors(b'{"a":' + json.dumps(U8).encode() + b',"a":' + json.dumps(U8).encode() + b"}", bytes(4)),
        "deep JSON": safetensors(deep),
        "deep lists": safetensors(b"[" * 200_000),
        "deep JSON in metadata": safetensors({"__metadata__": {"ss_tag_frequency": "[" * 100_000}, "a": U8}, bytes(4)),
        "metadata of numbers": safetensors({"__metadata__": {"a": 1}, "a": U8}, bytes(4)),
        "metadata of 4 MB": safetensors({"__metadata__": {"ss_training_comment": "x" * 4_000_000}, "a": U8}, bytes(4)),
        "number of 5000 digits": safetensors(b'{"a":{"dtype":"U8","shape":[' + b"9" * 5000 + b'],"data_offsets":[0,1]}}', b"1"),
        "50000 tensors": safetensors({f"t{i}": entry([0], 0, 0) for i in range(50_000)}),
        "not UTF-8": safetensors(b'{"\xff": 1}'),
        "surrogates": safetensors(b'{"lora_unet_\\ud800.lora_down.weight":' + json.dumps(U8).encode() + b"}", bytes(4)),
        "HTML in names": safetensors({"<script>alert(1)</script>.lora_down.weight": U8, "__metadata__": HTML_METADATA}, bytes(4)),
        "paths as names": safetensors({"../../../etc/passwd": U8}, bytes(4)),
        "a web page": b"<!DOCTYPE html><html>not found</html>",
        "an LFS pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
    }


HTML_METADATA = {
    "modelspec.title": "<img src=x onerror=alert(1)>",
    "modelspec.description": "<script>alert(1)</script>" * 100,
    "modelspec.thumbnail": "data:image/png;base64," + "A" * 1000,
    "ss_output_name": "../../\u202eevil\n",
    "ss_tag_frequency": '{"a": {"b": NaN, "c": 1e999, "d": "x", "e": -5, "f": true}, "g": []}',
    "sshs_model_hash": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
}


def pickles(canary: Path) -> dict[str, bytes]:
    """Pickles that run code, or take all memory, where they are opened as pickles are."""
    shell = f"mkdir {canary}"
    nested: Any = ()
    for _ in range(500):
        nested = (nested,)
    system = b"cposix\nsystem\n(V" + shell.encode() + b"\ntR."
    through_getattr = b"c__builtin__\ngetattr\n(c__builtin__\n__import__\n(Vos\ntRVmkdir\ntR(V" + str(canary).encode() + b"\ntR."
    laughs = b"]" + b"(" + b"".join(b"]q%c(" % i + b"h%c" % max(i - 1, 0) * 50 + b"e" for i in range(1, 20)) + b"e."
    return {
        "os.system": system,
        "mkdir, protocol 0": pickle.dumps(Call(os.mkdir, str(canary)), protocol=0),
        "mkdir, protocol 2": pickle.dumps(Call(os.mkdir, str(canary)), protocol=2),
        "mkdir, protocol 5": pickle.dumps(Call(os.mkdir, str(canary)), protocol=5),
        "eval": pickle.dumps(Call(eval, f"__import__('os').mkdir({str(canary)!r})"), protocol=2),
        "exec among tensors": pickle.dumps({"state_dict": {}, "x": Call(exec, f"import os; os.mkdir({str(canary)!r})")}, protocol=2),
        "getattr": through_getattr,
        "Path.mkdir": pickle.dumps(Call(Path.mkdir, canary), protocol=2),
        **overlooked_by_scanners(canary),
        "nested tuples": pickle.dumps(nested, protocol=2),
        "a billion laughs": laughs,
        "huge allocation": b"\x80\x04\x95" + struct.pack("<Q", 2**40) + b"\x8e" + struct.pack("<Q", 2**40) + b"x.",
        "memo far away": b"\x80\x02}r" + struct.pack("<I", 2**31 - 1) + b".",
        "no end": b"\x80\x02}",
        "empty stack": b"\x80\x02R.",
        "pop of nothing": b"0.",
        "number of a million digits": b"L" + b"9" * 1_000_000 + b"L\n.",
        "long of 2 GB": b"\x80\x02\x8b" + struct.pack("<i", 2**31 - 1) + b".",
        "list as key": b"\x80\x02}]K\x01s.",
        "persistent id": b"\x80\x02}Pname\n.",
        "extension": b"\x80\x02\x82\x01.",
        "giant bytearray": b"\x80\x05\x96" + struct.pack("<Q", 2**50) + b".",
        "text cut short": b"\x80\x02X" + struct.pack("<I", 10**9) + b"abc",
    }


def overlooked_by_scanners(canary: Path) -> dict[str, bytes]:
    """Calls that lists of forbidden names did not have, or do not see; see reliability.md, what was measured."""
    calls = {
        "Path.touch": Call(Path.touch, canary),
        "codecs.open": Call(codecs.open, str(canary), "w"),
        "gzip.open": Call(gzip.open, str(canary), "w"),
        "io.open": Call(io.open, str(canary), "w"),
        "pkgutil.resolve_name": Call(list, Call(map, Call(pkgutil.resolve_name, "os:mkdir"), [str(canary)])),
        "subprocess": Call(subprocess.check_call, ["mkdir", str(canary)]),
        "timeit.timeit": Call(timeit.timeit, f"__import__('os').mkdir({str(canary)!r})", "pass", timeit.default_timer, 1),
    }
    text = b"X" + struct.pack("<I", len(str(canary))) + str(canary).encode()
    saved = b"\x80\x02ctorch\nsave\n}" + text + b"\x86R."
    as_state = b"\x80\x02cbuiltins\nobject\n)\x81}X\x09\x00\x00\x00__class__cos\nmkdir\n" + text + b"\x85Rsb."
    return {name: pickle.dumps(call, protocol=2) for name, call in calls.items()} | {"torch.save": saved, "within BUILD": as_state}


def tensor_pickle(numbers: int, shape: list[int], strides: list[int], offset: int = 0, *, legacy: bool = False) -> bytes:
    """The pickle of {"a": a float32 tensor} as torch.save writes it, with any claims about a storage of `numbers`."""

    def number(value: int) -> bytes:
        return b"\x8a\x0a" + value.to_bytes(10, "little", signed=True)

    def several(values: list[int]) -> bytes:
        return b"(" + b"".join(map(number, values)) + b"t"

    def text(value: str) -> bytes:
        return b"X" + struct.pack("<I", len(value)) + value.encode()

    storage = b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text("0") + text("cpu") + number(numbers) + b"N" * legacy + b"tQ"
    rebuilt = b"(" + storage + number(offset) + several(shape) + several(strides) + b"\x89ccollections\nOrderedDict\n)Rt"
    return b"\x80\x02}" + text("a") + b"ctorch._utils\n_rebuild_tensor_v2\n" + rebuilt + b"Rs."


def tensor_bombs() -> dict[str, bytes]:
    """Torch files without code whose tensors claim more than the file has."""
    four = {"archive/data/0": struct.pack("<f", 1.0), "archive/byteorder": b"little"}
    claims = {
        "4 TB out of 4 bytes": tensor_pickle(1, [10**6, 10**6], [0, 0]),
        "more than its storage": tensor_pickle(1, [1000], [1]),
        "behind its storage": tensor_pickle(1, [1], [1], 10**9),
        "before its storage": tensor_pickle(1, [1], [1], -4),
        "negative size": tensor_pickle(1, [-1, -1], [1, 1]),
        "negative strides": tensor_pickle(1, [2], [-1]),
        "size beyond 64 bits": tensor_pickle(1, [2**70], [0]),
        "storage of 64 GB": tensor_pickle(2**34, [2**34], [1]),
        "storage of less than nothing": tensor_pickle(-1, [1], [1]),
        "a million dimensions": tensor_pickle(1, [1] * 100_000, [1] * 100_000),
    }
    facts = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}
    start = b"".join(pickle.dumps(part, protocol=2) for part in (0x1950A86A20F9469CFC6C, 1001, facts))
    legacy = start + tensor_pickle(2**34, [2**34], [1], legacy=True) + pickle.dumps(["0"], protocol=2) + struct.pack("<q", 2**34)
    return {name: torch_zip(content, four) for name, content in claims.items()} | {"old format of 64 GB": legacy}


@functools.cache
def pickle_containers(canary: Path) -> dict[str, bytes]:
    """Each pickle raw and in torch's zip, and some in containers that scanners or readers misjudge."""
    made: dict[str, bytes] = {}
    for name, content in pickles(canary).items():
        made[f"raw {name}"] = content
        made[f"zip {name}"] = torch_zip(content)
    bomb = pickle.dumps(Call(os.mkdir, str(canary)), protocol=2)
    good = torch_zip(pickle.dumps({}, protocol=2))
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w") as archive:
        info = tarfile.TarInfo("../../evil.pkl")
        info.size = len(bomb)
        archive.addfile(info, io.BytesIO(bomb))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # zipfile's, of a name that occurs twice
        stream = io.BytesIO(good)
        with zipfile.ZipFile(stream, "a") as archive_again:
            archive_again.writestr("archive/data.pkl", bomb)
    entries = torch_zip(bomb, {f"archive/data/{i}": b"" for i in range(3000)})
    return (
        made
        | tensor_bombs()
        | {
            "pickle before zip": bomb + good,
            "zip before pickle": good + bomb,
            "member twice": stream.getvalue(),
            "second pickle": torch_zip(pickle.dumps({}), {"archive/other.pkl": bomb}),
            "second root": torch_zip(pickle.dumps({}), {"other/data.pkl": bomb}),
            "deflated": torch_zip(bomb, compression=zipfile.ZIP_DEFLATED),
            "zip bomb": torch_zip(pickle.dumps({}), {"archive/data/0": bytes(20_000_000)}, zipfile.ZIP_DEFLATED),
            "bomb of a pickle": torch_zip(
                b"\x80\x02X" + struct.pack("<I", 20_000_000) + b"x" * 20_000_000 + b".", None, zipfile.ZIP_DEFLATED
            ),
            "path traversal": torch_zip(bomb, {"archive/../../../evil": b"x"}),
            "absolute path": torch_zip(bomb, {"/tmp/evil": b"x"}),
            "encrypted flag": good.replace(b"PK\x01\x02\x14\x03\x14\x00\x00", b"PK\x01\x02\x14\x03\x14\x00\x01"),
            "many members": entries,
            "directory of 4 GB": good[:-10] + b"\xff\xff\xff\xff" + good[-6:],
            "half a zip": good[: len(good) // 2],
            "zip header alone": b"PK\x03\x04",
            "tar": tar.getvalue(),
            "gzip": gzip.compress(bomb),
            "7z": b"7z\xbc\xaf\x27\x1c" + bytes(100),
        }
    )


NAMES = (
    "line\nbreak",
    "tab\tstop",
    "\u202eright to left",
    "zero\u200bwidth",
    "e\u0301 and \u00e9",
    "\U0001f5bc picture",
    "back\\slash",
    "CON",
    ".hidden",
    "x" * 240,
    "<img src=x onerror=alert(1)>",
    "quote'\"&;",
    "..",
    "-rf",
    "%2e%2e%2f",
    "a:b>c",
    " ",
)


def make_corpus(folder: Path, canary: Path, ending: str = ".safetensors") -> list[Path]:
    """Every damaged file, every pickle and every odd name, with one ending; and things that are no files. Returns the paths."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in {**damaged_headers(), **pickle_containers(canary)}.items():
        (folder / f"{name}{ending}").write_bytes(content)
    for name in NAMES:
        (folder / f"{name}{ending}").write_bytes(safetensors({"a": U8}, bytes(4)))
    with open(os.fsencode(folder) + b"/not utf-8 \xff" + ending.encode(), "wb") as file:
        file.write(b"x")
    os.mkfifo(folder / f"fifo{ending}")
    (folder / f"folder{ending}").mkdir()
    os.mknod(folder / f"socket{ending}", stat.S_IFSOCK | 0o600)
    links = {"dangling": "nowhere", "loop": f"loop{ending}", "zero": "/dev/zero", "outward": "/etc/passwd", "up": "..", "here": "."}
    for name, target in links.items():
        (folder / f"{name}{ending}").symlink_to(target)
    return sorted(folder.iterdir())


def make_code_beside(folder: Path, canary: Path) -> None:
    """What other programs run that lies beside weights: YAML that names callables, Python in and beside a diffusers folder."""
    folder.mkdir(parents=True, exist_ok=True)
    code = f"import os; os.mkdir({str(canary)!r})"
    tagged = f"!!python/object/apply:os.mkdir [{str(canary)!r}]"
    target = f"model:\n  target: os.mkdir\n  params:\n    path: {canary}\n"
    for name, content in {"x.yaml": target, "x.yml": tagged, "x.py": code, "config.yaml": tagged, "conftest.py": code}.items():
        (folder / name).write_text(content)


def put_code_into(diffusers_folder: Path, canary: Path) -> None:
    """Every place of a sound diffusers folder that can name code names some."""
    code = f"import os; os.mkdir({str(canary)!r})\nclass Evil: pass\n"
    for path in [diffusers_folder, *(path for path in diffusers_folder.iterdir() if path.is_dir())]:
        for name in ("pipeline", "evil", "modeling_evil", "__init__"):
            (path / f"{name}.py").write_text(code)
        for config in path.glob("*.json"):
            said = json.loads(config.read_text())
            said |= {"auto_map": {"AutoModel": "evil.Evil"}, "trust_remote_code": True, "custom_pipeline": "./pipeline.py"}
            said["_class_name"] = ["evil", "Evil"]
            if path == diffusers_folder:
                said |= {part: ["evil", "Evil"] for part in ("unet", "vae", "text_encoder", "tokenizer", "scheduler")}
            config.write_text(json.dumps(said))


def sidecars() -> dict[str, bytes]:
    """Damaged and hostile JSON."""
    return {
        "empty": b"",
        "no JSON": b"{nope",
        "a list": b"[]",
        "a number": b"1e999",
        "deep": b"[" * 200_000,
        "deep objects": b'{"a":' * 100_000,
        "not UTF-8": b'{"description": "\xff\xfe"}',
        "NaN": b'{"preferred weight": NaN, "description": Infinity}',
        "huge numbers": b'{"preferred weight": 1e308, "notes": ' + b"9" * 5000 + b"}",
        "wrong types": b'{"description": {"a": []}, "activation text": [1], "preferred weight": [], "negative text": true, "notes": null}',
        "long": json.dumps({"description": "x" * 1_500_000, "activation text": "y" * 300_000}).encode(),
        "too long": b'{"description": "' + b"x" * 3_000_000 + b'"}',
        "HTML": json.dumps({"description": "<script>alert(1)</script><b onclick=x>", "activation text": "<img src=x>"}).encode(),
        "HTML bomb": json.dumps({"description": "<" * 200_000, "model": {"description": "<script>" * 20_000, "name": "<" * 9}}).encode(),
        "surrogates": b'{"description": "\\ud800", "activation text": "\\udfff\\u0000\\u202e"}',
        "civitai": b'{"trainedWords": {"a": 1}, "model": [], "description": 5, "baseModel": {}}',
        "many words": json.dumps({"trainedWords": ["w" * 5000] * 5000, "model": {"name": "n" * 10**5}}).encode(),
        "YAML": b"!!python/object/apply:os.system ['true']",
    }


def make_sidecars(folder: Path, secret: Path) -> None:
    """A sound file for each sidecar of each kind, and links, pipes and folders as sidecars; `secret` is a text outside the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in sidecars().items():
        for ending in (".json", ".civitai.info", ".txt", ".preview.png"):
            (folder / f"{name}{ending}").write_bytes(content)
        (folder / f"{name}.safetensors").write_bytes(safetensors({"x.lora_down.weight": U8}, bytes(4)))
    for name in ("linked", "pipe", "in a folder"):
        (folder / f"{name}.safetensors").write_bytes(safetensors({"x.lora_down.weight": U8}, bytes(4)))
    for ending in (".json", ".civitai.info", ".txt", ".preview.png"):
        (folder / f"linked{ending}").symlink_to(secret)
        os.mkfifo(folder / f"pipe{ending}")
        (folder / f"in a folder{ending}").mkdir()
