"""Names and shapes are read off a torch file's instructions as torch itself would read them; nothing is built."""

import random
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch

from webui.core.errors import BadModelFile
from webui.core.safetensors_header import open_model_file
from webui.core.torch_outline import Outline, read_outline


def outline(path: Path, content: Any) -> Outline:
    torch.save(content, path)
    with open_model_file(path) as file:
        return read_outline(file, path.name)


def test_a_dictionary_of_tensors(tmp_path: Path) -> None:
    tensors = {"a.lora_down.weight": torch.zeros(4, 768), "b": torch.zeros(3).half(), "c": torch.zeros(2, 6).t(), "d": torch.tensor(1)}
    for content in (tensors, OrderedDict(tensors), {"state_dict": tensors}):
        found = outline(tmp_path / "x.pt", content)
        assert found.shapes == {key: tuple(tensor.shape) for key, tensor in tensors.items()}


def test_an_embedding(tmp_path: Path) -> None:
    vectors = torch.nn.Parameter(torch.zeros(3, 768))
    found = outline(tmp_path / "x.pt", {"string_to_param": {"*": vectors}, "step": 5, "name": "n", "sd_checkpoint": None})
    assert found == Outline({"string_to_param.*": (3, 768)}, {"step": 5, "name": "n"})
    found = outline(tmp_path / "x.pt", {"string_to_param": torch.nn.ParameterDict({"*": vectors})})
    assert found.shapes == {"string_to_param.*": (3, 768)}


def test_a_hypernetwork(tmp_path: Path) -> None:
    layers = (OrderedDict({"linear.0.weight": torch.zeros(2, 3)}), OrderedDict({"linear.0.weight": torch.zeros(1)}))
    found = outline(tmp_path / "x.pt", {768: layers, "layer_structure": [1, 2, 1]})
    assert found.shapes == {"768.0.linear.0.weight": (2, 3), "768.1.linear.0.weight": (1,)}


def test_a_lora_of_a_thousand_tensors_takes_no_time(tmp_path: Path) -> None:
    assert len(outline(tmp_path / "x.pt", {f"t{i}": torch.zeros(1, 2) for i in range(1000)}).shapes) == 1000


def test_old_formats_and_cut_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.pt"
    torch.save({"a": torch.zeros(2)}, path, _use_new_zipfile_serialization=False)
    with open_model_file(path) as file, pytest.raises(BadModelFile, match="old format"):
        read_outline(file, "x.pt")
    torch.save({"a": torch.zeros(2)}, path)
    path.write_bytes(path.read_bytes()[:-5])
    with open_model_file(path) as file, pytest.raises(BadModelFile, match=r"x\.pt is not a zip file as torch writes it"):
        read_outline(file, "x.pt")


def test_random_damage_is_refused_or_harmless(tmp_path: Path) -> None:
    """500 files with a few bytes changed: an outline, or a sentence, never another error."""
    path, rng, refused = tmp_path / "x.pt", random.Random(1), 0
    torch.save({"state_dict": {f"t{i}": torch.zeros(2, 3) for i in range(10)}, "name": "n", 768: [1, (2.5, None)]}, path)
    sound = path.read_bytes()
    start = sound.index(b"\x80\x02")  # of the pickle
    for _ in range(500):
        damaged = bytearray(sound)
        for _ in range(rng.choice([1, 2, 5])):
            damaged[rng.choice([rng.randrange(len(sound)), start + rng.randrange(400), -1 - rng.randrange(100)])] = rng.randrange(256)
        path.write_bytes(damaged)
        with open_model_file(path) as file:
            try:
                read_outline(file, path.name)
            except BadModelFile:
                refused += 1
    assert 100 < refused < 500
