"""What is told while a checkpoint is read."""

import threading
from collections.abc import Callable, Generator
from pathlib import Path

import pytest
import torch

from tests.tiny import CPU, tiny_checkpoint
from webui.core.event import Event, Loading
from webui.engine import load_progress
from webui.engine.checkpoint import load_checkpoint, save_model
from webui.engine.load_progress import LoadProgress, at_once


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_checkpoint(tmp_path_factory.mktemp("progress") / "tiny.safetensors")


def test_shares_rise_to_the_whole_in_steps_of_tensors(path: Path, tmp_path: Path) -> None:
    model = load_checkpoint(path, torch.float32, CPU)
    save_model(model, tmp_path / "folder", layout="diffusers folder")
    for place, vae in ((path, None), (tmp_path / "folder", None), (path, path)):
        shares: list[float] = []
        load_checkpoint(place, torch.float32, CPU, vae, tell=shares.append)
        assert shares == sorted(shares)
        assert len(shares) > 100
        assert shares[0] < 0.2
        assert 0.999 < shares[-1] <= 1


def drained(progress: LoadProgress, work: Callable[[], object]) -> tuple[list[Event], object]:
    return to_the_end(progress.follow(work, "loading x"))


def to_the_end(events: Generator[Event, None, object]) -> tuple[list[Event], object]:
    """What is told, and the result."""
    told = []
    while True:
        try:
            told.append(next(events))
        except StopIteration as end:
            return told, end.value


def test_a_slow_load_tells_how_far_it_is_and_gives_its_result(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load_progress, "EVERY", 0.01)
    progress, seen = LoadProgress(), threading.Event()

    def work() -> str:
        progress.tell(0.426)
        seen.wait(10)
        return "model"

    events = progress.follow(work, "loading x")
    assert next(events) == Loading("loading x")
    assert next(event for event in events if event.fraction) == Loading("loading x", 0.426)
    seen.set()
    assert to_the_end(events)[1] == "model"


def test_what_is_at_hand_tells_nothing_more_than_that_it_begins() -> None:
    assert drained(LoadProgress(), lambda: "model") == ([Loading("loading x")], "model")
    events = at_once(lambda: "model", "loading x")
    assert next(events) == Loading("loading x")
    with pytest.raises(StopIteration, match="model"):
        next(events)


def test_no_more_than_ten_events_a_second_whatever_is_told() -> None:
    progress = LoadProgress()
    done = threading.Event()

    def work() -> None:
        for i in range(10_000):
            progress.tell(i / 10_000)
        done.wait(0.25)

    told, _ = drained(progress, work)
    assert len(told) <= 2 + 10 * 0.6


def test_an_error_of_the_load_is_the_jobs() -> None:
    def work() -> None:
        raise ValueError("damaged")

    with pytest.raises(ValueError, match="damaged"):
        drained(LoadProgress(), work)


def test_a_job_that_is_closed_waits_for_its_load(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load_progress, "EVERY", 0.01)
    progress, ended = LoadProgress(), []
    events = progress.follow(lambda: threading.Event().wait(0.1) or ended.append(1), "loading x")
    next(events), next(events)
    events.close()
    assert ended == [1]


def test_loads_share_one_thread() -> None:
    progress = LoadProgress()
    assert drained(progress, threading.get_ident)[1] == drained(progress, threading.get_ident)[1] != threading.get_ident()
