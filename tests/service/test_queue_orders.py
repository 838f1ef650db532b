"""webui/service/queue_orders.py: what people may do with jobs that wait or have ended."""

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tests.service.conftest import until
from tests.service.handlers import ran, small
from tests.service.test_service import done, go
from tests.service.test_supervisor import Server, check_folder
from webui.core.errors import BadRequest, Busy, MissingModel, NotAllowed, TooLate
from webui.core.job_request import JobRequest
from webui.core.model_orders import SaveOrder
from webui.service.database import Database, open_database
from webui.service.job import Job, stored_job
from webui.service.queue import MAX_RESTARTS, JobQueue, JobRow
from webui.service.queue_orders import QueueOrders
from webui.service.service import Service


def orders_for(queue: JobQueue, completed: Callable[[JobRequest], JobRequest] = lambda request: request) -> QueueOrders:
    def seen(find: Callable[[], Sequence[JobRow]]) -> list[Job]:
        return [stored_job(row, (), queue.ahead(row), "ready") for row in find()]

    return QueueOrders(queue, completed, seen, lambda: None)


@pytest.fixture
def queue(database: Database) -> JobQueue:
    return JobQueue(database)


@pytest.fixture
def orders(queue: JobQueue) -> QueueOrders:
    return orders_for(queue)


def add(queue: JobQueue, *ids: str) -> None:
    """Jobs whose owner is the first letter of their id."""
    for job_id in ids:
        queue.add(job_id, job_id[0], small(prompt=job_id, seed=5), True)


def waiting(queue: JobQueue) -> list[str]:
    return [job_id for _, job_id in queue.waiting()]


@pytest.mark.parametrize(
    ("to", "expected"),
    [("top", "a3 a1 a2 a4"), ("up", "a1 a3 a2 a4"), ("down", "a1 a2 a4 a3"), ("bottom", "a1 a2 a4 a3")],
)
def test_a_job_moves_among_its_owners(queue: JobQueue, orders: QueueOrders, to: str, expected: str) -> None:
    add(queue, "a1", "a2", "a3", "a4")
    orders.move("a3", to, "a")
    assert " ".join(waiting(queue)) == expected


@pytest.mark.parametrize(("job", "to"), [("a1", "up"), ("a1", "top"), ("a2", "down"), ("a2", "bottom")])
def test_a_move_beyond_the_end_changes_nothing(queue: JobQueue, orders: QueueOrders, job: str, to: str) -> None:
    add(queue, "a1", "a2")
    orders.move(job, to, "a")
    assert waiting(queue) == ["a1", "a2"]


def test_a_job_moves_before_another(queue: JobQueue, orders: QueueOrders) -> None:
    add(queue, "a1", "a2", "a3")
    orders.move_before("a3", "a2", "a")
    assert waiting(queue) == ["a1", "a3", "a2"]
    orders.move_before("a1", "a1", "a")
    assert waiting(queue) == ["a1", "a3", "a2"]


def test_moving_takes_nobody_elses_turn(queue: JobQueue, orders: QueueOrders) -> None:
    add(queue, "a1", "b1", "a2", "b2", "a3")
    orders.move("a3", "top", "a")
    assert waiting(queue) == ["a3", "b1", "a1", "b2", "a2"]
    with pytest.raises(BadRequest, match="take turns"):
        orders.move_before("a3", "b1", None)


def test_a_moved_job_takes_over_the_priority_that_its_place_needs(queue: JobQueue, orders: QueueOrders) -> None:
    add(queue, "a1", "a2", "a3")
    orders.prioritise("a1", "high", "a")
    orders.move("a3", "top", "a")
    assert waiting(queue) == ["a3", "a1", "a2"]
    assert queue.get("a3").priority == 1
    orders.move("a3", "bottom", "a")
    assert (waiting(queue), queue.get("a3").priority) == (["a1", "a2", "a3"], 0)


def test_an_order_that_somebody_chose_is_not_changed_for_a_loaded_checkpoint(queue: JobQueue, orders: QueueOrders) -> None:
    for name, checkpoint in (("a1", "X"), ("a2", "X"), ("a3", "Y")):
        queue.add(name, "a", small(checkpoint=checkpoint, vae="None"), True)
    orders.move("a3", "top", "a")
    row = queue.take(("X", "None"))
    assert row is not None
    assert row.id == "a3"


