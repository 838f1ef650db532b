"""webui/service/supervisor.py and worker.py: processes that die, disks that refuse, servers that are killed."""

import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.service.conftest import PATIENCE, until
from tests.service.handlers import ran, small
from tests.service.test_service import done, go, running
from webui.core.image_metadata import read_infotext
from webui.core.xray import Recording, XrayRequest
from webui.service import supervisor
from webui.service.service import Service

Make = Callable[..., Service]


def worker_pid(folder: Path, worker: int = 0) -> int:
    path = folder / f"worker{worker or ''}.pid"
    return int(until(lambda: path.exists() and path.read_text()))


def is_alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


# the worker dies


def test_a_job_whose_worker_is_killed_is_made_again_with_the_same_seed(service: Service) -> None:
    job_id = service.submit(small(prompt="hold"))
    seq = running(service, job_id).seq
    os.kill(worker_pid(service.settings.data_dir), signal.SIGKILL)
    until(lambda: len(ran(service.settings.data_dir)) == 2)
    go(service)
    job = done(service, job_id)
    assert job.status == "done"
    assert len(job.pictures) == 1
    assert len(set(ran(service.settings.data_dir))) == 1
    assert job.seq > seq


def test_pictures_saved_before_the_death_are_neither_lost_nor_doubled(service: Service) -> None:
    job = done(service, service.submit(small(prompt="die-once", seed=7, batch_count=3)))
    assert (job.status, [picture.seed for picture in job.pictures]) == ("done", [7, 8, 9])
    assert len(list(service.settings.outputs_dir.glob("*/*"))) == 3
    assert len(ran(service.settings.data_dir)) == 2


def test_a_job_that_kills_every_worker_fails_with_a_sentence(service: Service) -> None:
    job = done(service, service.submit(small(prompt="die", batch_count=2)))
    assert job.status == "failed"
    assert "the worker died 2 times" in job.error
    assert "signal 9" in job.error
    assert len(ran(service.settings.data_dir)) == 2
    assert len(job.pictures) == 1
    assert done(service, service.submit(small())).status == "done"


def test_a_worker_that_is_told_to_end_is_not_held_against_its_job(service: Service) -> None:
    job_id = service.submit(small(prompt="hold"))
    for starts in range(1, 4):
        until(lambda starts=starts: len(ran(service.settings.data_dir)) == starts)
        os.kill(worker_pid(service.settings.data_dir), signal.SIGTERM)
    go(service)
    assert done(service, job_id).status == "done"


def test_an_idle_worker_that_is_killed_is_replaced(service: Service) -> None:
    until(lambda: service.worker_state() == "ready")
    first = worker_pid(service.settings.data_dir)
    os.kill(first, signal.SIGKILL)
    until(lambda: worker_pid(service.settings.data_dir) != first)
    assert done(service, service.submit(small())).status == "done"


def test_an_interrupted_job_whose_worker_dies_is_not_made_again(service: Service) -> None:
    job_id = service.submit(small(prompt="hold"))
    running(service, job_id)
    pid = worker_pid(service.settings.data_dir)
    os.kill(pid, signal.SIGSTOP)
    service.interrupt(job_id)
    assert service.job(job_id).text == "Stopping"
    os.kill(pid, signal.SIGKILL)
    assert done(service, job_id).status == "interrupted"
    assert len(ran(service.settings.data_dir)) == 1


@pytest.mark.parametrize(("factory", "why"), [("never", "there is no device here; plug one in"), ("lost", "exit status 3")])
def test_a_worker_that_cannot_start_is_tried_again_and_the_reason_told(make_service: Make, factory: str, why: str) -> None:
    service = make_service(factory)
    job_id = service.submit(small())
    until(lambda: len(ran(service.settings.data_dir)) >= 3)
    until(lambda: service.worker_state().startswith("restarting: ") and why in service.worker_state())
    assert why in service.job(job_id).text
    service.interrupt(job_id)
    assert service.job(job_id).status == "interrupted"


def test_the_worker_ends_with_the_service(make_service: Make) -> None:
    service = make_service()
    until(lambda: service.worker_state() == "ready")
    pid = worker_pid(service.settings.data_dir)
    service.stop()
    assert not is_alive(pid)
    assert service.worker_state() == "stopped"


