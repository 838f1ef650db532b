"""webui/service/queue.py."""

import random
import secrets
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.service.handlers import small
from webui.core.errors import BadRequest, Busy, MissingModel
from webui.core.model_orders import MergeRecipe, SaveOrder
from webui.core.request import GenerationRequest, InitImage, Inpaint
from webui.service.database import Database
from webui.service.queue import MAX_OVERTAKEN, MAX_RESTARTS, JobQueue


@pytest.fixture
def queue(database: Database) -> JobQueue:
    return JobQueue(database)


def add(queue: JobQueue, *ids: str) -> None:
    """Jobs whose owner is the first letter of their id."""
    for job_id in ids:
        queue.add(job_id, job_id[0], small(prompt=job_id), True)


def take_all(queue: JobQueue) -> list[str]:
    taken = []
    while (row := queue.take()) is not None:
        taken.append(row.id)
        queue.finish(row.id, "done", row.seq + 1)
    return taken


def take_all_as_a_worker(queue: JobQueue) -> list[str]:
    """Each time telling what the last job has loaded."""
    taken, loaded = [], None
    while (row := queue.take(loaded)) is not None:
        taken.append(row.id)
        loaded = (row.request.checkpoint, row.request.vae)
        queue.finish(row.id, "done", row.seq + 1)
    return taken


def add_with(queue: JobQueue, *jobs: tuple[str, str]) -> None:
    """(id, checkpoint) each; the owner is the first letter of the id."""
    for job_id, checkpoint in jobs:
        queue.add(job_id, job_id[0], small(checkpoint=checkpoint, vae="None"), True)


def test_neighbours_with_the_same_checkpoint_go_together(queue: JobQueue) -> None:
    add_with(queue, ("a1", "X"), ("a2", "Y"), ("a3", "X"), ("a4", "Y"))
    assert take_all_as_a_worker(queue) == ["a1", "a3", "a2", "a4"]


def test_another_vae_is_no_neighbour(queue: JobQueue) -> None:
    for number, vae in enumerate(("None", "v.pt", "None")):
        queue.add(f"a{number}", "a", small(checkpoint="X", vae=vae), True)
    assert take_all_as_a_worker(queue) == ["a0", "a2", "a1"]


def test_no_job_is_overtaken_too_often(queue: JobQueue) -> None:
    add_with(queue, ("a0", "X"), ("a1", "Y"), *((f"a{number}", "X") for number in range(2, 10)))
    taken = take_all_as_a_worker(queue)
    assert taken.index("a1") == 1 + MAX_OVERTAKEN


def test_owners_take_turns_whatever_is_loaded(queue: JobQueue) -> None:
    add_with(queue, ("a1", "X"), ("a2", "X"), ("a3", "X"), ("b1", "Y"), ("b2", "X"))
    assert [job_id[0] for job_id in take_all_as_a_worker(queue)] == ["a", "b", "a", "b", "a"]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(jobs=st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from("XYZ")), max_size=14))
def test_every_job_is_taken_once_and_overtaken_by_few_of_its_owner(queue: JobQueue, jobs: list[tuple[str, str]]) -> None:
    ids = [f"{owner}{secrets.token_hex(6)}" for owner, _ in jobs]
    add_with(queue, *zip(ids, (checkpoint for _, checkpoint in jobs), strict=True))
    taken = take_all_as_a_worker(queue)
    assert sorted(taken) == sorted(ids)
    for place, job_id in enumerate(taken):
        younger = [other for other in taken[:place] if other[0] == job_id[0] and ids.index(other) > ids.index(job_id)]
        assert len(younger) <= MAX_OVERTAKEN


def test_the_request_comes_out_as_it_went_in(queue: JobQueue) -> None:
    request = replace(
        small(prompt="ünïcode \x00 🎨", seed=2**63 - 1, cfg_scale=7.123456789),
        init=InitImage(image="a" * 64, inpaint=Inpaint(mask="b" * 64)),
    )
    queue.add("a", "", request, False)
    row = queue.take()
    assert row is not None
    assert row.request == request
    assert row.save is False


def test_owners_take_turns(queue: JobQueue) -> None:
    add(queue, "a1", "a2", "a3", "a4", "b1", "b2", "c1")
    assert take_all(queue) == ["a1", "b1", "c1", "a2", "b2", "a3", "a4"]


def test_a_newcomer_comes_before_the_second_job_of_others(queue: JobQueue) -> None:
    add(queue, "a1", "a2", "a3")
    assert queue.take().id == "a1"  # type: ignore[union-attr]
    add(queue, "b1")
    assert take_all(queue) == ["b1", "a2", "a3"]


