"""webui/service/worker.py."""

from typing import Any

from tests.service.conftest import PATIENCE, until
from tests.service.handlers import small
from webui.core.event import Finished, Pictures
from webui.core.settings import Settings
from webui.service.worker import Ending, JobControl, MemoryQuestion, Waker, WorkerProcess


def test_signals_reach_only_the_job_they_name(settings: Settings) -> None:
    process, waker = WorkerProcess("tests.service.handlers:make", settings), Waker()

    def hear() -> Any:
        message = process.receive(waker, PATIENCE)
        assert message is not None
        return message

    def events_of(job_id: str) -> list[Any]:
        heard = [hear()]
        while not isinstance(heard[-1][2], Finished):
            heard.append(hear())
        assert {(word, of) for word, of, _ in heard} == {("event", job_id)}
        return [event for _, _, event in heard]

    assert hear() == ("ready",)
    process.send("run", "first", small(), False, 1)
    assert events_of("first")[-1] == Finished()
    process.send("run", "second", small(prompt="hold"), False, 1)
    process.send("interrupt", "first")
    process.send("skip", "first")
    until(lambda: (settings.data_dir / "holding").exists())
    (settings.data_dir / "go").touch()
    events = events_of("second")
    assert events[-1] == Finished()
    assert any(isinstance(event, Pictures) for event in events)
    process.send("ask", MemoryQuestion())
    word, told = hear()
    assert (word, told[0]["device"]) == ("answer", "Abacus")
    assert process.end() == Ending("the worker process ended with exit status 0", to_blame=True)
    waker.close()


def test_a_question_is_answered_in_the_middle_of_a_job(settings: Settings) -> None:
    process, waker = WorkerProcess("tests.service.handlers:make", settings), Waker()
    assert process.receive(waker, PATIENCE) == ("ready",)
    process.send("run", "first", small(prompt="hold"), False, 1)
    until(lambda: (settings.data_dir / "holding").exists())
    process.send("ask", MemoryQuestion())
    words = []
    while "answer" not in words:
        message = process.receive(waker, PATIENCE)
        assert message is not None
        words.append(message[0])
    assert not any(isinstance(part, Finished) for part in message)
    process.end()
    waker.close()


def test_a_waker_never_blocks_and_wakes_once() -> None:
    waker = Waker()
    for _ in range(100_000):
        waker.set()
    assert waker.connection.poll()
    waker.clear()
    assert not waker.connection.poll()
    waker.close()
    waker.set()


def test_each_skip_is_taken_once() -> None:
    control = JobControl("a", previews=False, every=1)
    control.hear("skip")
    control.hear("skip")
    assert [control.take_skip() for _ in range(3)] == [True, True, False]
    assert not control.interrupted


def test_previews_come_every_so_many_steps_once_somebody_looks() -> None:
    control = JobControl("a", previews=False, every=3)
    assert not control.previews
    control.hear("previews")
    wanted = []
    for control.step in range(1, 8):
        wanted.append(control.previews)
    assert wanted == [False, False, True, False, False, True, False]


def test_the_worker_finds_no_torch_before_its_factory_brings_it(settings: Settings) -> None:
    process, waker = WorkerProcess("tests.service.handlers:make", settings), Waker()
    assert process.receive(waker, PATIENCE) == ("ready",)
    assert (settings.data_dir / "torch.txt").read_text() == "False"
    process.end()
    waker.close()
