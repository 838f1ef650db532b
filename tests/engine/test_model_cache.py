"""The cache of models: what is held, what goes first, and what an error leaves behind."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from tests.tiny import CPU, tiny_parts
from webui.core.errors import BadModelFile, BadRequest, MissingModel, OutOfMemory
from webui.core.event import Event, Finished, Notice
from webui.engine import model_cache
from webui.engine.checkpoint import load_checkpoint, save_model, save_single_file
from webui.engine.model import DiffusionModel
from webui.engine.model_cache import ModelCache, bytes_of
from webui.engine.placement import Placement

PLENTY = 10**12  # bytes: everything stays


def checkpoint(path: Path, seed: int, family: str, vocabulary: int) -> Path:
    """The vocabulary makes it small or large."""
    save_single_file(path, **tiny_parts(family, seed=seed, vocabulary=vocabulary))
    return path


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    found = {name: checkpoint(folder / f"{name}.safetensors", i, "miniature", 9) for i, name in enumerate("abc")}
    for seed, name in enumerate(("vae", "vae2", "vae3", "vae4")):
        found[name] = folder / f"{name}.safetensors"
        save_file(tiny_parts("miniature", seed=seed, vocabulary=9)["vae"].state_dict(), found[name])
    found["broken"] = folder / "broken.safetensors"
    found["broken"].write_bytes(found["a"].read_bytes()[:500_000])
    return found


def load(cache: ModelCache, checkpoint: Path, vae: Path | None = None, **how: Any) -> DiffusionModel:
    return cache.load(checkpoint, vae, torch.float32, CPU, **how)


@pytest.fixture(scope="module")
def size(files: dict[str, Path]) -> int:
    """Bytes of one model; all have the same shapes."""
    return bytes_of([load_checkpoint(files["a"], torch.float32, CPU)])


def test_the_same_checkpoint_is_the_same_object(files: dict[str, Path]) -> None:
    cache = ModelCache(PLENTY)
    assert load(cache, files["a"]) is load(cache, files["a"])
    assert len(cache) == 1


def test_bytes_are_those_of_all_weights(files: dict[str, Path], size: int) -> None:
    weights = [tensor for tensor in load_file(files["a"]).values() if tensor.is_floating_point()]
    assert size == sum(4 * tensor.numel() for tensor in weights) + 77 * 8  # and the text encoder's position ids


def test_the_least_recently_used_goes_first(files: dict[str, Path], size: int) -> None:
    cache = ModelCache(2 * size)
    a, b = load(cache, files["a"]), load(cache, files["b"])
    assert load(cache, files["a"]) is a
    load(cache, files["c"])  # b goes
    assert load(cache, files["a"]) is a
    assert load(cache, files["b"]) is not b
    assert len(cache) == 2


def test_as_many_are_kept_as_fit(files: dict[str, Path], size: int) -> None:
    for limit, kept in [(3 * size, 3), (1, 1)]:
        cache = ModelCache(limit)
        models = [load(cache, files[name]) for name in "abc"]
        assert len(cache) == kept
        assert cache.held_bytes == kept * size
        assert load(cache, files["c"]) is models[-1]  # the newest stays, whatever its size


def test_a_smaller_cache_lets_go_of_the_oldest_at_once_and_a_larger_one_keeps_more(files: dict[str, Path], size: int) -> None:
    cache = ModelCache(PLENTY)
    a, _, c = (load(cache, files[name]) for name in "abc")
    cache.resize(2 * size)
    assert len(cache) == 2
    cache.resize(1)
    assert (len(cache), cache.held_bytes) == (1, size)
    assert load(cache, files["c"]) is c
    cache.resize(PLENTY)
    assert load(cache, files["a"]) is not a
    assert load(cache, files["c"]) is c


def test_main_memory_beside_a_card_is_resized_too(files: dict[str, Path], size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    card, cache = torch.device("cpu", 0), ModelCache(size, max_aside=PLENTY)
    models = {name: cache.load(files[name], None, torch.float32, card) for name in "abc"}
    cache.resize(size, size)  # a goes, b stays
    monkeypatch.setattr(model_cache, "load_checkpoint", None)
    assert cache.load(files["b"], None, torch.float32, card) is models["b"]
    with pytest.raises(TypeError):
        cache.load(files["a"], None, torch.float32, card)


def test_room_is_made_before_loading(files: dict[str, Path], size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = ModelCache(2 * size - 1000)  # the header tells nearly all of it
    load(cache, files["a"])
    held = []
    real = model_cache.load_checkpoint

    def watched(*arguments: Any, **how: Any) -> DiffusionModel:
        held.append(cache.held_bytes)
        return real(*arguments, **how)

    monkeypatch.setattr(model_cache, "load_checkpoint", watched)
    load(cache, files["b"])
    assert held == [0]


def test_changing_the_vae_reads_no_unet_again_and_counts_it_once(
    files: dict[str, Path], size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = ModelCache(PLENTY)
    own = load(cache, files["a"])
    monkeypatch.setattr(model_cache, "load_checkpoint", None)
    other = load(cache, files["a"], files["vae2"])
    assert other.unet is own.unet
    assert other.vae is not own.vae
    assert other.vae_path == files["vae2"]
    assert load(cache, files["a"], files["vae2"]) is other
    assert load(cache, files["a"]) is own
    assert cache.held_bytes == size + sum(parameter.nbytes for parameter in own.vae.parameters())


def test_the_checkpoints_own_vae_is_found_again_after_another_came_first(files: dict[str, Path]) -> None:
    cache = ModelCache(PLENTY)
    other = load(cache, files["a"], files["vae2"])
    own = load(cache, files["a"])
    assert own.unet is other.unet
    assert own.vae_path is None
    expected = load(ModelCache(PLENTY), files["a"]).vae.state_dict()
    assert all(torch.equal(tensor, expected[key]) for key, tensor in own.vae.state_dict().items())


def test_vaes_are_kept_as_long_as_there_is_room(files: dict[str, Path], size: int) -> None:
    vae_bytes = sum(parameter.nbytes for parameter in load(ModelCache(PLENTY), files["a"]).vae.parameters())
    cache = ModelCache(size + 2 * vae_bytes)
    models = [load(cache, files["a"], files[name]) for name in ("vae", "vae2", "vae3", "vae4")]
    assert len(cache) == 3
    assert load(cache, files["a"], files["vae2"]) is models[1]
    again = load(cache, files["a"], files["vae"])
    assert again is not models[0]
    assert again.unet is models[0].unet


def test_a_file_that_changed_is_loaded_again(files: dict[str, Path], tmp_path: Path) -> None:
    cache, path = ModelCache(PLENTY), tmp_path / "x.safetensors"
    path.write_bytes(files["a"].read_bytes())
    before = load(cache, path)
    path.write_bytes(files["b"].read_bytes())
    os.utime(path, ns=(1, 1))
    after = load(cache, path)
    assert after is not before
    assert not torch.equal(after.unet.conv_in.weight, before.unet.conv_in.weight)


def test_the_model_of_a_file_that_changed_is_not_held_any_longer(files: dict[str, Path], size: int, tmp_path: Path) -> None:
    cache, path = ModelCache(PLENTY), tmp_path / "x.safetensors"
    other = load(cache, files["b"])
    for change in range(3):
        path.write_bytes(files["a"].read_bytes())
        os.utime(path, ns=(change, change))
        for vae in (None, files["vae2"]):
            load(cache, path, vae)
    assert len(cache) == 3
    assert cache.held_bytes < 3 * size
    assert load(cache, files["b"]) is other


def test_number_types_are_kept_apart(files: dict[str, Path]) -> None:
    cache = ModelCache(PLENTY)
    assert load(cache, files["a"]).vae.dtype == torch.float32
    assert load(cache, files["a"], vae_dtype=torch.bfloat16).vae.dtype == torch.bfloat16
    assert load(cache, files["a"]).vae.dtype == torch.float32


@pytest.mark.parametrize(("name", "error"), [("broken", BadModelFile), ("gone", MissingModel)])
def test_errors_leave_the_present_model_and_nothing_half_loaded(files: dict[str, Path], name: str, error: type[Exception]) -> None:
    cache = ModelCache(PLENTY)
    a = load(cache, files["a"])
    bad = files.get(name, Path("gone.safetensors"))
    with pytest.raises(error):
        load(cache, bad)
    with pytest.raises(error):
        load(cache, files["a"], bad)
    assert len(cache) == 1
    assert load(cache, files["a"]) is a


def test_forget_lets_go_of_everything(files: dict[str, Path]) -> None:
    cache = ModelCache(PLENTY)
    a = load(cache, files["a"])
    cache.forget()
    assert len(cache) == 0
    assert load(cache, files["a"]) is not a


def test_a_file_that_is_refused_drives_no_model_out(files: dict[str, Path], size: int) -> None:
    cache = ModelCache(size)
    a = load(cache, files["a"])
    with pytest.raises(BadModelFile):
        load(cache, files["broken"])
    assert load(cache, files["a"]) is a


def test_a_cache_of_nothing_is_refused() -> None:
    with pytest.raises(BadRequest, match="holds no model"):
        ModelCache(max_bytes=0)


def test_weights_that_an_error_leaves_changed_are_read_again(files: dict[str, Path], caplog: pytest.LogCaptureFixture) -> None:
    cache = ModelCache(PLENTY)
    a, b = load(cache, files["a"]), load(cache, files["b"])

    def job(model: DiffusionModel | None) -> Iterator[Event]:
        yield Notice("begun")
        if model:
            model.unet.mid_block.resnets[0].conv1.weight.mul_(1.01)
        raise ValueError("broken")

    for changed, left in ((None, (a, b)), (a, (b,))):
        with pytest.raises(ValueError, match="broken"):
            list(cache.checked(job(changed)))
        assert len(cache) == len(left)
        assert load(cache, files["b"]) is b
    assert [record.message for record in caplog.records] == ["an error has left a.safetensors changed in memory; it will be loaded again"]
    assert not torch.equal(load(cache, files["a"]).unet.mid_block.resnets[0].conv1.weight, a.unet.mid_block.resnets[0].conv1.weight)


def test_a_job_without_an_error_costs_no_check(files: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    cache = ModelCache(PLENTY)
    load(cache, files["a"])
    monkeypatch.setattr(model_cache, "fingerprint", None)
    assert list(cache.checked(iter([Finished()]))) == [Finished()]
    closed = cache.checked(Notice("on") for _ in range(9))
    next(closed)
    closed.close()  # type: ignore[attr-defined]


def test_the_newest_alone_is_kept_where_memory_is_wanted(files: dict[str, Path]) -> None:
    cache = ModelCache(PLENTY)
    models = [load(cache, files[name]) for name in "aba"]
    cache.keep_newest()
    assert len(cache) == 1
    assert load(cache, files["a"]) is models[0]


def test_a_load_that_finds_no_memory_is_tried_again_without_the_others(files: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    cache = ModelCache(PLENTY)
    load(cache, files["a"])
    held = []
    real = model_cache.load_checkpoint

    def poor(*arguments: Any, **how: Any) -> DiffusionModel:
        held.append(len(cache))
        if len(cache) >= limit:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(*arguments, **how)

    monkeypatch.setattr(model_cache, "load_checkpoint", poor)
    limit = 1
    assert load(cache, files["b"]).path == files["b"]
    limit = 0
    with pytest.raises(OutOfMemory, match=r"no memory for c.safetensors: .* GiB of main memory are free; close other programs"):
        load(cache, files["c"])
    assert held == [1, 0, 1, 0]


def test_a_model_and_its_other_vaes_wait_where_the_rule_says(files: dict[str, Path], size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes, pinned = [], []
    monkeypatch.setattr(model_cache, "pin", lambda part: pinned.append(type(part).__name__))
    monkeypatch.setattr(model_cache, "memory_sentence", lambda device: "")
    card = torch.device("cuda", 0)
    cache = ModelCache(PLENTY, place=lambda weights: sizes.append(weights) or Placement(card, CPU))
    model = cache.load(files["a"], None, torch.float32, card)
    other = cache.load(files["a"], files["vae"], torch.float32, card)
    assert abs(sizes[0] - size) < 1000
    assert len(sizes) == 1
    for waiting in (model, other):
        assert waiting.device == card
        assert waiting.placement == Placement(card, CPU)
        assert {tensor.device for tensor in (*waiting.unet.parameters(), *waiting.vae.parameters())} == {CPU}
    assert sorted(pinned) == ["AutoencoderKL", "AutoencoderKL", "CLIPTextModel", "UNet2DConditionModel"]


def aside_cache(size: int, room: int) -> ModelCache:
    return ModelCache(size, max_aside=room * size)


def test_models_that_left_the_card_come_back_from_main_memory(files: dict[str, Path], size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    moves: list[tuple[str, str]] = []
    to = nn.Module.to
    monkeypatch.setattr(nn.Module, "to", lambda part, place: moves.append((type(part).__name__, str(place))) or to(part, place))
    card = torch.device("cpu", 0)  # stands for a card: another device than "cpu", of the same memory
    cache = aside_cache(size, 1)

    def get(name: str, vae: str | None = None) -> DiffusionModel:
        return cache.load(files[name], files[vae] if vae else None, torch.float32, card)

    a = get("a")
    moves.clear()
    b = get("b")
    assert {name for name, _ in moves} == {"UNet2DConditionModel", "AutoencoderKL", "CLIPTextModel"}
    assert {place for _, place in moves} == {"cpu"}
    assert len(cache) == 1
    moves.clear()
    monkeypatch.setattr(model_cache, "load_checkpoint", None)  # no file is read from here on
    assert get("a") is a
    assert get("b") is b
    assert [place for _, place in moves] == (["cpu"] * 3 + ["cpu:0"] * 3) * 2
    other = get("a", "vae")  # the UNet comes back for another VAE
    assert other.unet is a.unet
    cache.forget()
    monkeypatch.undo()
    assert get("a") is not a


def test_main_memory_keeps_as_many_as_fit_and_no_part_that_still_works(files: dict[str, Path], size: int) -> None:
    card = torch.device("cpu", 0)
    cache = aside_cache(size, 1)
    first, *_ = (cache.load(files[name], None, torch.float32, card) for name in "abc")
    assert cache.load(files["a"], None, torch.float32, card) is not first
    cache = ModelCache(PLENTY, max_aside=PLENTY)
    cache.load(files["a"], files["vae"], torch.float32, card)
    newest = cache.load(files["a"], None, torch.float32, card)
    moved: list[object] = []
    for part in (newest.unet, newest.text_encoder):
        part.to = moved.append  # type: ignore[assignment, method-assign]
    cache.keep_newest()
    assert (len(cache), moved) == (1, [])


def test_a_model_for_which_the_card_has_no_memory_again_is_read_anew(
    files: dict[str, Path], size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    card, cache = torch.device("cpu", 0), aside_cache(size, 2)
    a = cache.load(files["a"], None, torch.float32, card)
    cache.load(files["b"], None, torch.float32, card)

    def full(place: torch.device) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(a.unet, "to", full)
    again = cache.load(files["a"], None, torch.float32, card)
    assert again is not a
    assert torch.equal(again.unet.conv_in.weight, a.unet.conv_in.weight)


def test_a_load_tells_how_far_it_is(files: dict[str, Path]) -> None:
    shares: list[float] = []
    load(ModelCache(PLENTY, tell=shares.append), files["a"])
    assert shares[-1] > 0.999


SWITCHING = """
import sys, psutil, torch
from pathlib import Path
from webui.engine.model_cache import ModelCache
torch.set_num_threads(1)
cache, sizes = ModelCache(max_bytes=70_000_000), []
for i in range(20):
    cache.load(Path(sys.argv[1 + i % 2]), None, torch.float32, torch.device("cpu"))
    assert len(cache) == 1
    sizes.append(psutil.Process().memory_info().rss)
