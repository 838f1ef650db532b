"""webui/service/job.py."""

import pytest

from tests.service.handlers import small
from webui.core.event import Loading, Preview, Progress
from webui.service import job as module
from webui.service.job import LiveJob, stored_job
from webui.service.queue import JobRow


def row(status: str = "running", error: str = "") -> JobRow:
    return JobRow(1, "job", "ann", status, small(), True, 5.0, 0, 0, 40, error, 0)


def test_every_change_raises_seq() -> None:
    live = LiveJob(row())
    seqs = [live.seen(()).seq]
    for change in (
        lambda: live.hear(Loading("Loading")),
        lambda: live.hear(Progress(1, 1, 0, 5)),
        lambda: live.hear(Preview(b"")),
        lambda: live.ask(interrupt=True),
        live.saving,
        lambda: live.end("done"),
    ):
        change()
        seqs.append(live.seen(()).seq)
    assert seqs == [40, 41, 42, 43, 44, 45, 46]


def test_the_line_for_people_follows_the_job() -> None:
    live = LiveJob(row())
    live.hear(Loading("Loading a.safetensors"))
    assert live.seen(()).text == "Loading a.safetensors"
    live.hear(Loading("Loading a.safetensors", 0.426))
    assert live.seen(()).text == "Loading a.safetensors, 42 %"
    live.hear(Progress(1, 1, 3, 20))
    assert live.seen(()).text == "Step 3 of 20"
    live.hear(Progress(2, 4, 3, 20))
    assert live.seen(()).text == "Batch 2 of 4, step 3 of 20"
    live.ask(interrupt=True)
    assert live.seen(()).text == "Stopping"
    live.end("failed", "the sentence", 507)
    assert (live.seen(()).text, live.seen(()).error_status) == ("the sentence", 507)


def test_the_eta_reckons_from_the_first_progress_and_not_from_the_loading(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(module.time, "monotonic", lambda: now)
    live = LiveJob(row())
    live.hear(Loading("Loading"))
    now += 100
    live.hear(Progress(1, 2, 0, 10))
    assert live.seen(()).eta is None
    now += 5
    live.hear(Progress(1, 2, 5, 10))
    assert live.seen(()).eta == pytest.approx(15)
    live.end("done")
    assert live.seen(()).eta is None


def test_a_waiting_job_says_what_it_waits_for() -> None:
    assert stored_job(row("queued"), (), 3, "ready").text == "In queue, 3 ahead"
    assert stored_job(row("queued"), (), 0, "ready").text == "Waiting for the worker"
    assert stored_job(row("queued"), (), 0, "starting").text == "The worker is starting"


def test_an_ended_job_tells_its_end() -> None:
    assert [stored_job(row(status), (), 0, "ready").text for status in ("done", "interrupted")] == ["Done", "Interrupted"]
    assert stored_job(row("failed", "why"), (), 0, "ready").text == "why"
    assert [stored_job(row(status), (), 0, "").fraction for status in ("done", "failed")] == [1.0, 0.0]