def test_a_neighbour_of_another_priority_overtakes_nobody(queue: JobQueue, orders: QueueOrders) -> None:
    for name, checkpoint in (("a1", "X"), ("a2", "Y")):
        queue.add(name, "a", small(checkpoint=checkpoint, vae="None"), True)
    orders.prioritise("a2", "high", "a")
    row = queue.take(("X", "None"))
    assert row is not None
    assert row.id == "a2"


def test_an_edited_job_keeps_its_place_and_gets_the_new_request(queue: JobQueue, orders: QueueOrders) -> None:
    add(queue, "a1", "a2")
    orders.edit("a1", small(prompt="a cat"), "a")
    orders.edit("a2", SaveOrder(checkpoint="x", name="y"), "a")
    taken = [queue.take(), queue.take()]
    assert [row.request for row in taken if row] == [small(prompt="a cat"), SaveOrder(checkpoint="x", name="y")]


def test_a_job_that_has_begun_or_ended_is_not_changed(queue: JobQueue, orders: QueueOrders) -> None:
    add(queue, "a1")
    assert queue.take() is not None
    for status in ("running", "done"):
        if status == "done":
            queue.finish("a1", "done", 9)
        for order in (
            lambda: orders.edit("a1", small(), "a"),
            lambda: orders.move("a1", "top", "a"),
            lambda: orders.prioritise("a1", "high", "a"),
            lambda: orders.retry("a1", "a"),
        ):
            with pytest.raises(TooLate, match=f"is {status}"):
                order()


def test_nobody_touches_anothers_job(queue: JobQueue, orders: QueueOrders) -> None:
    add(queue, "a1", "a2", "b1")
    queue.cancel("a1")
    for order in (
        lambda: orders.edit("a2", small(), "b"),
        lambda: orders.move("a2", "top", "b"),
        lambda: orders.move_before("b1", "a2", "b"),
        lambda: orders.prioritise("a2", "high", "b"),
        lambda: orders.retry("a1", "b"),
        lambda: orders.duplicate("a1", "b"),
    ):
        with pytest.raises(NotAllowed, match="somebody else"):
            order()
    assert orders.clear("b") == 0
    assert [job.id for job in orders.jobs("b")] == ["b1"]
    assert queue.get("a2").request == small(prompt="a2", seed=5)


def test_who_may_see_all_may_change_all(queue: JobQueue, orders: QueueOrders) -> None:
    add(queue, "a1", "b1")
    orders.edit("a1", small(prompt="x"), None)
    queue.cancel("b1")
    assert [job.id for job in orders.jobs(None)] == ["b1", "a1"]
    assert orders.clear(None) == 1


def test_wrong_words_are_refused_with_the_right_ones(queue: JobQueue, orders: QueueOrders) -> None:
    add(queue, "a1")
    with pytest.raises(BadRequest, match="top, up, down, bottom"):
        orders.move("a1", "left", "a")
    with pytest.raises(BadRequest, match="low, normal, high"):
        orders.prioritise("a1", "urgent", "a")
    with pytest.raises(MissingModel, match="no job 'a9'"):
        orders.move("a9", "top", "a")


def test_a_retried_job_waits_at_the_end_with_its_request_and_a_clean_slate(queue: JobQueue, orders: QueueOrders) -> None:
    add(queue, "a1", "a2")
    before = queue.take()
    queue.give_back("a1", 5, died=True)
    queue.take()
    queue.finish("a1", "failed", 9, "it broke", 507, ["look"], "StorageError")
    orders.clear("a")
    orders.retry("a1", "a")
    row = queue.get("a1")
    assert before is not None
    assert (row.status, row.error, row.notices, row.deaths, row.request) == ("queued", "", (), 0, before.request)
    assert row.seq > 9
    assert waiting(queue) == ["a2", "a1"]
    assert [job.id for job in orders.jobs("a")] == ["a2", "a1"]


def test_a_full_queue_takes_no_retry(database: Database) -> None:
    queue = JobQueue(database, limit=1)
    add(queue, "a1")
    queue.cancel("a1")
    add(queue, "a2")
    with pytest.raises(Busy):
        orders_for(queue).retry("a1", "a")
    assert queue.get("a1").status == "interrupted"