def test_a_job_in_hand_at_stop_is_done_after_the_next_start(make_service: Make) -> None:
    service = make_service()
    first, second = (service.submit(small(prompt=prompt)) for prompt in ("hold", "second"))
    before = running(service, first)
    service.stop()
    go(service)
    again = make_service()
    assert done(again, first).request == before.request
    assert done(again, second).status == "done"
    assert len(set(ran(service.settings.data_dir))) == 2
    assert again.job(first).seq > before.seq


def test_what_a_stopped_job_had_stored_is_not_stored_twice(make_service: Make) -> None:
    first = make_service()
    job_id = first.submit(small(prompt="hold", batch_count=2, seed=5, steps=1))
    while len(first.job(job_id).pictures) < 1:
        (first.settings.data_dir / "step").touch()
        time.sleep(0.05)
    first.stop()
    (first.settings.data_dir / "go").touch()
    assert [picture.seed for picture in make_service().wait(job_id, PATIENCE).pictures] == [5, 6]


def test_stopping_often_is_never_held_against_a_job(make_service: Make) -> None:
    service = make_service()
    job_id = service.submit(small(prompt="hold"))
    folder = service.settings.data_dir
    for starts in range(1, 8):
        until(lambda starts=starts: len(ran(folder)) == starts)
        service.stop()
        service = make_service()
    go(service)
    assert done(service, job_id).status == "done"


# one of several workers dies


def two_held_jobs(service: Service) -> tuple[int, list[str]]:
    """The process of the worker that has the first of two jobs, and their ids; each is held in its first step by a worker of its own."""
    until(lambda: all(each.state == "ready" for each in service._supervisors))
    jobs = [service.submit(small(prompt=f"hold {name}", seed=5)) for name in ("first", "second")]
    until(lambda: all(service.job(job_id).progress for job_id in jobs))
    holder = next(i for i, each in enumerate(service._supervisors) if each.live and each.live.row.id == jobs[0])
    return worker_pid(service.settings.data_dir, holder), jobs


def one_step(service: Service) -> None:
    """Let one of the held jobs go one step further; returns when it is held in the next."""
    (service.settings.data_dir / "step").touch()
    until(lambda: any(job.progress and job.progress.step == 1 for job in service.jobs()))


def test_when_one_of_two_workers_is_killed_its_job_runs_again_and_the_other_is_untouched(make_service: Make) -> None:
    service = make_service(workers=2)
    pid, (first, second) = two_held_jobs(service)
    os.kill(pid, signal.SIGKILL)
    until(lambda: sum("first" in line for line in ran(service.settings.data_dir)) == 2)
    go(service)
    assert [done(service, job_id).status for job_id in (first, second)] == ["done", "done"]
    assert sorted(ran(service.settings.data_dir)) == ["hold first|5", "hold first|5", "hold second|5"]


def test_an_idle_worker_takes_the_job_that_a_killed_one_had(make_service: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "FIRST_PAUSE", PATIENCE)  # the killed one does not come back so soon
    service = make_service(workers=2)
    pid, (first, second) = two_held_jobs(service)
    other = next(each for each in service._supervisors if each.live and each.live.row.id == second)
    service.interrupt(second)
    until(lambda: other.free)
    os.kill(pid, signal.SIGKILL)
    until(lambda: other.live and other.live.row.id == first)
    go(service)
    assert done(service, first).status == "done"


def test_interrupt_skip_and_previews_reach_the_worker_that_has_the_job(make_service: Make) -> None:
    service = make_service(workers=2)
    _, (first, second) = two_held_jobs(service)
    assert service.preview(second) is None  # asking makes the worker send them
    one_step(service)
    service.skip(first)
    assert (service.job(first).skips_asked, service.job(second).skips_asked) == (1, 0)
    service.interrupt(first)
    assert done(service, first).status == "interrupted"
    go(service)
    assert (done(service, second).status, len(service.job(second).pictures)) == ("done", 1)


