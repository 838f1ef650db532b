"""The door for model files: what is sound comes in unchanged, everything else is refused with a sentence, nothing runs."""

import io
import json
import os
import pickle
import random
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from webui.core.errors import BadModelFile, MissingModel
from webui.engine import model_file
from webui.engine.model_file import ReadAs, open_tensors, read_plain

TENSORS = {
    "a.weight": torch.arange(24, dtype=torch.float32).reshape(2, 3, 4),
    "b": torch.arange(6, dtype=torch.float16),
    "c": torch.tensor(3.5, dtype=torch.bfloat16),
    "ids": torch.arange(5)[None],
    "nothing": torch.zeros(0, 4),
}


class Touch:
    """A pickle that leaves a mark when it is opened as pickles are."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return os.mkdir, (str(self.mark),)


def opened(path: Path) -> dict[str, torch.Tensor]:
    with open_tensors(path) as file:
        return {key: file.read(key) for key in file.shapes}


def read_plain_file(path: Path) -> Any:
    return read_plain(path, 10_000_000)


def header_file(path: Path, header: Any, data: bytes = b"") -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


def entry(shape: list[Any], start: Any, end: Any, dtype: str = "U8") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


def test_safetensors_come_in_bit_for_bit(tmp_path: Path) -> None:
    save_file(TENSORS, tmp_path / "x.safetensors", metadata={"title": "x"})
    with open_tensors(tmp_path / "x.safetensors") as file:
        assert file.metadata == {"title": "x"}
        assert file.shapes == {key: tuple(tensor.shape) for key, tensor in TENSORS.items()}
    for key, tensor in opened(tmp_path / "x.safetensors").items():
        assert tensor.dtype == TENSORS[key].dtype
        assert torch.equal(tensor, TENSORS[key])


@pytest.mark.parametrize("wrapped", [True, False])
def test_ckpt_come_in_bit_for_bit(tmp_path: Path, wrapped: bool) -> None:
    torch.save({"state_dict": TENSORS, "epoch": 3} if wrapped else TENSORS, tmp_path / "x.ckpt")
    found = opened(tmp_path / "x.ckpt")
    assert found.keys() == TENSORS.keys()
    assert all(torch.equal(found[key], TENSORS[key]) for key in TENSORS)


@pytest.mark.parametrize("as_parameters", [False, True])
def test_tensors_of_a_dict_within_the_dict_come_in_with_both_names_and_facts_as_texts(tmp_path: Path, as_parameters: bool) -> None:
    inner = {"*": torch.nn.Parameter(torch.randn(2, 3))}
    content = {"string_to_param": torch.nn.ParameterDict(inner) if as_parameters else inner, "name": "x", "step": 3, "huge": 10**30}
    torch.save(content, tmp_path / "x.pt")
    with open_tensors(tmp_path / "x.pt") as file:
        assert file.shapes == {"string_to_param.*": (2, 3)}
        assert file.metadata == {"name": "x", "step": "3"}
        assert torch.equal(file.read("string_to_param.*"), inner["*"])


@pytest.mark.parametrize("ending", ["safetensors", "ckpt"])
def test_reading_casts_fractions_but_no_whole_numbers_and_takes_thirds_of_rows(tmp_path: Path, ending: str) -> None:
    tensors = {"joined": torch.randn(6, 2), "ids": torch.arange(3)}
    path = tmp_path / f"x.{ending}"
    save_file(tensors, path) if ending == "safetensors" else torch.save(tensors, path)
    with open_tensors(path) as file:
        assert file.read("ids", ReadAs(torch.float16)).dtype == torch.int64
        assert torch.equal(file.read("joined", ReadAs(torch.float16)), tensors["joined"].half())
        assert torch.equal(file.read("joined", ReadAs(third=1)), tensors["joined"][2:4])


def test_a_file_may_be_deleted_or_cut_after_reading(tmp_path: Path) -> None:
    save_file(TENSORS, tmp_path / "x.safetensors")
    with open_tensors(tmp_path / "x.safetensors") as file:
        read = file.read("a.weight")
        os.truncate(tmp_path / "x.safetensors", 10)
        assert torch.equal(read, TENSORS["a.weight"])
        with pytest.raises(BadModelFile, match="ends too early"):
            file.read("b")


MALFORMED = {
    "empty": b"",
    "three bytes": b"abc",
    "length beyond the file": struct.pack("<Q", 10**12) + b"{}",
    "length of all ones": b"\xff" * 16,
    "no JSON": struct.pack("<Q", 6) + b"{nope}",
    "JSON list": struct.pack("<Q", 2) + b"[]",
    "deep JSON": struct.pack("<Q", 100_000) + b"[" * 100_000,
    "not UTF-8": struct.pack("<Q", 4) + b"{\xff\xfe}",
    "HTML": b"<!DOCTYPE html><html><body>404</body></html>",
    "LFS pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
    "gzip": b"\x1f\x8b\x08" + bytes(600),
    "7z": b"7z\xbc\xaf\x27\x1c" + bytes(600),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_damaged_files_are_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(MALFORMED[name])
    with pytest.raises(BadModelFile, match=r"x\.safetensors"):
        opened(path)


BAD_HEADERS: dict[str, tuple[Any, bytes]] = {
    "overlap": ({"a": entry([4], 0, 4), "b": entry([4], 2, 6)}, bytes(6)),
    "same bytes twice": ({"a": entry([4], 0, 4), "b": entry([4], 0, 4)}, bytes(4)),
    "gap": ({"a": entry([4], 0, 4), "b": entry([4], 6, 10)}, bytes(10)),
    "first byte unused": ({"a": entry([4], 1, 5)}, bytes(5)),
    "beyond the file": ({"a": entry([9], 0, 9)}, bytes(4)),
    "bytes left over": ({"a": entry([4], 0, 4)}, bytes(9)),
    "shape larger than data": ({"a": entry([1000, 1000], 0, 4)}, bytes(4)),
    "negative shape": ({"a": entry([-2, -2], 0, 4)}, bytes(4)),
    "negative offset": ({"a": entry([4], -4, 0)}, bytes(4)),
    "offsets swapped": ({"a": entry([4], 4, 0)}, bytes(4)),
    "fractions": ({"a": entry([4.0], 0, 4)}, bytes(4)),
    "truth values": ({"a": entry([True], 0, 1)}, bytes(1)),
    "texts": ({"a": entry(["4"], "0", "4")}, bytes(4)),
    "overflowing shape": ({"a": entry([2**63, 2**63], 0, 0)}, b""),
    "too many dimensions": ({"a": entry([1] * 1000, 0, 1)}, bytes(1)),
    "unknown type": ({"a": entry([4], 0, 4, "X9")}, bytes(4)),
    "no shape": ({"a": {"dtype": "U8", "data_offsets": [0, 4]}}, bytes(4)),
    "tensor is a number": ({"a": 3}, b""),
    "metadata is a number": ({"__metadata__": 3}, b""),
    "metadata holds a list": ({"__metadata__": {"a": []}}, b""),
    "name twice": (b'{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}', b"1"),
    "huge number": (b'{"a":{"dtype":"U8","shape":[' + b"9" * 5000 + b'],"data_offsets":[0,1]}}', b"1"),
    "60000 tensors": ({f"t{i}": entry([0], 0, 0) for i in range(60_000)}, b""),
}


@pytest.mark.parametrize("name", BAD_HEADERS)
def test_headers_that_lie_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(BadModelFile, match=r"x\.safetensors"):
        opened(header_file(tmp_path / "x.safetensors", *BAD_HEADERS[name]))


def test_a_giant_header_is_not_even_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.safetensors"
    with path.open("wb") as file:
        file.write(struct.pack("<Q", 30_000_000) + b"{")
        file.truncate(40_000_000)
    with pytest.raises(BadModelFile, match="header of 30000000 bytes"):
        opened(path)


def test_pipes_devices_and_folders_are_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.safetensors")
    (tmp_path / "folder.safetensors").mkdir()
    (tmp_path / "zero.safetensors").symlink_to("/dev/zero")
    for name in ("pipe", "folder", "zero"):
        with pytest.raises(BadModelFile, match="not a file"):
            opened(tmp_path / f"{name}.safetensors")


def test_absent_files_and_broken_links_are_missing_models(tmp_path: Path) -> None:
    (tmp_path / "dangling.safetensors").symlink_to(tmp_path / "gone")
    (tmp_path / "loop.safetensors").symlink_to(tmp_path / "loop.safetensors")
    for name in ("gone", "dangling"):
        with pytest.raises(MissingModel, match="not there"):
            opened(tmp_path / f"{name}.safetensors")
    with pytest.raises(BadModelFile, match="cannot be opened"):
        opened(tmp_path / "loop.safetensors")
    with pytest.raises(BadModelFile, match="cannot be opened"):
        opened(tmp_path / ("x" * 300))


def torch_zip(content: Any) -> bytes:
    stream = io.BytesIO()
    torch.save(content, stream)
    return stream.getvalue()


def rewritten(raw: bytes, change: Callable[[str, bytes], bytes], **how: Any) -> bytes:
    """The zip file again, its members changed."""
    stream = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(raw)) as old, zipfile.ZipFile(stream, "w", **how) as new:
        for name in old.namelist():
            new.writestr(name, change(name, old.read(name)))
    return stream.getvalue()


def with_member(raw: bytes, name: str, content: bytes) -> bytes:
    stream = io.BytesIO(raw)
    with zipfile.ZipFile(stream, "a") as archive:
        archive.writestr(name, content)
    return stream.getvalue()


def hostile_files(mark: Path) -> dict[str, bytes]:
    """Containers around a pickle that makes the folder `mark` where it is executed."""
    bomb, good = Touch(mark), torch_zip({"a": torch.ones(2)})
    raw = pickle.dumps(bomb, protocol=2)
    legacy = io.BytesIO()
    torch.save({"a": bomb}, legacy, _use_new_zipfile_serialization=False)
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        info = tarfile.TarInfo("pickle")
        info.size = len(raw)
        tar.addfile(info, io.BytesIO(raw))
    numpy_file = io.BytesIO()
    np.save(numpy_file, np.array([bomb], dtype=object), allow_pickle=True)
    return {
        "torch zip": torch_zip({"a": bomb}),
        "torch zip, bomb beside tensors": torch_zip({"state_dict": {"a": torch.ones(2)}, "callbacks": [bomb]}),
        "old torch format": legacy.getvalue(),
        "raw pickle": raw,
        "raw pickle of protocol 0": pickle.dumps(bomb, protocol=0),
        "raw pickle of protocol 4": pickle.dumps(bomb, protocol=4),
        "raw pickle, clean zip after it": raw + good,
        "clean zip, raw pickle after it": good + raw,
        "tar": archive.getvalue(),
        "numpy": numpy_file.getvalue(),
        "member twice": with_member_twice(good, raw),
        "second pickle": with_member(good, "archive/other.pkl", raw),
        "second folder": with_member(good, "other/data.pkl", raw),
        "deflated": rewritten(torch_zip({"a": bomb}), lambda name, content: content, compression=zipfile.ZIP_DEFLATED),
    }


def with_member_twice(raw: bytes, content: bytes) -> bytes:
    name = next(name for name in zipfile.ZipFile(io.BytesIO(raw)).namelist() if name.endswith("data.pkl"))
    with pytest.warns(UserWarning, match="Duplicate name"):
        return with_member(raw, name, content)


@pytest.mark.parametrize("ending", ["ckpt", "safetensors"])
def test_no_pickle_is_ever_executed_whatever_its_container_and_name(tmp_path: Path, ending: str) -> None:
    mark = tmp_path / "executed"
    for name, content in hostile_files(mark).items():
        path = tmp_path / f"{name}.{ending}"
        path.write_bytes(content)
        for read in (opened, read_plain_file):
            with pytest.raises(BadModelFile) as caught:
                read(path)
            assert path.name in str(caught.value)
            assert not mark.exists(), name


def test_the_bombs_are_live(tmp_path: Path) -> None:
    """Otherwise the test above would prove nothing."""
    files = hostile_files(tmp_path / "executed")
    torch.load(io.BytesIO(files["torch zip"]), weights_only=False)
    assert (tmp_path / "executed").is_dir()


def test_zips_that_unfold_are_refused_before_unfolding(tmp_path: Path) -> None:
    path = tmp_path / "bomb.ckpt"
    zeros = torch_zip({"a": torch.zeros(4_000_000)})
    path.write_bytes(rewritten(zeros, lambda name, content: content, compression=zipfile.ZIP_DEFLATED))
    assert path.stat().st_size < 100_000
    with pytest.raises(BadModelFile, match="convert it to safetensors"):
        opened(path)


def test_cut_and_padded_zips_are_refused(tmp_path: Path) -> None:
    raw = torch_zip({"a": torch.randn(1000)})
    for name, content in {"cut": raw[:-40], "half": raw[:2000], "longer": raw + b"x", "junk first": b"PK\x03\x04" + raw}.items():
        (tmp_path / f"{name}.ckpt").write_bytes(content)
        with pytest.raises(BadModelFile, match="convert it to safetensors"):
            opened(tmp_path / f"{name}.ckpt")


def test_tensors_larger_than_their_data_are_refused(tmp_path: Path) -> None:
    torch.save({"a": torch.ones(1).expand(1_000_000, 1_000_000)}, tmp_path / "strides.ckpt")
    with pytest.raises(BadModelFile, match="larger than its data"):
        opened(tmp_path / "strides.ckpt")


def test_storages_that_claim_more_than_their_record_are_refused(tmp_path: Path) -> None:
    raw = torch_zip({"a": torch.ones(200)})
    claimed = rewritten(raw, lambda name, content: content.replace(b"K\xc8", b"K\xff") if name.endswith(".pkl") else content)
    assert claimed != raw
    (tmp_path / "x.ckpt").write_bytes(claimed)
    with pytest.raises(BadModelFile):
        opened(tmp_path / "x.ckpt")


def test_plain_torch_files_of_many_members_pass_the_container_check(tmp_path: Path) -> None:
    torch.save({f"t{i}": torch.full((i + 1,), float(i)) for i in range(300)}, tmp_path / "x.pt")
    assert len(opened(tmp_path / "x.pt")) == 300


def test_the_pickle_limit_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.save({"a": torch.ones(2)}, tmp_path / "x.pt")
    monkeypatch.setattr(model_file, "MAX_PICKLE_BYTES", 10)
    with pytest.raises(BadModelFile):
        opened(tmp_path / "x.pt")


def test_plain_data_come_in_whole(tmp_path: Path) -> None:
    content = {768: ({"w": torch.ones(2, 3)}, {}), "structure": [1, 0.5, 1], "name": "x", "norm": True, "nothing": None}
    torch.save(content, tmp_path / "x.pt")
    read = read_plain_file(tmp_path / "x.pt")
    assert torch.equal(read[768][0].pop("w"), content[768][0].pop("w"))
    assert read == content
    torch.save(torch.ones(1, 768), tmp_path / "bare.pt")
    assert torch.equal(read_plain_file(tmp_path / "bare.pt"), torch.ones(1, 768))
    save_file(TENSORS, tmp_path / "x.safetensors")
    assert all(torch.equal(tensor, TENSORS[key]) for key, tensor in read_plain_file(tmp_path / "x.safetensors").items())


def nested(depth: int) -> Any:
    return [nested(depth - 1)] if depth else 1


def endless() -> Any:
    endless: list[Any] = []
    endless.append(endless)
    return endless


def wide(depth: int) -> Any:
    """10 ** depth values in little space."""
    values: Any = 1
    for _ in range(depth):
        values = [values] * 10
    return values


ODD_DATA: dict[str, tuple[Any, str]] = {
    "deep": (nested(9), "nested too deeply"),
    "a loop": (endless(), "nested too deeply"),
    "wide": (wide(7), "holds too much"),
    "one storage many times": (
        [torch.ones(100_000).view(100_000 // size, size) for size in (1, 2, 4, 5)] * 100,
        "smaller than its tensors",
    ),
    "a tensor without end": ({"a": torch.ones(1).expand(1_000_000, 1_000_000)}, "larger than its data"),
    "a sparse tensor": ({"a": torch.eye(3).to_sparse()}, "larger than its data"),
}


def test_what_is_no_plain_data_counts_as_nothing(tmp_path: Path) -> None:
    torch.save({"a": {1, 2}, "b": torch.float16, "c": 3}, tmp_path / "x.pt")
    assert read_plain_file(tmp_path / "x.pt") == {"a": None, "b": None, "c": 3}


@pytest.mark.parametrize("name", ODD_DATA)
def test_data_that_are_not_plain_are_refused(tmp_path: Path, name: str) -> None:
    content, reason = ODD_DATA[name]
    torch.save(content, tmp_path / "x.pt")
    with pytest.raises(BadModelFile, match=rf"x\.pt.*{reason}"):
        read_plain_file(tmp_path / "x.pt")


def test_plain_files_larger_than_their_kind_are_not_read(tmp_path: Path) -> None:
    with (tmp_path / "x.pt").open("wb") as file:
        file.truncate(10_000_001)
    with pytest.raises(BadModelFile, match="at most 10000000"):
        read_plain_file(tmp_path / "x.pt")


def test_there_is_no_other_door() -> None:
    """No other file of Easel names a way to open pickles, or to run code that lies beside a model."""
    forbidden = ("torch.load(", "import pickle", "allow_pickle", "yaml.load(", "trust_remote_code", "custom_pipeline", "from_pretrained(")
    root = Path(model_file.__file__).parents[1]
    allowed = {("unpickle.py", "torch.load("), ("__init__.py", "from_pretrained(")}  # the latter: our own tokenizer folder
    found = {(path.name, word) for path in root.rglob("*.py") for word in forbidden if word in path.read_text(encoding="utf-8")}
    assert found <= allowed


@pytest.mark.parametrize(("ending", "read"), [("safetensors", opened), ("ckpt", opened), ("pt", read_plain_file)])
def test_random_damage_is_refused_or_harmless(tmp_path: Path, ending: str, read: Callable[[Path], Any]) -> None:
    """600 files with a few bytes changed or the end cut off: read, or a sentence, never another error."""
    path, rng = tmp_path / f"x.{ending}", random.Random(1)
    tensors = {f"t{i}": torch.randn(5, 3) for i in range(20)}
    save_file(tensors, path) if ending == "safetensors" else torch.save({"state_dict": tensors}, path)
    sound, refused = path.read_bytes(), 0
    for _ in range(600):
        damaged = bytearray(sound)
        for _ in range(rng.choice([1, 1, 2, 5])):
            place = rng.choice([rng.randrange(len(damaged)), rng.randrange(300), -1 - rng.randrange(2500)])
            damaged[place % len(damaged)] = rng.choice([0, 255, rng.randrange(256)])
        path.write_bytes(damaged[: rng.randrange(len(damaged))] if rng.random() < 0.1 else damaged)
        try:
            read(path)
        except BadModelFile:
            refused += 1
    assert 300 < refused < 600
