"""Memory that one model leaves to the next: the same bits as in fresh memory, and never that of a model which somebody still has."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.engine.test_generate import REQUEST, Script
from tests.lora_files import kohya_name, write_lora
from tests.tiny import CPU, tiny_checkpoint, tiny_parts
from webui.core.errors import BadModelFile
from webui.core.event import Finished, Progress
from webui.engine.checkpoint import load_checkpoint, save_single_file
from webui.engine.conditioning import ConditioningCache
from webui.engine.generate import generate
from webui.engine.load_progress import LoadProgress
from webui.engine.model import DiffusionModel
from webui.engine.model_cache import ModelCache
from webui.engine.networks import NetworkStore
from webui.engine.spare import Spare, in_memory

FAMILIES = ("miniature", "sd2", "sdxl")  # the last two with joined and with transposed weights


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two checkpoints of each family: "sd2 0", "sd2 1" ..."""
    folder, found = tmp_path_factory.mktemp("models"), {}
    for family in FAMILIES:
        for seed in range(2):
            found[f"{family} {seed}"] = folder / f"{family}-{seed}.safetensors"
            save_single_file(found[f"{family} {seed}"], **tiny_parts(family, seed=seed, vocabulary=9))
    return found


def modules(model: DiffusionModel) -> list[nn.Module]:
    return [model.unet, model.vae, *model.text_encoders]


def numbers(model: DiffusionModel) -> list[Tensor]:
    """Copies of all weights."""
    return [weight.detach().clone() for module in modules(model) for weight in module.state_dict().values()]


def assert_same_bits(one: list[Tensor], other: list[Tensor]) -> None:
    assert len(one) == len(other)
    assert all(torch.equal(mine.view(torch.uint8), theirs.view(torch.uint8)) for mine, theirs in zip(one, other, strict=True))


def addresses(model: DiffusionModel) -> set[int]:
    return {weight.data_ptr() for module in modules(model) for weight in module.parameters()}


def cache_of_one(path: Path) -> ModelCache:
    """With room for one such model."""
    cache = ModelCache(10**12)
    load(cache, path)
    return ModelCache(cache.held_bytes + 1000)


def load(cache: ModelCache, path: Path, dtype: torch.dtype = torch.float32) -> DiffusionModel:
    return cache.load(path, None, dtype, CPU)


@pytest.mark.parametrize(
    ("family", "dtype"),
    [("miniature", torch.float32), ("sd2", torch.float16), ("sdxl", torch.float32), ("sdxl", torch.float16)],  # the files are fp16
    ids=str,
)
def test_the_next_model_lies_where_the_last_one_lay_and_is_the_same_to_the_bit(
    family: str, dtype: torch.dtype, files: dict[str, Path]
) -> None:
    paths = [files[f"{family} {seed}"] for seed in range(2)]
    cache = ModelCache(1)  # holds only the newest
    lay = addresses(load(cache, paths[0], dtype))
    for path in reversed(paths):
        made = load(cache, path, dtype)
        assert_same_bits(numbers(made), numbers(load_checkpoint(path, dtype, CPU)))
        again = addresses(made)
        assert len(again & lay) > 0.9 * len(lay)  # all but those that are turned or of another type after they were read
        lay = again
        del made


HOLDERS: dict[str, Callable[[DiffusionModel], Any]] = {
    "the model": lambda model: model,
    "one predicting something else": lambda model: model.predicting("v_prediction"),
    "one with another VAE": lambda model: model.with_vae(model.vae),
    "the pipeline": lambda model: model.pipeline,
    "a generator at work": lambda model: started(model),
}


def started(model: DiffusionModel) -> Any:
    def work() -> Any:
        yield model.unet
        yield model.vae

    at_work = work()
    next(at_work)
    return at_work


@pytest.mark.parametrize("holder", HOLDERS)
def test_a_model_that_somebody_still_has_keeps_its_numbers(holder: str, files: dict[str, Path]) -> None:
    cache = ModelCache(1)
    model = load(cache, files["miniature 0"])
    before, lay = numbers(model), addresses(model)
    held = HOLDERS[holder](model)
    weights = [weight for module in modules(model) for weight in module.state_dict().values()]  # the same memory, which owns no weight
    del model
    other = load(cache, files["miniature 1"])
    assert not addresses(other) & lay
    assert_same_bits(weights, before)
    assert held is not None
    assert_same_bits(numbers(other), numbers(load_checkpoint(files["miniature 1"], torch.float32, CPU)))


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # diffusers' schedulers with numpy 2
@pytest.mark.parametrize("ending", ["whole", "closed early", "an error"])
def test_when_a_job_has_ended_nobody_has_its_model_any_more(ending: str, tmp_path: Path) -> None:
    """As the worker runs it, with all that it keeps between jobs: a LoRA's file, encoded prompts, the thread that loads."""
    paths = {name: tiny_checkpoint(tmp_path / f"{name}.safetensors", family="sd1", seed=i) for i, name in enumerate("ab")}
    cache, kept, progress = ModelCache(1), ConditioningCache(), LoadProgress()
    lora = write_lora(tmp_path / "x.safetensors", load(cache, paths["a"]), kohya_name("sd1"), only="attn")
    store = NetworkStore(lambda kind, name: lora, lambda path: "")

    def job(name: str) -> Any:
        request = replace(REQUEST, checkpoint=name, steps=2, prompt="a red circle <lora:x:0.5>")
        parts = {"load": lambda asked: load(cache, paths[asked.checkpoint]), "open_input": {}.__getitem__, "networks": store.of}
        return cache.checked(generate(request, Script(), conditionings=kept, follow=progress.follow, **parts))

    lay: set[int] = set()
    for name in "aba":
        events = job(name)
        if ending == "whole":
            assert isinstance(list(events)[-1], Finished)
        else:
            next(event for event in events if isinstance(event, Progress) and event.step)
            thrown = GeneratorExit() if ending == "closed early" else ZeroDivisionError()
            with pytest.raises(type(thrown)):
                events.throw(thrown)
            del thrown
        del events
        now = addresses(load(cache, paths[name]))
        assert not lay or len(now & lay) > 0.9 * len(now)
        lay = now


