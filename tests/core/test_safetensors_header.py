"""Headers are read without torch, and only what is consistent is believed (damaged ones: tests/engine/test_model_file.py)."""

import json
import struct
from pathlib import Path

import pytest

from webui.core.errors import BadModelFile, MissingModel
from webui.core.safetensors_header import Header, TensorEntry, open_model_file, read_header


def written(path: Path, header: object, data: bytes) -> Path:
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


def read(path: Path) -> Header:
    with open_model_file(path) as file:
        return read_header(file, path.name)


def test_a_header_says_where_each_tensor_lies(tmp_path: Path) -> None:
    described = {
        "b": {"dtype": "F16", "shape": [2, 3], "data_offsets": [4, 16]},
        "a": {"dtype": "U8", "shape": [4], "data_offsets": [0, 4]},
    }
    header = read(written(tmp_path / "x", {"__metadata__": {"title": "x"}, **described}, bytes(16)))
    start = (tmp_path / "x").stat().st_size - 16
    assert header.metadata == {"title": "x"}
    assert header.tensors == {"b": TensorEntry("F16", (2, 3), start + 4, start + 16), "a": TensorEntry("U8", (4,), start, start + 4)}


def test_no_tensors_and_single_numbers_are_fine(tmp_path: Path) -> None:
    assert read(written(tmp_path / "x", {}, b"")).tensors == {}
    assert read(written(tmp_path / "x", {"a": {"dtype": "F64", "shape": [], "data_offsets": [0, 8]}}, bytes(8))).tensors["a"].shape == ()


def test_a_shape_must_fill_its_bytes(tmp_path: Path) -> None:
    with pytest.raises(BadModelFile, match="tensor 'a' is described wrongly"):
        read(written(tmp_path / "x", {"a": {"dtype": "F32", "shape": [3], "data_offsets": [0, 8]}}, bytes(8)))


def test_absent_files_and_folders_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(MissingModel):
        open_model_file(tmp_path / "gone")
    with pytest.raises(BadModelFile, match="not a file"):
        open_model_file(tmp_path)


def test_links_to_files_are_followed(tmp_path: Path) -> None:
    written(tmp_path / "x", {}, b"")
    (tmp_path / "link").symlink_to("x")
    assert read(tmp_path / "link").tensors == {}