def test_memory_tells_of_every_worker(make_service: Make) -> None:
    service = make_service(workers=2)
    until(lambda: all(each.state == "ready" for each in service._supervisors))
    cuda = service.status.memory()["cuda"]
    assert cuda["system"] == {"total": 7, "used": 3}
    assert [(worker["device"], worker["state"]) for worker in cuda["workers"]] == [("Abacus", "ready")] * 2


# the disk refuses


def test_a_folder_that_cannot_be_written_fails_the_job_and_the_server_goes_on(service: Service) -> None:
    outputs = service.settings.outputs_dir
    outputs.parent.mkdir(exist_ok=True)
    outputs.write_text("in the way")
    job = done(service, service.submit(small(batch_count=2)))
    assert (job.status, job.error_status) == ("failed", 507)
    assert str(outputs) in job.error
    assert [read_infotext(picture.path).text for picture in job.pictures] == [job.pictures[0].infotext]  # to be seen all the same
    assert service.recent_pictures() == []
    outputs.unlink()
    job = done(service, service.submit(small()))
    assert (job.status, len(job.pictures)) == ("done", 1)


def test_a_disk_that_takes_no_record_costs_the_job_its_record_alone(service: Service) -> None:
    """The page tells it once; pictures that are made for the first time are worth more than the look at them."""
    folder = service.xrays._folder
    job_id = service.submit(XrayRequest(base=small(prompt="hold", steps=3, batch_count=2), study=Recording(first=True)))
    until(lambda: (service.settings.data_dir / "holding").exists())
    (service.settings.data_dir / "step").touch()
    until(lambda: service.xrays.told(job_id)["steps"])
    shutil.move(folder, folder.with_name("away"))
    folder.write_text("in the way")
    (service.settings.data_dir / "step").touch()
    (notice,) = until(lambda: service.job(job_id).notices)
    assert (str(folder) in notice, "free disk space. The job itself goes on" in notice) == (True, True)
    folder.unlink()
    shutil.move(folder.with_name("away"), folder)
    go(service)
    job = done(service, job_id)
    assert (job.status, len(job.pictures), job.notices) == ("done", 2, (notice,))
    assert [step["step"] for step in service.xrays.told(job_id)["steps"]] == [1]  # and none after the gap


def test_a_study_whose_findings_the_disk_does_not_take_fails_with_a_sentence(service: Service) -> None:
    folder = service.xrays._folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.write_text("in the way")
    job = done(service, service.submit(XrayRequest(base=small(steps=3), study=Recording())))
    assert (job.status, job.error_status, str(folder) in job.error) == ("failed", 507, True)
    assert done(service, service.submit(small())).status == "done"


def test_a_job_whose_worker_is_killed_is_recorded_anew(service: Service) -> None:
    job_id = service.submit(XrayRequest(base=small(prompt="hold", steps=3, seed=5), study=Recording(first=True)))
    until(lambda: (service.settings.data_dir / "holding").exists())
    (service.settings.data_dir / "step").touch()
    until(lambda: service.xrays.told(job_id)["steps"])
    os.kill(worker_pid(service.settings.data_dir), signal.SIGKILL)
    go(service)
    job = done(service, job_id)
    assert (job.status, [picture.seed for picture in job.pictures]) == ("done", [5])
    assert [step["step"] for step in service.xrays.told(job_id)["steps"]] == [1, 2, 3]


def test_a_database_that_takes_no_writes_pauses_the_queue_until_it_does(service: Service) -> None:
    job_id = service.submit(small(prompt="hold"))
    running(service, job_id)
    refuse = sqlite3.connect(service.settings.database, timeout=0, isolation_level=None)
    refuse.execute("BEGIN IMMEDIATE")  # another program holds the file: no write gets through
    service._database.read("PRAGMA busy_timeout = 0")
    go(service)
    until(lambda: service.worker_state().startswith("paused: "))
    assert done(service, job_id).error_status == 507
    refuse.execute("ROLLBACK")
    refuse.close()
    until(lambda: service.worker_state() == "ready")
    assert service.job(job_id).error_status == 507
    assert done(service, service.submit(small(prompt="next"))).status == "done"


