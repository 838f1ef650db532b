"""Hashes of LoRA files, by the field's rule and past its trap."""

import hashlib
import json
import zipfile

import pytest

from webui.core.errors import MissingModel
from webui.core.lora_hash import OF_NOTHING, lora_hash, read_lora_hashes, write_lora_hashes

NOTED = "ab" * 32
DATA = bytes(range(16))


def safetensors(path, metadata, data=DATA):
    tensors = {"x": {"dtype": "F32", "shape": [len(data) // 4], "data_offsets": [0, len(data)]}} if data else {}
    header = json.dumps({"__metadata__": metadata, **tensors}).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + data)
    return path


def test_the_trace_of_the_trap_is_the_hash_of_nothing():
    assert OF_NOTHING.startswith("e3b0c44298fc")


def test_the_header_does_not_count(tmp_path):
    expected = hashlib.sha256(DATA).hexdigest()[:12]
    assert lora_hash(safetensors(tmp_path / "a.safetensors", {})) == expected
    assert lora_hash(safetensors(tmp_path / "b.safetensors", {"ss_output_name": "renamed"})) == expected


def test_what_the_trainer_noted_counts(tmp_path):
    assert lora_hash(safetensors(tmp_path / "a.safetensors", {"sshs_model_hash": NOTED})) == NOTED[:12]
    assert lora_hash(safetensors(tmp_path / "a.safetensors", {"sshs_model_hash": NOTED.upper()})) == NOTED[:12]


@pytest.mark.parametrize("noted", ["", "ab", "x, y: z" * 10, "zz" * 32, OF_NOTHING])
def test_what_is_no_hash_or_the_hash_of_nothing_does_not_count(noted, tmp_path):
    assert lora_hash(safetensors(tmp_path / "a.safetensors", {"sshs_model_hash": noted})) == hashlib.sha256(DATA).hexdigest()[:12]


def test_other_files_are_hashed_whole(tmp_path):
    path = tmp_path / "a.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", b"x")
    assert lora_hash(path) == hashlib.sha256(path.read_bytes()).hexdigest()[:12]


def test_a_file_without_tensors_has_no_hash(tmp_path):
    assert lora_hash(safetensors(tmp_path / "a.safetensors", {}, b"")) == ""
    (tmp_path / "b.pt").write_bytes(b"")
    assert lora_hash(tmp_path / "b.pt") == ""


def test_a_file_that_is_gone_is_said_to_be(tmp_path):
    with pytest.raises(MissingModel):
        lora_hash(tmp_path / "a.safetensors")


def test_names_are_written_without_colons_and_commas_and_once():
    hashes = [("a:b,c", "0123456789ab"), ("d", ""), ("e", "123456789abc"), ("e", "123456789abc")]
    assert write_lora_hashes(hashes) == "abc: 0123456789ab, e: 123456789abc"


@pytest.mark.parametrize(
    ("text", "hashes"),
    [
        ("", {}),
        ("a: 0123456789ab", {"a": "0123456789ab"}),
        ("a: 0123456789AB, b c: 123456789abc", {"a": "0123456789ab", "b c": "123456789abc"}),
        ("a: e3b0c44298fc, b: 123456789abc", {"b": "123456789abc"}),
        ("a, b:, : 0123456789ab, c: xyz", {}),
    ],
)
def test_hashes_are_read_back(text, hashes):
    assert read_lora_hashes(text) == hashes