def test_ahead_counts_exactly_the_jobs_that_are_taken_before(queue: JobQueue) -> None:
    draw = random.Random(5)
    for round_ in range(6):
        add(queue, *(f"{draw.choice('abcd')}{round_}-{i}" for i in range(9)))
        foretold = {job_id: queue.ahead(queue.get(job_id)) for _, job_id in queue.waiting()}
        if round_ % 2:
            for place, job_id in enumerate(take_all(queue)):
                assert foretold[job_id] == place
        else:
            for place in range(4):
                row = queue.take()
                assert row is not None
                assert foretold[row.id] == place
                queue.finish(row.id, "done", row.seq + 1)


def test_a_running_job_is_ahead_of_all_that_wait(queue: JobQueue) -> None:
    add(queue, "a1", "b1")
    queue.take()
    assert queue.ahead(queue.get("b1")) == 1
    assert queue.ahead(queue.get("a1")) == 0


def test_an_id_that_is_taken_is_refused(queue: JobQueue) -> None:
    add(queue, "a1")
    with pytest.raises(BadRequest, match="a1"):
        add(queue, "a1")
    assert take_all(queue) == ["a1"]


def test_a_full_queue_refuses_until_a_job_is_taken(database: Database) -> None:
    queue = JobQueue(database, limit=2)
    add(queue, "a1", "a2")
    with pytest.raises(Busy, match="2 jobs wait"):
        add(queue, "b1")
    queue.take()
    add(queue, "b1")


def test_a_cancelled_job_is_never_taken(queue: JobQueue) -> None:
    add(queue, "a1", "a2")
    assert queue.cancel("a1")
    assert take_all(queue) == ["a2"]
    assert queue.get("a1").status == "interrupted"


def test_a_running_job_cannot_be_cancelled(queue: JobQueue) -> None:
    add(queue, "a1")
    queue.take()
    assert not queue.cancel("a1")
    assert queue.get("a1").status == "running"


def test_what_ran_at_the_end_waits_again_after_recovery(queue: JobQueue) -> None:
    add(queue, "a1", "a2")
    before = queue.take()
    queue.recover()
    again = queue.take()
    assert before is not None
    assert again is not None
    assert again.id == "a1"
    assert again.request == before.request
    assert again.seq > before.seq + 1000


def test_a_job_that_ended_the_server_too_often_fails_with_a_sentence(queue: JobQueue) -> None:
    add(queue, "a1")
    for _ in range(MAX_RESTARTS):
        assert queue.take() is not None
        queue.recover()
    row = queue.get("a1")
    assert row.status == "failed"
    assert "submit it again" in row.error
    assert queue.take() is None


def test_recovery_leaves_waiting_and_ended_jobs_alone(queue: JobQueue) -> None:
    add(queue, "a1", "a2")
    queue.take()
    queue.finish("a1", "failed", 9, "no", 507, error_name="StorageError")
    for _ in range(MAX_RESTARTS + 1):
        queue.recover()
    assert (queue.get("a1").status, queue.get("a1").error, queue.get("a1").error_status) == ("failed", "no", 507)
    assert queue.get("a1").error_name == "StorageError"
    assert queue.get("a2").status == "queued"


def test_a_missing_job_is_a_sentence(queue: JobQueue) -> None:
    with pytest.raises(MissingModel, match="nobody"):
        queue.get("nobody")


def test_a_damaged_row_does_not_stop_the_queue(queue: JobQueue, database: Database) -> None:
    add(queue, "a1", "a2")
    with database.write() as connection:
        connection.execute("UPDATE jobs SET request = '{broken' WHERE id = 'a1'")
    row = queue.take()
    assert row is not None
    assert row.request == GenerationRequest()
    assert take_all(queue) == ["a2"]


def test_order_does_not_depend_on_the_clock(queue: JobQueue, database: Database) -> None:
    add(queue, "a1", "a2", "a3")
    with database.write() as connection:
        connection.execute("UPDATE jobs SET created = created - 31536000 WHERE id = 'a3'")
    assert take_all(queue) == ["a1", "a2", "a3"]


def test_a_job_that_is_given_back_does_not_let_others_be_overtaken_more_often(queue: JobQueue) -> None:
    for number, checkpoint in enumerate("CBAAAAAA"):
        queue.add(f"{checkpoint}{number}", "o", small(checkpoint=checkpoint, vae="None"), True)
    first = queue.take()  # by one worker, while another takes its neighbours
    taken = [queue.take(("A", "None")) for _ in range(MAX_OVERTAKEN)]
    assert first is not None
    queue.give_back(first.id, first.seq + 1, died=True)
    taken += [queue.take(("A", "None")) for _ in range(2)]
    assert [row.id for row in taken if row] == ["A2", "A3", "A4", "C0", "B1"]


def test_other_kinds_of_jobs_come_back_as_they_were(queue: JobQueue) -> None:
    orders = [MergeRecipe(primary="a", secondary="b"), SaveOrder(checkpoint="a", name="b")]
    for order in orders:
        queue.add(order.title.split()[0], "o", order, True)
    assert [row.request for row in (queue.take(), queue.take()) if row] == orders
