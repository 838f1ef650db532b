"""webui/service/crew.py, over the real queue."""

from dataclasses import dataclass

import pytest

from tests.service.handlers import small
from webui.core.scripts.request import ScriptRequest
from webui.service.crew import Crew
from webui.service.database import Database
from webui.service.queue import MAX_OVERTAKEN, JobQueue

X, Y, Z = ("X", "None"), ("Y", "None"), ("Z", "None")


@dataclass
class Worker:
    """A member that does as it is told."""

    loaded: tuple[str, str] | None = None
    free: bool = True
    woken: int = 0

    def wake(self) -> None:
        self.woken += 1


@pytest.fixture
def queue(database: Database) -> JobQueue:
    return JobQueue(database)


def crew_of(queue: JobQueue, *members: Worker) -> Crew:
    crew = Crew(queue)
    for member in members:
        crew.join(member)
    return crew


def add(queue: JobQueue, job_id: str, models: tuple[str, str]) -> None:
    queue.add(job_id, job_id[0], small(checkpoint=models[0], vae=models[1]), True)


def taken(crew: Crew, member: Worker) -> str | None:
    row = crew.take(member)
    return row.id if row else None


def test_a_job_is_left_to_a_free_worker_that_has_its_checkpoint(queue: JobQueue) -> None:
    with_x, with_y = Worker(X), Worker(Y)
    crew = crew_of(queue, with_x, with_y)
    add(queue, "a1", Y)
    assert taken(crew, with_x) is None
    assert taken(crew, with_y) == "a1"


def test_a_script_is_left_to_a_free_worker_that_has_its_checkpoint(queue: JobQueue) -> None:
    with_x, with_y = Worker(X), Worker(Y)
    crew = crew_of(queue, with_x, with_y)
    queue.add("a1", "a", ScriptRequest(base=small(checkpoint="Y", vae="None"), script="Prompt matrix"), True)
    assert taken(crew, with_x) is None
    assert taken(crew, with_y) == "a1"


def test_nobody_waits_for_a_busy_worker(queue: JobQueue) -> None:
    with_x, with_y = Worker(X), Worker(Y, free=False)
    add(queue, "a1", Y)
    assert taken(crew_of(queue, with_x, with_y), with_x) == "a1"


def test_of_two_workers_with_the_same_checkpoint_either_takes_the_job(queue: JobQueue) -> None:
    first, second = Worker(X), Worker(X)
    crew = crew_of(queue, first, second)
    add(queue, "a1", X)
    assert taken(crew, second) == "a1"


def test_a_job_for_what_nobody_has_is_anybodys(queue: JobQueue) -> None:
    new, with_y = Worker(), Worker(Y)
    crew = crew_of(queue, new, with_y)
    add(queue, "a1", Z)
    assert taken(crew, new) == "a1"


def test_two_checkpoints_in_turns_are_loaded_once_each_by_two_workers(queue: JobQueue) -> None:
    workers = [Worker(), Worker()]
    crew = crew_of(queue, *workers)
    for number in range(12):
        add(queue, f"a{number:02}", X if number % 2 else Y)
    loads = []
    for turn in range(12):
        member = workers[turn % 2]
        row = crew.take(member)
        assert row is not None
        models = (row.request.checkpoint, row.request.vae)  # type: ignore[union-attr]
        loads += [models] if member.loaded != models else []
        member.loaded, member.free = models, True
        queue.finish(row.id, "done", row.seq + 1)
    assert sorted(loads) == [X, Y]


def test_a_job_that_no_worker_has_at_hand_does_not_starve(queue: JobQueue) -> None:
    workers = [Worker(X), Worker(Y)]
    crew = crew_of(queue, *workers)
    add(queue, "a-lonely", Z)
    order = []
    for turn in range(20):
        add(queue, f"a{turn}", X)
        add(queue, f"a{turn}y", Y)
        for member in workers:
            row = crew.take(member)
            if row:
                order.append(row.id)
                queue.finish(row.id, "done", row.seq + 1)
                member.loaded = (row.request.checkpoint, row.request.vae)  # type: ignore[union-attr]
    assert order.index("a-lonely") <= MAX_OVERTAKEN


def test_the_others_are_woken_and_not_oneself(queue: JobQueue) -> None:
    workers = [Worker(), Worker(), Worker()]
    crew_of(queue, *workers).wake_others(workers[1])
    assert [worker.woken for worker in workers] == [1, 0, 1]
