"""The process that unpickles: what it gives back, what it refuses, what it is denied, and what is kept of its work."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.hostile import pickle_containers
from webui.core.errors import BadModelFile, StorageError
from webui.engine import converted
from webui.engine.model_file import open_tensors, read_plain

WEIGHTS = {"a": torch.randn(3, 2).t(), "b": torch.ones(2, dtype=torch.bfloat16), "ids": torch.arange(4)}


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of conversions."""
    monkeypatch.setenv(converted.FOLDER, str(tmp_path / "kept"))
    return tmp_path / "kept"


def here(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Convert in this process; the names of the files that were converted."""
    from webui.engine import unpickle

    names: list[str] = []

    def convert(file, name, target):
        names.append(name)
        unpickle.convert(file, name, target)

    monkeypatch.setattr(converted, "_convert", convert)
    return names


def test_weights_come_through_the_process_bit_for_bit_and_once(tmp_path: Path, kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.ckpt"
    torch.save({"state_dict": WEIGHTS, "epoch": 3, "optimizer": {"m": torch.ones(3)}}, path)
    with open_tensors(path) as file:
        assert file.shapes == {"a": (2, 3), "b": (2,), "ids": (4,)}
        assert all(torch.equal(file.read(key), WEIGHTS[key]) for key in WEIGHTS)
    monkeypatch.setattr(converted, "_convert", None)  # not called again
    with open_tensors(path) as file:
        assert torch.equal(file.read("a"), WEIGHTS["a"])
    assert [path.suffix for path in kept.iterdir()] == [".safetensors"]


def test_the_process_refuses_a_live_pickle_with_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "x.pt"
    path.write_bytes(pickle_containers(tmp_path / "canary")["zip mkdir, protocol 2"])
    with pytest.raises(BadModelFile, match=r"x\.pt holds more than plain tensors"):
        converted_in_process(path)
    assert not (tmp_path / "canary").exists()


def converted_in_process(path: Path) -> None:
    with path.open("rb", buffering=0) as file, converted.converted(file, path.name):
        pass


def test_the_process_has_no_more_memory_than_its_file_may_need() -> None:
    code = "from webui.engine.unpickle import limit; limit(1000); print(len(bytearray(2_000_000_000)))"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert "MemoryError" in answer.stderr


def test_a_process_that_dies_is_told_as_a_damaged_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.save(WEIGHTS, tmp_path / "x.pt")
    monkeypatch.setattr(converted.sys, "executable", "/bin/false")
    with pytest.raises(BadModelFile, match=r"x\.pt could not be read within the memory and time"):
        converted_in_process(tmp_path / "x.pt")


def test_nested_data_keep_their_form(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here(monkeypatch)
    layers = {768: ({"linear.0.weight": torch.ones(2, 3)}, {"linear.0.weight": torch.zeros(1)}), "name": "h", "step": 7, "use": None}
    torch.save({**layers, "structure": [1.0, 2, True]}, tmp_path / "h.pt")
    found = read_plain(tmp_path / "h.pt", 10**6)
    assert (found["name"], found["step"], found["use"], found["structure"]) == ("h", 7, None, [1.0, 2, True])
    assert isinstance(found[768], tuple)
    assert torch.equal(found[768][0]["linear.0.weight"], torch.ones(2, 3))
    with pytest.raises(BadModelFile, match="a file of its kind has at most 100"):
        read_plain(tmp_path / "h.pt", 100)


def test_classes_that_old_files_name_do_no_harm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first textual inversions keep their vectors in a ParameterDict."""
    here(monkeypatch)
    torch.save({"string_to_param": torch.nn.ParameterDict({"*": torch.ones(2, 768)})}, tmp_path / "e.pt")
    assert read_plain(tmp_path / "e.pt", 10**6)["string_to_param"]["*"].shape == (2, 768)


def test_a_changed_file_is_converted_anew(tmp_path: Path, kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = here(monkeypatch)
    for value in (1.0, 2.0, 2.0):
        torch.save({"a": torch.full((3,), value)}, tmp_path / "new.pt")
        os.replace(tmp_path / "new.pt", tmp_path / "x.pt")
        with open_tensors(tmp_path / "x.pt") as file:
            assert file.read("a")[0] == value
    assert len(names) == 3


@pytest.mark.parametrize("damage", [b"", bytes(1000), b"{", None])
def test_a_damaged_conversion_is_made_anew(tmp_path: Path, kept: Path, monkeypatch: pytest.MonkeyPatch, damage: bytes | None) -> None:
    """As a power cut leaves one; None: cut in half."""
    names = here(monkeypatch)
    torch.save({"a": torch.ones(3)}, tmp_path / "x.pt")
    converted_in_process(tmp_path / "x.pt")
    (conversion,) = kept.iterdir()
    conversion.write_bytes(conversion.read_bytes()[:-6] if damage is None else damage)
    with open_tensors(tmp_path / "x.pt") as file:
        assert torch.equal(file.read("a"), torch.ones(3))
    assert len(names) == 2


def test_what_was_used_least_lately_goes_when_there_is_no_room(tmp_path: Path, kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here(monkeypatch)
    monkeypatch.setattr(converted, "MOST_KEPT", 12_000)
    for number in range(4):
        torch.save({"a": torch.randn(500)}, tmp_path / f"{number}.pt")
        converted_in_process(tmp_path / f"{number}.pt")
    assert 1 <= len(list(kept.iterdir())) < 4


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv(converted.FOLDER, str(tmp_path / "file" / "kept"))
    torch.save(WEIGHTS, tmp_path / "x.pt")
    with pytest.raises(StorageError, match=r"x\.pt could not be converted"):
        converted_in_process(tmp_path / "x.pt")
    assert (tmp_path / "file").read_bytes() == b""