def test_a_duplicate_has_the_same_request_or_a_new_seed(queue: JobQueue, orders: QueueOrders) -> None:
    queue.add("a1", "a", small(prompt="a cat", template="a {cat|dog}", seed=5), True)
    orders.prioritise("a1", "high", "a")
    same, other = queue.get(orders.duplicate("a1", "a")), queue.get(orders.duplicate("a1", "a", new_seed=True))
    assert same.request == queue.get("a1").request
    assert (other.request.seed, other.request.prompt, other.request.template) == (-1, "a {cat|dog}", "")  # which completion then decides
    assert (same.owner, same.priority) == ("a", 1)


def test_what_has_no_seed_gets_no_new_one(queue: JobQueue, orders: QueueOrders) -> None:
    queue.add("a1", "a", SaveOrder(checkpoint="x", name="y"), True)
    with pytest.raises(BadRequest, match="no seed"):
        orders.duplicate("a1", "a", new_seed=True)


def test_cleared_jobs_are_off_the_list_and_still_there(queue: JobQueue, orders: QueueOrders) -> None:
    add(queue, "a1", "a2")
    queue.cancel("a1")
    assert orders.clear("a") == 1
    assert [job.id for job in orders.jobs("a")] == ["a2"]
    assert queue.get("a1").status == "interrupted"


def test_jobs_are_listed_newest_first_in_pages(queue: JobQueue, orders: QueueOrders) -> None:
    add(queue, "a1", "a2", "a3")
    first = orders.jobs("a", limit=2)
    assert [job.id for job in first] == ["a3", "a2"]
    assert [job.id for job in orders.jobs("a", before=first[-1].number)] == ["a1"]


def test_a_paused_owner_waits_and_others_go_on(queue: JobQueue, orders: QueueOrders) -> None:
    add(queue, "a1", "b1")
    orders.pause("a")
    row = queue.take()
    assert row is not None
    assert row.id == "b1"
    assert queue.take() is None
    assert (orders.state("a").paused, orders.state("b").paused) == ("own", "")
    orders.resume("a")
    assert queue.take() is not None


def test_a_paused_queue_gives_nothing_until_it_goes_on(queue: JobQueue, orders: QueueOrders) -> None:
    add(queue, "a1")
    orders.pause(None)
    assert queue.take() is None
    assert orders.state("a").paused == "all"
    orders.resume("a")
    assert queue.take() is None  # it was not theirs to resume
    orders.resume(None)
    assert queue.take() is not None


def test_the_state_counts_own_jobs_or_all(queue: JobQueue, orders: QueueOrders) -> None:
    add(queue, "a1", "a2", "b1")
    queue.take()
    assert (orders.state("a").waiting, orders.state("a").running) == (1, 1)
    assert (orders.state("b").waiting, orders.state("b").running) == (1, 0)
    assert (orders.state(None).waiting, orders.state(None).running) == (2, 1)


