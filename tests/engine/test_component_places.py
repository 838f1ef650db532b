"""Text encoders that a checkpoint lacks come from files of their own, in whatever layout, and are those that it had inside, bit for bit."""

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from tests.tiny import CPU, tiny_parts
from webui.core.errors import BadModelFile
from webui.engine.checkpoint import load_checkpoint, save_single_file
from webui.engine.component_places import single_file_parts, stand_ins
from webui.engine.family import TextEncoderLayout, load_family
from webui.engine.model import DiffusionModel
from webui.engine.model_cache import ModelCache
from webui.engine.model_file import open_tensors
from webui.engine.module_loading import Reading, load_text_encoder

WORDS = 300  # of the vocabulary
IDS = torch.randint(0, WORDS - 2, (2, 77), generator=torch.Generator().manual_seed(0))


def load(path: Path, *text_paths: Path) -> DiffusionModel:
    return load_checkpoint(path, torch.float32, CPU, text_paths=text_paths)


def written(folder: Path, family: str, seed: int = 0) -> tuple[Path, Path, dict[str, Tensor]]:
    """A whole checkpoint, the same without any text encoder, and the tensors of the whole."""
    whole, bare = folder / f"{family}{seed}.safetensors", folder / f"{family}{seed}-bare.safetensors"
    save_single_file(whole, **tiny_parts(family, seed, vocabulary=WORDS))
    tensors = load_file(whole)
    save_file({key: tensor for key, tensor in tensors.items() if not key.startswith(("cond_stage_model.", "conditioner."))}, bare)
    return whole, bare, tensors


def layouts(model: DiffusionModel, tensors: dict[str, Tensor], layout: TextEncoderLayout) -> dict[str, dict[str, Tensor]]:
    """One text encoder of the model as different programs store it."""
    module: Any = getattr(model.pipeline, layout.component)
    held = {key: tensor.half() for key, tensor in module.state_dict().items()}
    above = {key if key.startswith("text_") else f"text_model.{key}": tensor for key, tensor in held.items()}
    inside = {key: tensor for key, tensor in tensors.items() if key.startswith(layout.prefix)}
    found = {
        "of transformers": held,
        "with its level": above,
        "with a prefix": {f"transformer.{key}": tensor for key, tensor in above.items()},
        "as in a checkpoint": inside,
        "as in a checkpoint, bare": {key.removeprefix(layout.prefix): tensor for key, tensor in inside.items()},
        "whole checkpoint": tensors,
    }
    return {name: {key: tensor.clone() for key, tensor in kept.items()} for name, kept in found.items()}


def texts_of(bare: Path, *text_paths: Path) -> list[nn.Module]:
    """The text encoders that stand in for those of a checkpoint without any."""
    with ExitStack() as files:
        family, parts = single_file_parts(files.enter_context(open_tensors(bare)))
        found = stand_ins(family, parts, [files.enter_context(open_tensors(path)) for path in text_paths], bare.name)
        with Reading(torch.float32, CPU) as reading:
            return [load_text_encoder(found[each.component], family.read_config(each.component), reading) for each in family.text_encoders]


def assert_same_texts(ours: Sequence[nn.Module], theirs: Sequence[nn.Module]) -> None:
    for one, other in zip(ours, theirs, strict=True):
        a, b = (encoder(IDS, output_hidden_states=True) for encoder in (one, other))
        assert all(torch.equal(x, y) for x, y in zip(a.hidden_states, b.hidden_states, strict=True))
        assert torch.equal(a[0], b[0])  # SDXL's second: the pooled and projected state


@pytest.mark.parametrize("family", ["sd1", "sd2", "sdxl", "sdxl_refiner"])
def test_text_encoders_from_files_of_their_own_are_those_that_the_checkpoint_had_inside(tmp_path: Path, family: str) -> None:
    whole, bare, tensors = written(tmp_path, family)
    model = load(whole)
    encoders = load_family(family).text_encoders
    kept = [layouts(model, tensors, layout) for layout in encoders]
    for name in kept[0]:
        paths = []
        for number, stored in enumerate(kept):
            save_file(stored[name], path := tmp_path / f"text{number}.safetensors")
            paths.append(path)
        assert_same_texts(texts_of(bare, *reversed(paths)), model.text_encoders)  # each finds its place by its width


def test_a_torch_file_with_a_text_encoder_stands_in_too(tmp_path: Path) -> None:
    whole, bare, _ = written(tmp_path, "sd1")
    model = load(whole)
    torch.save(model.text_encoder.state_dict(), tmp_path / "clip.bin")
    assert_same_texts(load(bare, tmp_path / "clip.bin").text_encoders, model.text_encoders)


def test_a_diffusers_folder_without_its_text_encoder_takes_one_from_a_file(tmp_path: Path) -> None:
    whole, _, _ = written(tmp_path, "sd1")
    model = load(whole)
    model.pipeline.save_pretrained(tmp_path / "folder")
    (tmp_path / "folder" / "text_encoder").rename(tmp_path / "clip")
    assert_same_texts(load(tmp_path / "folder", tmp_path / "clip" / "model.safetensors").text_encoders, model.text_encoders)


def test_a_file_stands_in_only_for_what_is_missing(tmp_path: Path) -> None:
    whole, other = (written(tmp_path, "sd1", seed)[0] for seed in (0, 1))
    assert_same_texts(load(whole, other).text_encoders, load(whole).text_encoders)


def test_a_text_encoder_of_another_width_is_refused_by_name(tmp_path: Path) -> None:
    _, bare, _ = written(tmp_path, "sd1")
    wide, _, _ = written(tmp_path, "sd2")
    with pytest.raises(
        BadModelFile, match=r"sd20.safetensors holds a text encoder of width 1024 \(OpenCLIP-H\).* needs CLIP-L, of width 768"
    ):
        load(bare, wide)


def test_what_still_lacks_after_one_file_is_named(tmp_path: Path) -> None:
    _, bare, tensors = written(tmp_path, "sdxl")
    with pytest.raises(BadModelFile, match=r"sdxl0-bare.safetensors has no text encoder CLIP-L and OpenCLIP-G; get the complete"):
        load(bare)
    save_file({key: tensor for key, tensor in tensors.items() if key.startswith("conditioner.embedders.0.")}, tmp_path / "l.safetensors")
    with pytest.raises(BadModelFile, match=r"sdxl0-bare.safetensors has no text encoder OpenCLIP-G; get"):
        load(bare, tmp_path / "l.safetensors")


def test_the_cache_tells_a_checkpoint_with_one_text_encoder_from_the_same_with_another(tmp_path: Path) -> None:
    whole, bare, _ = written(tmp_path, "sd1")
    other = written(tmp_path, "sd1", 1)[0]
    cache = ModelCache(10**10)
    models = [cache.load(bare, None, torch.float32, CPU, text_paths=(path,)) for path in (whole, other, whole)]
    assert_same_texts(models[0].text_encoders, load(whole).text_encoders)
    assert_same_texts(models[1].text_encoders, load(other).text_encoders)
    assert_same_texts(models[2].text_encoders, models[0].text_encoders)
    assert cache.load(bare, None, torch.float32, CPU, text_paths=(whole,)) is models[2]