def test_a_damaged_database_is_told_and_the_pictures_are_found_again(make_service: Make) -> None:
    service = make_service()
    job = done(service, service.submit(small(seed=8)))
    service.stop()
    service.settings.database.write_bytes(b"damaged" * 1000)
    again = make_service()
    assert any("damaged" in warning for warning in again.warnings)
    found = until(lambda: again.recent_pictures())[0]
    assert (found.path, found.infotext, found.seed) == (job.pictures[0].path, job.pictures[0].infotext, 8)
    assert done(again, again.submit(small(seed=8))).status == "done"
    assert len(list(service.settings.outputs_dir.glob("*/*.png"))) == 2


# the server is killed


class Server:
    """tests/service/server.py in a process of its own."""

    def __init__(self, folder: Path):
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.service.server", str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        )
        assert self.hear() == "up"

    def ask(self, *words: object) -> Any:
        """None when the server died meanwhile."""
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps(words) + "\n")
            self.process.stdin.flush()
        except OSError:
            return None
        return self.hear()

    def hear(self) -> Any:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        return json.loads(line) if line.endswith("\n") else None

    def kill(self) -> None:
        self.process.kill()
        self.close()

    def close(self) -> None:
        """Ends a living server in an orderly way."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        with suppress(OSError):
            self.process.stdin.close()
        self.process.wait(PATIENCE)
        self.process.stdout.close()


def test_the_worker_does_not_outlive_a_killed_server(tmp_path: Path) -> None:
    server = Server(tmp_path)
    server.ask("submit", "a", "hold")
    until(lambda: (tmp_path / "holding").exists())
    pid = worker_pid(tmp_path)
    server.kill()
    until(lambda: not is_alive(pid))


def test_a_killed_servers_job_is_made_with_the_same_seed_after_the_restart(tmp_path: Path) -> None:
    server = Server(tmp_path)
    server.ask("submit", "a", "hold")
    server.ask("submit", "b", "waits")
    until(lambda: (tmp_path / "holding").exists())
    server.kill()
    (tmp_path / "go").touch()
    server = Server(tmp_path)
    assert server.ask("wait", "a")[0] == server.ask("wait", "b")[0] == "done"
    server.close()
    assert [line.split("|")[0] for line in ran(tmp_path)] == ["hold", "hold", "waits"]
    assert len(set(ran(tmp_path))) == 2


def kills(folder: Path, count: int, seed: int) -> None:
    """Kill a server `count` times at any moment; then nothing acknowledged is lost, nothing is doubled, no file is half."""
    draw, acknowledged = random.Random(seed), []
    for round_ in range(count):
        server = Server(folder)
        timer = threading.Timer(draw.uniform(0, 0.6), server.process.kill)
        for i in range(4):
            job_id = f"{round_}-{i}"
            if i == 1:  # on the slowest machine, too, there is something to be lost
                timer.start()
            if server.ask("submit", job_id, "", round_ * 100 + i * 10, 2) == job_id:
                acknowledged.append((job_id, round_ * 100 + i * 10))
        timer.join()
        server.close()
    server = Server(folder)
    for job_id, first in acknowledged:
        assert server.ask("wait", job_id) == ["done", [first, first + 1], ""]
    server.close()
    assert len(acknowledged) >= count
    check_folder(folder)


def check_folder(folder: Path, doubles: bool = False) -> None:
    """doubles: two jobs may have made the same picture."""
    connection = sqlite3.connect(folder / "easel.sqlite3")
    assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    rows = connection.execute("SELECT path, infotext, job FROM pictures").fetchall()
    connection.close()
    files = list((folder / "outputs").rglob("*.*"))
    assert sorted(str(file.relative_to(folder / "outputs")) for file in files) == sorted(path for path, _, _ in rows)
    for path, infotext, _ in rows:
        assert read_infotext(folder / "outputs" / path).text == infotext
    assert max(Counter((infotext, job if doubles else "") for _, infotext, job in rows).values()) == 1


def test_kills_at_any_moment_lose_and_double_nothing(tmp_path: Path) -> None:
    kills(tmp_path, 4, seed=1)


@pytest.mark.slow
def test_fifty_kills_lose_and_double_nothing(tmp_path: Path) -> None:
    kills(tmp_path, 50, seed=int(time.time()))
