"""What is tried after a failure, in which order, and what is told at the end."""

import logging
import sys

import psutil
import pytest
import torch
from torch import nn

from webui.core.errors import EngineError, OutOfMemory
from webui.engine.ladders import UnetOverflow, check_unet, give_memory_back, with_less_memory, with_more_precision


class FakeVae(nn.Module):
    """Its answer is finite only in the number types that it is told."""

    def __init__(self, good: set[torch.dtype]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((1,), 0.1))
        self.good = good

    @property
    def dtype(self) -> torch.dtype:
        return self.weight.dtype

    def run(self) -> torch.Tensor:
        return self.weight if self.dtype in self.good else self.weight * float("inf")


@pytest.mark.parametrize(
    ("start", "good", "tried"),
    [
        (torch.float16, {torch.float16, torch.float32}, [torch.float16]),
        (torch.float16, {torch.bfloat16, torch.float32}, [torch.float16, torch.bfloat16]),
        (torch.float16, {torch.float32}, [torch.float16, torch.bfloat16, torch.float32]),
        (torch.bfloat16, {torch.float32}, [torch.bfloat16, torch.float32]),
    ],
)
def test_wider_types_are_tried_until_the_result_is_finite(
    start: torch.dtype, good: set[torch.dtype], tried: list[torch.dtype], caplog: pytest.LogCaptureFixture
) -> None:
    vae, seen = FakeVae(good).to(start), []

    def run(vae: FakeVae) -> torch.Tensor:
        seen.append(vae.dtype)
        return vae.run()

    with caplog.at_level(logging.WARNING):
        result = with_more_precision(vae, run)  # type: ignore[arg-type]
    assert seen == tried
    assert result.dtype == tried[-1]
    assert bool(torch.isfinite(result).all())
    assert vae.dtype == start
    assert [f"run again in {dtype}" in message for dtype, message in zip(tried[1:], caplog.messages, strict=True)] == [True] * (
        len(tried) - 1
    )


def test_a_vae_that_gives_no_number_in_fp32_is_called_damaged() -> None:
    for start in (torch.float16, torch.float32):
        with pytest.raises(EngineError, match="not-a-number: the VAE's file may be damaged; choose another VAE"):
            with_more_precision(FakeVae(set()).to(start), FakeVae.run)  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_latents_that_are_no_numbers_are_blamed_on_the_unets_file(value: float) -> None:
    latents = torch.tensor([0.0, value])
    with pytest.raises(UnetOverflow, match="not-a-number, in 32-bit arithmetic too: the model file may be damaged"):
        check_unet(latents)
    check_unet(torch.zeros(2))


def failing(error: Exception, log: list[str]) -> object:
    log.append(type(error).__name__)
    raise error


def test_attempts_are_made_until_memory_is_enough() -> None:
    log: list[str] = []
    texts = (
        "DefaultCPUAllocator: can't allocate memory: 9 bytes",
        "MPS backend out of memory (MPS allocated: 9 GB)",
        "CUBLAS_STATUS_ALLOC_FAILED",
    )
    errors = [torch.OutOfMemoryError("CUDA out of memory"), MemoryError(), *map(RuntimeError, texts)]
    attempts = [lambda error=error: failing(error, log) for error in errors]
    assert with_less_memory([*attempts, lambda: "made", lambda: log.append("not reached")], "") == "made"
    assert log == ["OutOfMemoryError", "MemoryError", *["RuntimeError"] * 3]
    with pytest.raises(OutOfMemory, match="make it smaller"):
        with_less_memory(attempts, "make it smaller")


def test_other_errors_are_not_taken_for_a_lack_of_memory() -> None:
    log: list[str] = []
    with pytest.raises(RuntimeError, match="shapes"):
        with_less_memory([lambda: failing(RuntimeError("shapes"), log), lambda: log.append("not reached")], "")
    assert log == ["RuntimeError"]


def test_a_failed_attempt_holds_no_memory_during_the_next() -> None:
    class Large:
        alive = 0

        def __init__(self) -> None:
            Large.alive += 1

        def __del__(self) -> None:
            Large.alive -= 1

    def first() -> int:
        large = Large()
        raise MemoryError(large)

    assert with_less_memory([first, lambda: Large.alive], "") == 0


@pytest.mark.skipif(sys.platform != "linux", reason="other C libraries give back by themselves, or never")
def test_freed_memory_goes_back_to_the_system() -> None:
    torch.ones(30 << 20, dtype=torch.uint8)  # once so much was freed, pieces below it come from the heap
    pieces = [torch.ones(1 << 20, dtype=torch.uint8) for _ in range(300)]
    last = pieces.pop()  # lies above them: without it the C library itself would cut the heap
    full = psutil.Process().memory_info().rss
    pieces.clear()
    give_memory_back()
    assert full - psutil.Process().memory_info().rss > 200 << 20
    assert last.all()
