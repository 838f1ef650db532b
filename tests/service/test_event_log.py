"""webui/service/event_log.py and the queue's part in it: ids that rise over restarts, nothing missed, nothing twice."""

import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.service.handlers import small
from tests.service.test_service import done
from webui.core.errors import StorageError
from webui.service.database import Database, open_database
from webui.service.event_log import EventLog
from webui.service.migrations import MIGRATIONS
from webui.service.queue import JobQueue
from webui.service.service import Service


@pytest.fixture
def queue(database: Database) -> JobQueue:
    return JobQueue(database)


def statuses(queue: JobQueue, cursor: int, owner: str | None = None) -> list[tuple[str, str]]:
    return [(event.facts["job"], event.facts["status"]) for event in queue.events_after(cursor, owner)]


def test_what_happens_is_told_in_order_and_ids_rise(queue: JobQueue) -> None:
    start = queue.log.last
    queue.add("a1", "a", small(), True)
    queue.take()
    queue.finish("a1", "done", 9)
    assert statuses(queue, start) == [("a1", "queued"), ("a1", "running"), ("a1", "done")]
    ids = [event.id for event in queue.events_after(start, None)]
    assert ids == sorted(set(ids))
    assert statuses(queue, ids[0]) == [("a1", "running"), ("a1", "done")]


def test_nobody_reads_of_anothers_jobs(queue: JobQueue) -> None:
    start = queue.log.last
    queue.add("a1", "a", small(), True)
    queue.add("b1", "b", small(), True)
    assert statuses(queue, start, "b") == [("b1", "queued")]


def test_who_was_away_over_a_restart_reads_each_jobs_latest_state_once(queue: JobQueue, database: Database) -> None:
    for name in ("a1", "a2", "a3"):
        queue.add(name, "a", small(), True)
    cursor = queue.log.last
    queue.take()
    queue.finish("a1", "done", 9)
    queue.cancel("a3")
    again = JobQueue(database)
    events = again.events_after(cursor, "a")
    assert [(event.facts["job"], event.facts["status"]) for event in events] == [("a1", "done"), ("a3", "interrupted")]
    again.take()
    assert statuses(again, events[-1].id, "a") == [("a2", "running")]


def test_what_was_told_but_not_stored_before_a_kill_does_not_hide_what_comes_after(queue: JobQueue, database: Database) -> None:
    queue.add("a1", "a", small(), True)
    for _ in range(3):
        queue.log.tell("queue", "*", {})
    cursor = queue.log.last
    again = JobQueue(database)  # nothing is stored in this life
    again.log.tell("queue", "*", {"last": True})
    third = JobQueue(database)
    third.log.tell("queue", "*", {"newest": True})
    assert [event.facts for event in again.events_after(cursor, "a")] == [{"last": True}]
    assert [event.facts for event in third.events_after(again.log.last, "a")] == [{"newest": True}]


def test_events_that_left_the_memory_are_read_from_the_rows(queue: JobQueue) -> None:
    queue.log = EventLog(queue.log.last, kept=3)
    start = queue.log.last
    for number in range(5):
        queue.add(f"a{number}", "a", small(), True)
    assert [job for job, _ in statuses(queue, start)] == ["a0", "a1", "a2", "a3", "a4"]
    queue.cancel("a0")
    assert [job for job, _ in statuses(queue, start)] == ["a1", "a2", "a3", "a4", "a0"]


def test_a_cursor_of_another_database_counts_as_none(queue: JobQueue) -> None:
    queue.add("a1", "a", small(), True)
    assert statuses(queue, queue.log.last + 1) == statuses(queue, -5) == [("a1", "queued")]


def test_a_change_that_fails_tells_nothing(queue: JobQueue) -> None:
    start = queue.log.last
    with pytest.raises(StorageError), queue.change() as change:
        change.connection.execute("UPDATE nowhere SET status = 'done'")
    assert queue.events_after(start, None) == []


def test_readers_miss_nothing_while_many_write(queue: JobQueue) -> None:
    start = queue.log.last
    seen: list[str] = []
    finished = threading.Event()

    def read() -> None:
        cursor = start
        while not finished.is_set() or queue.log.last > cursor:
            for event in queue.events_after(cursor, None):
                cursor = event.id
                if event.kind == "job":
                    seen.append(event.facts["job"])

    def write(owner: str) -> None:
        for number in range(15):
            queue.add(f"{owner}{number}", owner, small(), True)
            queue.log.tell("progress", owner, {"job": owner})

    reader = threading.Thread(target=read)
    reader.start()
    writers = [threading.Thread(target=write, args=(owner,)) for owner in "abc"]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    finished.set()
    reader.join()
    assert sorted(seen) == sorted(f"{owner}{number}" for owner in "abc" for number in range(15))


def test_progress_is_told_seldom_and_each_status_at_once() -> None:
    log = EventLog(0)
    for status in ("running", "running", "saving", "saving", "running"):
        log.tell_progress("a", {"job": "a1", "status": status})
    assert [event.facts["status"] for event in log.after(0)[1]] == ["running", "saving", "running"]


def test_a_job_is_seen_to_wait_run_save_and_end(make_service: Callable[..., Service]) -> None:
    service = make_service()
    start = service.log.last
    done(service, service.submit(small(prompt="x", batch_count=2), owner="me"))
    told = [event.facts["status"] for event in service.events_after(start, "me") if event.kind != "queue"]
    changes = [status for at, status in enumerate(told) if at == 0 or told[at - 1] != status]
    assert changes == ["queued", "running", "saving", "running", "saving", "done"]


def test_listeners_are_woken_until_they_leave() -> None:
    log, woken = EventLog(0), []
    leave = log.watch(lambda: woken.append(1))
    log.tell("queue", "*", {})
    log.close()
    leave()
    log.tell("queue", "*", {})
    assert len(woken) == 2
    assert log.closed


def test_a_database_of_an_earlier_version_gets_places_and_events(tmp_path: Path) -> None:

    path = tmp_path / "easel.sqlite3"
    old = sqlite3.connect(path)
    before = next(number for number, script in enumerate(MIGRATIONS) if "ADD COLUMN listed" in script)
    for script in MIGRATIONS[:before]:
        old.executescript(script)
    old.executescript(
        f"PRAGMA user_version = {before}; INSERT INTO jobs (id, owner, status, request, save, created)"
        " VALUES ('x', 'a', 'queued', '{}', 1, 0), ('y', 'a', 'queued', '{}', 1, 0), ('z', 'a', 'done', '{}', 1, 0)"
    )
    old.close()
    database, _ = open_database(path)
    queue = JobQueue(database)
    assert queue.waiting() == [("a", "x"), ("a", "y")]
    assert statuses(queue, 0) == [("x", "queued"), ("y", "queued"), ("z", "done")]
    database.close()
