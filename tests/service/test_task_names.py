"""webui/service/task_names.py, over the real queue."""

import pytest

from tests.service.handlers import small
from webui.service import task_names
from webui.service.database import Database
from webui.service.queue import JobQueue
from webui.service.task_names import TaskNames


@pytest.fixture
def queue(database: Database) -> JobQueue:
    return JobQueue(database)


def submit(queue: JobQueue, names: TaskNames, name: str) -> str:
    job_id = names.new_job(name)
    queue.add(job_id, "", small(), True)
    return job_id


def test_the_first_job_of_a_name_has_it_as_its_id(queue: JobQueue) -> None:
    names = TaskNames(queue)
    assert submit(queue, names, "task(a)") == names.job("task(a)") == names.name("task(a)") == "task(a)"


def test_a_name_that_is_used_again_means_its_newest_job(queue: JobQueue) -> None:
    names = TaskNames(queue)
    ids = [submit(queue, names, "same") for _ in range(3)]
    assert len(set(ids)) == 3
    assert names.job("same") == ids[-1]
    assert names.name(ids[-1]) == "same"
    assert [names.name(job_id) for job_id in ids[:2]] == ids[:2]


def test_a_name_from_before_the_last_start_can_be_used_again(queue: JobQueue) -> None:
    submit(queue, TaskNames(queue), "same")
    names = TaskNames(queue)
    assert names.job("same") == "same"
    again = submit(queue, names, "same")
    assert again != "same"
    assert names.job("same") == again


def test_malformed_names_stay_as_they_are_to_be_refused(queue: JobQueue) -> None:
    names = TaskNames(queue)
    assert [names.new_job(name) for name in ("../x", "../x", "")] == ["../x", "../x", ""]


def test_the_newest_names_are_kept(queue: JobQueue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(task_names, "KEPT", 2)
    names = TaskNames(queue)
    first = [submit(queue, names, name) for name in ("a", "a", "b", "c")][1]
    assert names.name(first) == first
    assert names.job("a") == "a"