print(*sizes)
"""


def test_memory_is_flat_while_two_checkpoints_take_turns(tmp_path: Path) -> None:
    """Ten times there and back, each time from the disk: 60 MB of weights, so that one leaked text encoder would show at once."""
    files = [str(checkpoint(tmp_path / f"{seed}.safetensors", seed, "sd1", 12_000)) for seed in range(2)]
    done = subprocess.run([sys.executable, "-c", SWITCHING, *files], capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
    sizes = [int(size) for size in done.stdout.split()]
    assert max(sizes[4:]) - sizes[3] < 30_000_000


@pytest.mark.parametrize("layout", ["file.safetensors", "file.ckpt", "folder", "folder of .bin"])
def test_room_is_counted_in_the_numbers_that_a_model_is_loaded_in_not_in_its_files(
    files: dict[str, Path], tmp_path: Path, layout: str
) -> None:
    path = tmp_path / layout
    half = {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in load_file(files["a"]).items()}
    if layout == "file.ckpt":
        torch.save({"state_dict": half, "global_step": 1}, path)
    elif layout == "file.safetensors":
        save_file(half, path)
    else:
        save_model(load_checkpoint(files["a"], torch.float32, CPU), path, torch.float16, "diffusers folder")
        (path / "more.bin").write_bytes(bytes(100_000_000))  # which is no part of the model
    for file in path.rglob("*.safetensors") if layout == "folder of .bin" else ():
        torch.save(load_file(file), file.with_suffix(".bin"))
        file.unlink()
    told: list[int] = []
    model = load(ModelCache(PLENTY, lambda weights: told.append(weights)), path)
    assert told == [pytest.approx(bytes_of([model]), rel=0.01)]