class QueueMachine(RuleBasedStateMachine):
    """Any orders in any order, against the simplest model: sets of ids by status, one list per owner and priority."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = TemporaryDirectory()
        self.made = 0
        self.request: dict[str, str] = {}  # id -> prompt
        self.status: dict[str, str] = {}
        self.priority: dict[str, int] = {}
        self.lists: dict[str, list[str]] = {owner: [] for owner in "ab"}  # waiting, in the owner's own order
        self.restarts: Counter[str] = Counter()
        self.told: dict[str, str] = {}  # id -> status, by events alone
        self.open()
        self.cursor = self.queue.log.last

    def open(self) -> None:
        self.database, _ = open_database(Path(self.folder.name) / "easel.sqlite3")
        self.queue = JobQueue(self.database)
        self.orders = orders_for(self.queue)

    def teardown(self) -> None:
        self.database.close()
        self.folder.cleanup()

    def sorted(self, owner: str) -> list[str]:
        return sorted(self.lists[owner], key=lambda job_id: -self.priority[job_id])

    def leave(self, job_id: str) -> None:
        self.lists[job_id[0]].remove(job_id)

    def some(self, data: st.DataObject, *statuses: str) -> str | None:
        ids = [job_id for job_id, status in self.status.items() if status in statuses]
        return data.draw(st.sampled_from(ids)) if ids else None

    @rule(owner=st.sampled_from("ab"), priority=st.sampled_from([-1, 0, 1]))
    def add(self, owner: str, priority: int) -> None:
        self.made += 1
        job_id = f"{owner}{self.made}"
        self.queue.add(job_id, owner, small(prompt=job_id), True, priority)
        self.status[job_id], self.request[job_id], self.priority[job_id] = "queued", job_id, priority
        self.lists[owner].append(job_id)

    @rule()
    def take(self) -> None:
        row = self.queue.take()
        if row is None:
            assert not any(self.lists.values())
            return
        firsts = [self.sorted(owner)[0] for owner in "ab" if self.lists[owner]]
        assert row.id in firsts
        assert row.request.prompt == self.request[row.id]
        assert self.priority[row.id] >= 0 or all(self.priority[job_id] < 0 for job_id in firsts)
        self.leave(row.id)
        self.status[row.id] = "running"

    @rule(data=st.data(), how=st.sampled_from(["done", "failed", "interrupted"]))
    def finish(self, data: st.DataObject, how: str) -> None:
        if job_id := self.some(data, "running"):
            self.queue.finish(job_id, how, self.queue.get(job_id).seq + 1)
            self.status[job_id] = how

    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        if job_id := self.some(data, "queued"):
            assert self.queue.cancel(job_id)
            self.leave(job_id)
            self.status[job_id] = "interrupted"

    @rule(data=st.data())
    def retry(self, data: st.DataObject) -> None:
        if job_id := self.some(data, "failed", "interrupted"):
            self.orders.retry(job_id, job_id[0])
            self.restarts[job_id] = 0
            self.lists[job_id[0]].append(job_id)
            self.status[job_id] = "queued"

    @rule(data=st.data(), to=st.sampled_from(["top", "up", "down", "bottom"]))
    def move(self, data: st.DataObject, to: str) -> None:
        if job_id := self.some(data, "queued"):
            self.orders.move(job_id, to, job_id[0])
            own = self.sorted(job_id[0])
            at = own.index(job_id)
            own.remove(job_id)
            own.insert({"top": 0, "up": max(at - 1, 0), "down": at + 1, "bottom": len(own)}[to], job_id)
            self.lists[job_id[0]] = own
            self.priority[job_id] = self.queue.get(job_id).priority
            assert [self.priority[each] for each in own] == sorted((self.priority[each] for each in own), reverse=True)

    @rule(data=st.data())
    def edit(self, data: st.DataObject) -> None:
        if job_id := self.some(data, "queued"):
            self.request[job_id] += "!"
            self.orders.edit(job_id, small(prompt=self.request[job_id]), job_id[0])

    @rule()
    def restart(self) -> None:
        """As after a kill: nothing is told to the queue before."""
        self.database.close()
        self.open()
        self.queue.recover()
        for job_id in [job_id for job_id, status in self.status.items() if status == "running"]:
            self.restarts[job_id] += 1
            self.status[job_id] = "queued" if self.restarts[job_id] < MAX_RESTARTS else "failed"
            if self.status[job_id] == "queued":
                self.lists[job_id[0]].append(job_id)
        for owner in "ab":  # what ran takes its old place again
            places = {row["id"]: row["place"] for row in self.database.read("SELECT id, place FROM jobs")}
            self.lists[owner].sort(key=lambda job_id: places[job_id])

    @precondition(lambda self: self.made)
    @rule()
    def read_events(self) -> None:
        for event in self.queue.events_after(self.cursor, None):
            assert event.id > self.cursor
            self.cursor = event.id
            self.told[event.facts["job"]] = event.facts["status"]
        assert self.told == {job_id: status for job_id, status in self.status.items() if job_id in self.told}
        assert set(self.told) == set(self.status)

    @invariant()
    def no_job_is_lost_or_doubled(self) -> None:
        rows = self.queue.find(None, None, 1000)
        assert {row.id: row.status for row in rows} == self.status
        assert len(rows) == self.made
        order = waiting(self.queue)
        for owner in "ab":
            assert [job_id for job_id in order if job_id[0] == owner] == self.sorted(owner)


QueueMachine.TestCase.settings = settings(
    max_examples=20, stateful_step_count=30, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
TestQueueAgainstItsModel = QueueMachine.TestCase


# with workers


def test_a_pause_survives_a_restart_and_a_resume_lets_the_job_be_made(make_service: Callable[..., Service]) -> None:
    first = make_service()
    first.queue.pause(None)
    job_id = first.submit(small(prompt="x"))
    assert first.job(job_id).text == "The queue is paused"
    first.stop()
    again = make_service()
    until(lambda: again.worker_state() == "ready")
    assert again.queue.state(None).paused == "all"
    assert again.job(job_id).status == "queued"
    again.queue.resume(None)
    assert done(again, job_id).status == "done"
    assert len(ran(again.settings.data_dir)) == 1


def test_a_retried_job_keeps_its_pictures_and_makes_the_rest(service: Service) -> None:
    job_id = service.submit(small(prompt="hold", seed=7, batch_count=2, steps=1))
    step = service.settings.data_dir / "step"
    for _ in range(2):  # the first batch
        step.touch()
        until(lambda: not step.exists())
    until(lambda: service.job(job_id).pictures)
    service.interrupt(job_id)
    first = done(service, job_id)
    assert (first.status, [picture.seed for picture in first.pictures]) == ("interrupted", [7])
    service.queue.retry(job_id, "")
    go(service)
    until(lambda: service.job(job_id).status == "done")
    again = service.job(job_id)
    assert [picture.seed for picture in again.pictures] == [7, 8]
    assert again.pictures[0] == first.pictures[0]


def test_an_edit_is_completed_like_a_submitted_request(service: Service) -> None:
    service.queue.pause("")
    job_id = service.submit(small(prompt="x", seed=1))
    service.queue.edit(job_id, small(prompt="y"), "")
    request = service.job(job_id).request
    assert (request.checkpoint, request.prompt) == ("small.safetensors", "y")
    assert request.seed >= 0
    with pytest.raises(BadRequest, match="multiple of 8"):
        service.queue.edit(job_id, small(width=65), "")
    assert service.job(job_id).request == request


def test_a_duplicate_with_a_new_seed_makes_another_picture(service: Service) -> None:
    job = done(service, service.submit(small(prompt="x", seed=3)))
    other = done(service, service.queue.duplicate(job.id, "", new_seed=True))
    same = done(service, service.queue.duplicate(job.id, ""))
    assert same.request == job.request
    assert other.request.seed != 3
    assert len({job.id, other.id, same.id}) == 3


# killed at any moment


def orders_amid_kills(folder: Path, count: int, seed: int) -> None:
    """Kill a server `count` times while it is given orders; then each acknowledged order holds, and nothing is lost or doubled."""
    draw = random.Random(seed)
    expected: dict[str, tuple[str, list[int]]] = {}  # id -> how it ends, seeds of its pictures
    server = Server(folder)
    assert server.ask("pause") == "ok"
    server.close()
    for round_ in range(count):
        server = Server(folder)
        timer = threading.Timer(draw.uniform(0, 0.1), server.process.kill)
        first = round_ * 100
        for i in range(4):
            job_id = f"{round_}-{i}"
            if i == 1:  # on the slowest machine, too, there is something to be lost
                timer.start()
            if server.ask("submit", job_id, "", first + i * 10, 1) == job_id:
                expected[job_id] = ("done", [first + i * 10])
        edited, cancelled, copied = f"{round_}-0", f"{round_}-1", f"{round_}-2"
        if edited in expected:  # what was not acknowledged may have happened or not
            told = server.ask("edit", edited, "", first + 50, 2)
            expected[edited] = ("done", [first + 50, first + 51]) if told == "ok" else ("either", [first])
        if copied in expected and (copy := server.ask("duplicate", copied)):
            expected[copy] = expected[copied]
        server.ask("move", f"{round_}-3", "top")
        if cancelled in expected:
            expected[cancelled] = ("interrupted", []) if server.ask("interrupt", cancelled) == "ok" else ("any", [])
            if expected[cancelled][0] != "any" and draw.random() < 0.5:
                expected[cancelled] = ("done", [first + 10]) if server.ask("retry", cancelled) == "ok" else ("any", [])
        timer.join()
        server.close()
    server = Server(folder)
    assert server.ask("resume") == "ok"
    for job_id, (status, seeds) in expected.items():
        ended, made, _ = server.ask("wait", job_id)
        if status == "either":
            assert made in ([seeds[0]], [seeds[0] + 50, seeds[0] + 51])
        elif status != "any":
            assert (ended, made) == (status, seeds)
    server.close()
    assert len(expected) >= count
    check_folder(folder, doubles=True)


def test_kills_amid_orders_lose_and_double_nothing(tmp_path: Path) -> None:
    orders_amid_kills(tmp_path, 4, seed=2)


@pytest.mark.slow
def test_fifty_kills_amid_orders_lose_and_double_nothing(tmp_path: Path) -> None:
    orders_amid_kills(tmp_path, 50, seed=int(time.time()))
