"""Row 33 of docs/reliability.md: a clock that jumps changes no order, no duration and ends no session."""

import time
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from tests.api.test_guard import APP, HOST, settings
from tests.service.handlers import picture, small
from webui.api.guard import Guard
from webui.core.event import Progress
from webui.service.database import open_database
from webui.service.gallery import Gallery
from webui.service.job import LiveJob
from webui.service.queue import JobQueue

YEAR = 365 * 24 * 3600.0
JUMPS = (YEAR, -YEAR, 3600.0, -3600.0, 0.5, -0.5, -2 * YEAR)


@pytest.fixture
def jump(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds by which the clock on the wall is wrong, the last one counting."""
    by, real = [0.0], time.time
    monkeypatch.setattr(time, "time", lambda: real() + by[-1])
    return by


def test_jobs_and_pictures_keep_their_order(tmp_path: Path, jump: list[float]) -> None:
    database, _ = open_database(tmp_path / "easel.sqlite3")
    queue, gallery = JobQueue(database), Gallery(database, tmp_path / "outputs", tmp_path / "tmp")
    for number, seconds in enumerate(JUMPS):
        jump.append(seconds)
        queue.add(str(number), "", small(seed=number), True)
    taken = []
    for seconds in reversed(JUMPS):
        jump.append(seconds)
        job = queue.take()
        assert job is not None
        taken.append(job.id)
        gallery.save(job, [picture(job.request, 0)], "png", 80)  # type: ignore[arg-type]
        queue.finish(job.id, "done", 2)
    assert taken == [str(number) for number in range(len(JUMPS))]
    assert [job.id for job in queue.find(None, None, 100)] == taken
    assert [each.seed for each in gallery.recent(100, 0, None)] == list(reversed(range(len(JUMPS))))
    database.close()


def test_jobs_are_taken_up_after_a_restart_years_before(tmp_path: Path, jump: list[float]) -> None:
    database, _ = open_database(tmp_path / "easel.sqlite3")
    queue = JobQueue(database)
    queue.add("a", "", small(), True)
    queue.take()
    jump.append(-2 * YEAR)
    queue.recover()
    job = queue.take()
    assert (job and job.id, job and job.restarts) == ("a", 1)
    database.close()


def test_the_time_left_is_told_by_another_clock(tmp_path: Path, jump: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    database, _ = open_database(tmp_path / "easel.sqlite3")
    queue = JobQueue(database)
    queue.add("a", "", small(), True)
    row = queue.take()
    database.close()
    assert row is not None
    ticks = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: ticks[0])
    live = LiveJob(row, again=False)
    live.hear(Progress(1, 1, 0, 10))
    for seconds in JUMPS:
        jump.append(seconds)
        ticks[0] = 105.0
        live.hear(Progress(1, 1, 5, 10))
        assert live.seen(()).eta == pytest.approx(5.0)


@pytest.mark.parametrize("seconds", JUMPS)
def test_no_session_and_no_block_ends_early(jump: list[float], seconds: float) -> None:
    guarded = Guard(APP, settings("--gradio-auth", "a:b"))
    inside = TestClient(guarded, base_url=f"http://{HOST}", client=("10.0.0.1", 1))
    inside.post("/login", data={"username": "a", "password": "b"})
    guesser = TestClient(guarded, base_url=f"http://{HOST}", client=("10.0.0.2", 1))
    for i in range(21):
        guesser.post("/login", data={"username": "a", "password": str(i)})
    ((name, value),) = inside.cookies.items()
    inside.cookies.clear()  # the client has a clock, too
    jump.append(seconds)
    assert inside.get("/", headers={"Cookie": f"{name}={value}"}).status_code == 200
    assert guesser.post("/login", data={"username": "a", "password": "b"}).status_code == 429
