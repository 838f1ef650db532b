"""What files say about themselves, with and without sidecars."""

import json
from pathlib import Path

import pytest
import torch

from tests.hostile import safetensors
from webui.core.model_details import metadata_picture, read_details, top_tags
from webui.core.model_listing import ENDINGS, list_models

LORA = {"lora_unet_x_attn2_to_k.lora_down.weight": {"dtype": "U8", "shape": [1, 768], "data_offsets": [0, 768]}}


def lora(path: Path, metadata: dict[str, str]) -> None:
    path.write_bytes(safetensors({"__metadata__": metadata, **LORA}, bytes(768)))


def details(folder: Path, kind: str = "lora"):
    (model,) = list_models([folder], ENDINGS[kind])
    return read_details(kind, model)


def test_metadata_are_told(tmp_path: Path) -> None:
    metadata = {
        "ss_output_name": "ink",
        "ss_network_dim": "8",
        "modelspec.title": "Ink",
        "modelspec.description": "<b>black</b>",
        "modelspec.trigger_phrase": "ink style",
        "modelspec.thumbnail": "data:image/png;base64,AAAA",
        "sshs_model_hash": "0123456789abcdef" * 4,
        "zzz": "x" * 1000,
    }
    lora(tmp_path / "a.safetensors", metadata)
    found = details(tmp_path)
    assert (found.alias, found.title, found.description, found.triggers) == ("ink", "Ink", "black", "ink style")
    assert (found.family.name, found.thumbnail) == ("sd1", "metadata")
    assert [name for name, _ in found.rows[:3]] == ["modelspec.title", "ss_output_name", "ss_network_dim"]
    assert max(len(value) for _, value in found.rows) == 500
    (model,) = list_models([tmp_path], ENDINGS["lora"])
    assert metadata_picture(model) == "data:image/png;base64,AAAA"


def test_sidecars_count_more_than_metadata(tmp_path: Path) -> None:
    lora(tmp_path / "a.safetensors", {"modelspec.trigger_phrase": "theirs"})
    (tmp_path / "a.json").write_text(json.dumps({"activation text": "mine", "preferred weight": "0.6"}))
    (tmp_path / "a.png").write_bytes(b"x")
    (tmp_path / "a.preview.jpg").write_bytes(b"x")
    found = details(tmp_path)
    assert (found.triggers, found.weight, found.thumbnail) == ("mine", 0.6, ".preview.jpg")


@pytest.mark.parametrize(
    ("content", "sentence"), [(b"", "x.ckpt is empty"), (b"<html>404", "web page"), (b"\x80\x02\x8a\nl\xfc\x9cF", "old format")]
)
def test_a_ckpt_that_can_never_be_read_says_so_in_the_list(tmp_path: Path, content: bytes, sentence: str) -> None:
    (tmp_path / "x.ckpt").write_bytes(content)
    assert sentence in details(tmp_path, "checkpoint").problem


def test_the_commonest_tags_stand_in_for_trigger_words() -> None:
    assert top_tags(json.dumps({"5_a": {"cat": 3, "dog ": 9}, "1_b": {"cat": 8, "bird": 1}})) == "cat, dog, bird"
    assert len(top_tags(json.dumps({"a": {f"t{i}": i for i in range(1, 500)}})).split(", ")) == 12


@pytest.mark.parametrize("text", ["", "[", "[]", '{"a": 1}', '{"a": {"b": "c"}}', "[" * 100_000, '{"a": {"b": 1e400}}'])
def test_odd_tag_tables_say_nothing(text: str) -> None:
    assert top_tags(text) == ""


def test_the_family_of_a_torch_checkpoint_is_told_without_unpickling_it(tmp_path: Path) -> None:
    unet = "model.diffusion_model."
    tensors = {
        f"{unet}input_blocks.0.0.weight": torch.zeros(2, 9, 3, 3),
        f"{unet}input_blocks.4.1.transformer_blocks.0.attn2.to_k.weight": torch.zeros(2, 2048),
    }
    torch.save({"state_dict": tensors, "global_step": 3}, tmp_path / "x.ckpt")
    found = details(tmp_path, "checkpoint")
    assert found.family is not None
    assert (found.family.name, found.family.native_size, found.problem) == ("sdxl_inpainting", 1024, "")


@pytest.mark.parametrize("content", [{"state_dict": {"other.names": torch.zeros(2)}}, [1, 2], b"PK\x03\x04 and nothing more"])
def test_a_torch_checkpoint_that_is_not_understood_is_left_to_the_door(tmp_path: Path, content: object) -> None:
    """It is the engine's door that refuses files, or converts them."""
    if isinstance(content, bytes):
        (tmp_path / "x.ckpt").write_bytes(content)
    else:
        torch.save(content, tmp_path / "x.ckpt")
    found = details(tmp_path, "checkpoint")
    assert (found.family, found.problem) == (None, "")
