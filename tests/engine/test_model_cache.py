"""The cache of models: what is held, what goes first, and what an error leaves behind."""

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from tests.tiny import CPU, tiny_checkpoint, tiny_parts
from webui.core.errors import BadModelFile, BadRequest, MissingModel
from webui.engine import model_cache
from webui.engine.model import DiffusionModel
from webui.engine.model_cache import ModelCache


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    found = {name: tiny_checkpoint(folder / f"{name}.safetensors", seed=i) for i, name in enumerate("abc")}
    for seed, name in enumerate(("vae", "vae2", "vae3", "vae4")):
        found[name] = folder / f"{name}.safetensors"
        save_file(tiny_parts("miniature", seed=seed, vocabulary=9)["vae"].state_dict(), found[name])
    found["broken"] = folder / "broken.safetensors"
    found["broken"].write_bytes(found["a"].read_bytes()[:5_000_000])
    return found


def load(cache: ModelCache, checkpoint: Path, vae: Path | None = None, **how: Any) -> DiffusionModel:
    return cache.load(checkpoint, vae, torch.float32, CPU, **how)


def test_the_same_checkpoint_is_the_same_object(files: dict[str, Path]) -> None:
    cache = ModelCache()
    assert load(cache, files["a"]) is load(cache, files["a"])
    assert len(cache) == 1


def test_the_least_recently_used_goes_first(files: dict[str, Path]) -> None:
    cache = ModelCache(max_models=2)
    a, b = load(cache, files["a"]), load(cache, files["b"])
    assert load(cache, files["a"]) is a
    load(cache, files["c"])  # b goes
    assert load(cache, files["a"]) is a
    assert load(cache, files["b"]) is not b
    assert len(cache) == 2


def test_room_is_made_before_loading(files: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    cache = ModelCache(max_models=1)
    load(cache, files["a"])
    held = []
    real = model_cache.load_checkpoint

    def watched(*arguments: Any, **how: Any) -> DiffusionModel:
        held.append(len(cache))
        return real(*arguments, **how)

    monkeypatch.setattr(model_cache, "load_checkpoint", watched)
    load(cache, files["b"])
    assert held == [0]


def test_changing_the_vae_reads_no_unet_again(files: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    cache = ModelCache()
    own = load(cache, files["a"])
    monkeypatch.setattr(model_cache, "load_checkpoint", None)
    other = load(cache, files["a"], files["vae2"])
    assert other.unet is own.unet
    assert other.vae is not own.vae
    assert other.vae_path == files["vae2"]
    assert load(cache, files["a"], files["vae2"]) is other
    assert load(cache, files["a"]) is own
    assert len(cache) == 1


def test_the_checkpoints_own_vae_is_found_again_after_another_came_first(files: dict[str, Path]) -> None:
    cache = ModelCache()
    other = load(cache, files["a"], files["vae2"])
    own = load(cache, files["a"])
    assert own.unet is other.unet
    assert own.vae_path is None
    expected = load(ModelCache(), files["a"]).vae.state_dict()
    assert all(torch.equal(tensor, expected[key]) for key, tensor in own.vae.state_dict().items())


def test_only_a_few_vaes_are_kept(files: dict[str, Path]) -> None:
    cache = ModelCache()
    first = load(cache, files["a"], files["vae"])
    for name in ("vae2", "vae3", "vae4"):
        load(cache, files["a"], files[name])
    assert load(cache, files["a"], files["vae"]) is not first


def test_a_file_that_changed_is_loaded_again(files: dict[str, Path], tmp_path: Path) -> None:
    cache, path = ModelCache(), tmp_path / "x.safetensors"
    path.write_bytes(files["a"].read_bytes())
    before = load(cache, path)
    path.write_bytes(files["b"].read_bytes())
    os.utime(path, ns=(1, 1))
    after = load(cache, path)
    assert after is not before
    assert not torch.equal(after.unet.conv_in.weight, before.unet.conv_in.weight)


def test_number_types_are_kept_apart(files: dict[str, Path]) -> None:
    cache = ModelCache()
    assert load(cache, files["a"]).vae.dtype == torch.float32
    assert load(cache, files["a"], vae_dtype=torch.bfloat16).vae.dtype == torch.bfloat16
    assert load(cache, files["a"]).vae.dtype == torch.float32


@pytest.mark.parametrize(("name", "error"), [("broken", BadModelFile), ("gone", MissingModel)])
def test_errors_leave_the_present_model_and_nothing_half_loaded(files: dict[str, Path], name: str, error: type[Exception]) -> None:
    cache = ModelCache()
    a = load(cache, files["a"])
    bad = files.get(name, Path("gone.safetensors"))
    with pytest.raises(error):
        load(cache, bad)
    with pytest.raises(error):
        load(cache, files["a"], bad)
    assert len(cache) == 1
    assert load(cache, files["a"]) is a


def test_forget_lets_go_of_everything(files: dict[str, Path]) -> None:
    cache = ModelCache()
    a = load(cache, files["a"])
    cache.forget()
    assert len(cache) == 0
    assert load(cache, files["a"]) is not a


def test_a_cache_of_nothing_is_refused() -> None:
    with pytest.raises(BadRequest, match="use 1 or more"):
        ModelCache(max_models=0)
