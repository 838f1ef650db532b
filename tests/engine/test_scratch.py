"""Memory for changed weights, left from job to job: the same bits as without it, and gone when it is of no use."""

import copy
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.lora_files import kohya_name, low_rank, weights_model, write_lora
from tests.tiny import CPU, tiny_parts
from webui.engine import scratch
from webui.engine.checkpoint import save_single_file
from webui.engine.model import DiffusionModel
from webui.engine.model_cache import ModelCache
from webui.engine.patches.lora import Lora, LoraUse, applied_loras, read_lora
from webui.engine.scratch import LINE, Scratch, laid_out, lines

Weights = dict[str, Tensor]


@pytest.fixture(scope="module")
def model() -> DiffusionModel:
    return weights_model("sd1")


@pytest.fixture(autouse=True)
def _left_as_it_was(model: DiffusionModel) -> object:
    model.scratch.clear()
    before = numbers(model)
    yield
    assert_same_bits(numbers(model), before)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory, model: DiffusionModel) -> dict[str, Lora]:
    """attention: low rank; middle: fewer layers; whole: changes of several other kinds, convolutions among them."""
    folder, name = tmp_path_factory.mktemp("loras"), kohya_name("sd1")

    def mixed(weight: Tensor, rank: int, generator: torch.Generator) -> dict[str, Tensor]:
        parts = low_rank(weight, rank, generator)
        kinds: list[dict[str, Tensor]] = [parts, {"diff": torch.randn(weight.shape, generator=generator)}]
        kinds.append({**parts, "dora_scale": torch.rand(len(weight), *[1] * (weight.ndim - 1), generator=generator)})
        return kinds[weight.numel() // 64 % 3]

    written = {
        "attention": write_lora(folder / "a.safetensors", model, name, only="attn"),
        "middle": write_lora(folder / "b.safetensors", model, name, only="mid_block.attentions", seed=1),
        "whole": write_lora(folder / "c.safetensors", model, name, make=mixed, seed=2),
    }
    return {name: read_lora(path) for name, path in written.items()}


def numbers(model: DiffusionModel) -> Weights:
    """Copies of all weights."""
    parts = {"unet": model.unet, "text_encoder": model.text_encoder}
    return {f"{part}.{key}": tensor.clone() for part, module in parts.items() for key, tensor in module.state_dict().items()}


def assert_same_bits(one: Weights, other: Weights) -> None:
    assert all(torch.equal(one[key].view(torch.uint8), other[key].view(torch.uint8)) for key in other)


def made_with(model: DiffusionModel, *uses: LoraUse) -> Weights:
    with applied_loras(model, uses):
        return numbers(model)


def fresh(model: DiffusionModel, *uses: LoraUse) -> Weights:
    """What a job makes that was left no memory."""
    return made_with(DiffusionModel(model.pipeline, model.family, model.path), *uses)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_job_after_job_computes_what_it_would_in_fresh_memory(dtype: torch.dtype, model: DiffusionModel, files: dict[str, Lora]) -> None:
    parts = {**model.pipeline.components, "unet": copy.deepcopy(model.unet).to(dtype)}
    model = replace_parts(model, parts)
    attention, middle, whole = files["attention"], files["middle"], files["whole"]
    jobs = [
        [LoraUse(attention)],
        [LoraUse(attention, 0.5, -0.3)],
        [LoraUse(middle)],
        [LoraUse(whole, 0.7, 0.2), LoraUse(attention, 0.0, 2.0)],
        [LoraUse(attention, dyn=1), LoraUse(whole), LoraUse(attention)],
        [LoraUse(attention, 0.5, -0.3)],
    ]
    before = numbers(model)
    for uses in jobs:
        expected = fresh(model, *uses)
        assert any(not torch.equal(expected[key], before[key]) for key in before)
        assert_same_bits(made_with(model, *uses), expected)
        assert_same_bits(numbers(model), before)


def replace_parts(model: DiffusionModel, parts: dict[str, object]) -> DiffusionModel:
    pipeline = copy.copy(model.pipeline)
    pipeline.unet = parts["unet"]
    return DiffusionModel(pipeline, model.family, model.path)


def test_the_next_job_writes_where_the_last_one_did(model: DiffusionModel, files: dict[str, Lora]) -> None:
    places = []
    for strength in (1.0, 0.5):
        with applied_loras(model, [LoraUse(files["attention"], unet=strength)]):
            places.append([weight.data_ptr() for weight in model.unet.parameters()])
    assert places[0] == places[1]


@pytest.mark.parametrize("strength", [None, 0.0], ids=["no LoRA", "at strength 0"])
def test_the_first_job_without_loras_frees_the_memory(strength: float | None, model: DiffusionModel, files: dict[str, Lora]) -> None:
    made_with(model, LoraUse(files["attention"]))
    assert model.scratch.nbytes > 0
    with applied_loras(model, [] if strength is None else [LoraUse(files["attention"], strength, strength)]):
        assert model.scratch.nbytes == 0
    assert model.scratch.nbytes == 0


@pytest.mark.parametrize("layer_number", [0, 3, 20])
def test_after_an_error_in_the_next_job_all_weights_are_as_they_were_and_nothing_is_kept(
    layer_number: int, model: DiffusionModel, files: dict[str, Lora], monkeypatch: pytest.MonkeyPatch
) -> None:
    from webui.engine.patches.lora_kinds import LowRank

    before, calls, real = numbers(model), [], LowRank.added
    made_with(model, LoraUse(files["attention"]))

    def failing(*arguments: object) -> Tensor:
        calls.append(arguments)
        if len(calls) > layer_number:
            raise MemoryError
        return real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(LowRank, "added", failing)
    with pytest.raises(MemoryError), applied_loras(model, [LoraUse(files["attention"], 0.5, 0.5)]):
        pass
    assert len(calls) == layer_number + 1
    assert_same_bits(numbers(model), before)
    assert model.scratch.nbytes == 0


def test_an_error_within_the_block_leaves_nothing_kept(model: DiffusionModel, files: dict[str, Lora]) -> None:
    with pytest.raises(ZeroDivisionError), applied_loras(model, [LoraUse(files["attention"])]):
        raise ZeroDivisionError
    assert model.scratch.nbytes == 0


def test_memory_of_a_job_in_inference_mode_serves_one_without(model: DiffusionModel, files: dict[str, Lora]) -> None:
    expected = fresh(model, LoraUse(files["attention"], 0.5, 0.5))
    with torch.inference_mode():
        made_with(model, LoraUse(files["attention"]))
    assert_same_bits(made_with(model, LoraUse(files["attention"], 0.5, 0.5)), expected)
    assert not any(weight.is_inference() for weight in model.unet.parameters())


def test_models_of_the_same_parts_share_it(model: DiffusionModel) -> None:
    assert model.with_vae(model.vae).scratch is model.scratch
    assert model.predicting("v_prediction").scratch is model.scratch
    assert weights_model("sd1").scratch is not model.scratch


def test_the_cache_counts_it_and_drops_it_when_another_checkpoint_is_asked_for(tmp_path: Path) -> None:
    paths = [tmp_path / "a.safetensors", tmp_path / "b.safetensors"]
    for seed, path in enumerate(paths):
        save_single_file(path, **tiny_parts("miniature", seed=seed, vocabulary=9))
    cache = ModelCache(10**12)
    a = cache.load(paths[0], None, torch.float32, CPU)
    alone = cache.held_bytes
    with a.scratch.lent(1000):
        pass
    assert cache.load(paths[0], None, torch.float32, CPU) is a
    assert cache.held_bytes == alone + 1000
    cache.load(paths[1], None, torch.float32, CPU)
    assert cache.held_bytes == 2 * alone
    assert a.scratch.nbytes == 0


def test_it_pushes_no_model_out_of_a_cache_that_becomes_smaller(tmp_path: Path) -> None:
    paths = [tmp_path / "a.safetensors", tmp_path / "b.safetensors"]
    cache = ModelCache(10**12)
    for seed, path in enumerate(paths):
        save_single_file(path, **tiny_parts("miniature", seed=seed, vocabulary=9))
        newest = cache.load(path, None, torch.float32, CPU)
    both = cache.held_bytes
    with newest.scratch.lent(1000):
        pass
    cache.resize(both)
    assert (len(cache), cache.held_bytes) == (2, both)


def test_what_is_lent_is_nobody_elses() -> None:
    kept = Scratch()
    with kept.lent(100) as first, kept.lent(100) as second:
        assert first.data_ptr() != second.data_ptr()
        kept.clear()
        assert kept.nbytes == 0
    assert kept.nbytes == 100


def test_memory_grows_with_the_need_and_more_than_the_limit_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scratch, "MOST_KEPT", 300)
    kept = Scratch()
    sizes = []
    for size in (100, 200, 50, 301, 50):
        with kept.lent(size) as memory:
            sizes.append(len(memory))
    assert sizes == [100, 200, 200, 301, 50]
    assert kept.nbytes == 50


def test_tensors_laid_out_in_a_row_do_not_touch() -> None:
    given = [torch.ones(3, dtype=torch.float16), torch.ones(4, 4), torch.ones(2, 3, 3, dtype=torch.bfloat16)]
    memory = torch.zeros(sum(lines(tensor) for tensor in given), dtype=torch.uint8)
    start, places = 0, []
    for i, tensor in enumerate(given):
        places.append(laid_out(memory, start, tensor).fill_(i + 1))
        start += lines(tensor)
    assert start == len(memory)
    assert all((place.data_ptr() - memory.data_ptr()) % LINE == 0 for place in places)
    assert all(torch.equal(place, tensor * (i + 1)) for i, (place, tensor) in enumerate(zip(places, given, strict=True)))