def test_of_a_model_of_which_somebody_has_one_part_the_others_memory_is_taken(files: dict[str, Path]) -> None:
    cache = ModelCache(1)
    model = load(cache, files["miniature 0"])
    vae, lay = model.vae, addresses(model)
    before = [weight.detach().clone() for weight in vae.parameters()]
    del model
    other = load(cache, files["miniature 1"])
    assert {weight.data_ptr() for weight in other.unet.parameters()} & lay
    assert not addresses(other) & {weight.data_ptr() for weight in vae.parameters()}
    assert_same_bits([weight.detach() for weight in vae.parameters()], before)


def test_a_model_of_another_family_is_whole_too(files: dict[str, Path]) -> None:
    cache = ModelCache(1)
    for name in ("sdxl 0", "miniature 0", "sdxl 1"):
        assert_same_bits(numbers(load(cache, files[name])), numbers(load_checkpoint(files[name], torch.float32, CPU)))


def test_a_load_in_inference_mode_leaves_memory_for_one_without(files: dict[str, Path]) -> None:
    cache = ModelCache(1)
    with torch.inference_mode():
        load(cache, files["miniature 0"])
        load(cache, files["miniature 1"])
    made = load(cache, files["miniature 0"])
    assert not any(weight.is_inference() for weight in made.unet.parameters())
    assert_same_bits(numbers(made), numbers(load_checkpoint(files["miniature 0"], torch.float32, CPU)))


def test_after_a_file_that_breaks_off_the_next_one_is_whole(files: dict[str, Path], tmp_path: Path) -> None:
    cache, broken = cache_of_one(files["miniature 0"]), tmp_path / "broken.safetensors"
    content = files["miniature 1"].read_bytes()
    broken.write_bytes(content[: len(content) // 2])
    load(cache, files["miniature 0"])
    with pytest.raises(BadModelFile):
        load(cache, broken)
    assert_same_bits(numbers(load(cache, files["miniature 1"])), numbers(load_checkpoint(files["miniature 1"], torch.float32, CPU)))


def spare_of(*modules: nn.Module) -> Spare:
    spare = Spare()
    spare.add(modules)
    return spare


def test_a_piece_is_given_once_and_only_for_its_very_size() -> None:
    layer = nn.Linear(10, 10)  # 400 and 40 bytes
    lay = {weight.nbytes: weight.data_ptr() for weight in layer.parameters()}
    spare = spare_of(layer)
    assert not spare.is_free
    del layer
    assert spare.is_free
    taken = spare.take([40, 40, 400])
    assert [piece and piece.data_ptr() for piece in taken] == [lay[40], None, lay[400]]
    assert spare.take([40, 400]) == [None, None]


def test_nothing_is_given_while_its_owner_lives() -> None:
    layer = nn.Linear(10, 10)
    assert spare_of(layer).take([40, 400]) == [None, None]
    assert layer.weight.abs().sum() > 0


def test_memory_of_two_owners_is_free_when_both_are_gone_and_given_once() -> None:
    first, second = nn.Linear(10, 10, bias=False), nn.Linear(10, 10, bias=False)
    second.weight.data = first.weight.data
    spare = spare_of(first, second)
    del first
    assert not spare.is_free
    del second
    assert spare.is_free
    given = spare.take([400, 400])
    assert [piece is None for piece in given] == [False, True]


def test_memory_in_which_other_tensors_lie_is_not_given() -> None:
    layer, memory = nn.Linear(10, 10, bias=False), torch.zeros(200)
    layer.weight.data = memory[:100].view(10, 10)
    spare = spare_of(layer)
    del layer
    assert spare.take([400]) == [None]


def test_for_fresh_memory_as_much_is_let_go_of() -> None:
    """So that a load never takes more than the larger of both models."""
    layers = [nn.Linear(10, 10, bias=False) for _ in range(4)]
    spare = spare_of(*layers)
    layers.clear()
    assert spare.take([700]) == [None]
    assert [piece is None for piece in spare.take([400, 400, 400])] == [False, False, True]


def test_a_tensor_lies_in_a_piece_that_fits_and_else_in_fresh_memory() -> None:
    piece = torch.zeros(100).untyped_storage()
    fits = in_memory(piece, (25, 2, 4), torch.float16, CPU)
    assert (fits.data_ptr(), fits.shape, fits.dtype) == (piece.data_ptr(), (25, 2, 4), torch.float16)
    assert in_memory(piece, (25, 2), torch.float16, CPU).data_ptr() != piece.data_ptr()
    assert in_memory(piece, (100,), torch.float32, torch.device("meta")).device.type == "meta"
    assert in_memory(None, (3,), torch.float32, CPU).shape == (3,)
