"""A UNet for which memory or 16 bits are too few: what is tried in which order, the pictures that come of it, and no trace."""

import copy
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.engine.test_placement import REQUEST, Control, placed, weights
from tests.tiny import CPU, tiny_checkpoint
from webui.core.errors import EngineError, OutOfMemory
from webui.core.event import Event, Notice, Pictures
from webui.core.hires import HiresFix
from webui.engine import patient_unet, placement, sampling
from webui.engine.checkpoint import load_checkpoint
from webui.engine.generate import generate
from webui.engine.model import DiffusionModel
from webui.engine.patches.careful_attention import CarefulAttention
from webui.engine.patient_unet import PatientUnet
from webui.engine.placement import Placement


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_checkpoint(tmp_path_factory.mktemp("patient") / "tiny.safetensors", family="sd1")


@pytest.fixture
def model(path: Path) -> DiffusionModel:
    return load_checkpoint(path, torch.float32, CPU)


@pytest.fixture
def all_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a card, where memory runs out: the UNet is asked for all pictures of a batch in one call."""
    monkeypatch.setattr(sampling, "asks_one_by_one", lambda device: False)


def events(model: DiffusionModel, **changes: Any) -> list[Event]:
    request = replace(REQUEST, **changes)
    return list(generate(request, Control(), load=lambda asked: model, open_input=lambda name: None))  # type: ignore[arg-type, return-value]


def pixels(told: list[Event]) -> list[np.ndarray]:
    return [np.asarray(picture.image, dtype=int) for event in told if isinstance(event, Pictures) for picture in event.pictures]


def notices(told: list[Event]) -> list[str]:
    return [event.text for event in told if isinstance(event, Notice)]


def overflowing(path: Path, dtype: torch.dtype) -> DiffusionModel:
    """A convolution between two norms answers far more than fp16 can hold; in fp32 its numbers are no trouble."""
    model = load_checkpoint(path, dtype, CPU, vae_dtype=torch.float32)
    block = model.unet.mid_block.resnets[0]
    block.norm1.weight.mul_(1024)  # exact in fp16, too
    block.conv1.weight.mul_(1024)  # exact in fp16, too
    return model


def with_unet_in_fp32(model: DiffusionModel) -> DiffusionModel:
    """The model with a copy of its UNet in fp32; text encoder and VAE stay what they are."""
    unet = copy.deepcopy(model.unet).float()
    forward = unet.forward
    unet.forward = lambda x, t, encoder_hidden_states, **others: forward(x, t, encoder_hidden_states.float(), **others)
    full = DiffusionModel(copy.copy(model.pipeline), model.family, model.path)
    full.pipeline.unet = unet
    return full


def test_a_unet_that_overflows_in_fp16_makes_the_picture_of_fp32_and_says_so(path: Path) -> None:
    half = overflowing(path, torch.float16)
    before = weights(half)
    told = events(half, batch_count=2, steps=1)
    for made, expected in zip(pixels(told), pixels(events(with_unet_in_fp32(half), batch_count=2, steps=1)), strict=True):
        assert np.array_equal(made, expected)
        assert expected.std() > 1
    (text,) = notices(told)  # the second batch begins in fp32
    assert "overflowed in 16-bit arithmetic and works in 32 bits for this job" in text
    assert weights(half) == before
    assert {weight.dtype for weight in half.unet.parameters()} == {torch.float16}


def test_both_passes_of_hires_fix_are_made_in_fp32_after_an_overflow(path: Path) -> None:
    half = overflowing(path, torch.float16)
    hires = HiresFix(scale=1, denoising_strength=0.5)
    told = events(half, hires=hires, steps=1)
    (made,), (expected,) = pixels(told), pixels(events(with_unet_in_fp32(half), hires=hires, steps=1))
    assert np.array_equal(made, expected)
    assert len(notices(told)) == 1


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_a_damaged_unet_is_called_so(path: Path, dtype: torch.dtype) -> None:
    model = load_checkpoint(path, dtype, CPU)
    model.unet.conv_out.bias.fill_(float("nan"))
    with pytest.raises(EngineError, match="in 32-bit arithmetic too: the model file may be damaged"):
        events(model)


def test_finite_pictures_are_made_once_in_fp16(path: Path) -> None:
    model = load_checkpoint(path, torch.float16, CPU, vae_dtype=torch.float32)
    calls = count_calls(model)
    assert notices(events(model)) == []
    assert calls == [2] * REQUEST.steps


def count_calls(model: DiffusionModel, most: Callable[[], float] = lambda: 10**9) -> list[int]:
    """Rows of each call that comes to the UNet; those with more rows than `most` run out of memory."""
    calls: list[int] = []
    forward = model.unet.forward

    def counted(x: torch.Tensor, *arguments: Any, **others: Any) -> Any:
        calls.append(len(x))
        if len(x) > most():
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(x, *arguments, **others)

    model.unet.forward = counted
    return calls


@pytest.mark.usefixtures("all_at_once")
@pytest.mark.parametrize(
    ("most", "first_step", "later"),
    [(4, [8, 8, 4, 4], [4, 4]), (2, [8, 8, 4, 2, 2, 2, 2], [2] * 4), (1, [8, 8, 4, 2, *[1] * 8], [1] * 8)],
)
def test_pictures_are_the_same_in_smaller_portions(
    model: DiffusionModel, most: int, first_step: list[int], later: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    expected = pixels(events(model, batch_size=4))
    calls = count_calls(model, lambda: most)
    with caplog.at_level(logging.WARNING):
        told = events(model, batch_size=4)
    made = pixels(told)
    assert calls == first_step + later  # what was too much once is not tried again
    assert max(np.abs(a - b).max() for a, b in zip(made, expected, strict=True)) <= 1
    assert notices(told) == caplog.messages[-1:]
    assert f"memory ran out: the UNet sees {most} of 8 latents at once for the rest of this job" in caplog.messages[-1]


def test_portions_of_sdxls_conditions_and_of_an_inpainting_unets_input_go_along(model: DiffusionModel) -> None:
    seen: list[Any] = []

    def call(x: torch.Tensor, timestep: Any, encoder_hidden_states: torch.Tensor, added_cond_kwargs: Any, return_dict: bool) -> Any:
        if len(x) > 1:
            raise MemoryError
        seen.append((float(x[0, 0, 0, 0]), float(encoder_hidden_states[0, 0, 0]), float(added_cond_kwargs["text_embeds"][0, 0])))
        return (x * 2,)

    unet = PatientUnet(model)
    unet._unet = call  # type: ignore[assignment]
    rows = torch.arange(3.0)
    x = rows[:, None, None, None].expand(3, 9, 2, 2)
    added = {"text_embeds": rows[:, None]}
    answer = unet(x, torch.tensor(1.0), encoder_hidden_states=rows[:, None, None], added_cond_kwargs=added, return_dict=False)[0]
    assert torch.equal(answer, x * 2)
    assert seen == [(0, 0, 0), (1, 1, 1), (2, 2, 2)]


@pytest.mark.usefixtures("all_at_once")
def test_caches_go_first(model: DiffusionModel) -> None:
    freed: list[str] = []
    calls = count_calls(model, lambda: 8 if freed else 1)
    request = replace(REQUEST, batch_size=4)
    list(
        generate(request, Control(), load=lambda asked: model, open_input=lambda name: None, free_caches=lambda: freed.append("all"))  # type: ignore[arg-type, return-value]
    )
    assert calls == [8] * (1 + REQUEST.steps)
    assert freed == ["all"]


def test_then_attention_is_sliced_and_weights_wait_in_main_memory(
    model: DiffusionModel, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(patient_unet, "CPU", torch.device("cpu", 0))  # torch takes it for another device than "cpu"
    monkeypatch.setattr(patient_unet, "moved", lambda unet, place: moves.append(place) or moved(unet, place))
    moves: list[torch.device] = []
    moved = placement.moved
    expected = pixels(events(model))
    processors, before = model.unet.attn_processors, {key: weight.clone() for key, weight in model.unet.state_dict().items()}
    attended: list[bool] = []

    def enough() -> float:
        attended.append(all(isinstance(processor, CarefulAttention) for processor in model.unet.attn_processors.values()))
        return 1 if moves else 0

    calls = count_calls(model, enough)
    with caplog.at_level(logging.WARNING):
        made = pixels(events(model))
    assert calls == [2, 2, 1, 1, 1, 1, *[1, 1] * (REQUEST.steps - 1)]
    assert attended[:4] == [False, False, False, True]
    assert len(moves) == 1
    assert "layer by layer" in caplog.messages[-1]
    assert np.abs(made[0] - expected[0]).max() <= 1
    assert all(model.unet.attn_processors[name] is processor for name, processor in processors.items())
    assert all(torch.equal(weight, before[key]) for key, weight in model.unet.state_dict().items())


def test_what_was_given_up_stays_so_for_the_next_batch(model: DiffusionModel) -> None:
    calls = count_calls(model, lambda: 1)
    assert len(notices(events(model, batch_count=2))) == 1
    assert calls == [2, 2] + [1, 1] * (2 * REQUEST.steps)


def test_at_the_end_the_error_tells_size_memory_and_what_to_do(model: DiffusionModel) -> None:
    calls = count_calls(model, lambda: 0)
    with pytest.raises(
        OutOfMemory, match=r"in the UNet at 64x64 pixels, .*: \d+\.\d of \d+\.\d GiB of main memory are free; make .* smaller"
    ):
        events(model)
    assert calls == [2, 2, 1, 1]  # on the CPU weights have no other memory to wait in
    assert all("forward" not in vars(part) for name, part in model.unet.named_modules() if name)


def test_other_errors_end_the_job_at_once(model: DiffusionModel, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: Any, **others: Any) -> None:
        raise RuntimeError("shapes")

    monkeypatch.setattr(model.unet, "forward", fail)
    with pytest.raises(RuntimeError, match="shapes"):
        events(model)


@pytest.mark.parametrize(
    ("prediction_type", "dtype", "config", "upcast"),
    [
        ("v_prediction", torch.float16, True, True),
        ("v_prediction", torch.bfloat16, True, False),
        ("v_prediction", torch.float16, False, False),
        ("epsilon", torch.float16, True, False),
    ],
)
def test_sd2s_unets_for_v_prediction_attend_in_fp32(
    model: DiffusionModel, prediction_type: str, dtype: torch.dtype, config: bool, upcast: bool
) -> None:
    unet = copy.deepcopy(model.unet).to(dtype)
    unet.register_to_config(upcast_attention=config)
    other = DiffusionModel(copy.copy(model.pipeline), replace(model.family, prediction_type=prediction_type), model.path)  # type: ignore[arg-type]
    other.pipeline.unet = unet
    with PatientUnet(other).at_work():
        assert [isinstance(processor, CarefulAttention) for processor in unet.attn_processors.values()] == [upcast] * len(
            unet.attn_processors
        )


def test_a_unet_that_comes_layer_by_layer_overflows_and_recovers_like_any_other(path: Path) -> None:
    half = overflowing(path, torch.float16)
    expected = pixels(events(half, steps=1))[0]
    for way in (Placement(CPU, CPU), Placement(CPU, CPU, by_layer=True)):
        assert np.array_equal(pixels(events(placed(half, way), steps=1))[0], expected)
