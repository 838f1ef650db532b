"""The worker: takes one job after another, runs its handler, tells the events; holds engine and weights. Here as a process of its own.

Words to the worker: ("run", key, request, previews, every), ("interrupt" | "skip" | "previews", key), ("ask", question), and ("do", key,
order): done like a job, in its turn, but no signal reaches it.
From it: ("ready",), ("broken", sentence), ("event", key, event), ("answer", what the handler yielded), also in the middle of a job. A key
names one try of a job.
When the pipe ends, the other side is gone: the worker then leaves at once, also in the middle of a job.
"""

import importlib
import logging
import multiprocessing
import os
import queue
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any, Protocol

from webui.core.errors import EaselError, EngineError, OutOfMemory
from webui.core.event import Control, Event, Failed, Finished, Progress
from webui.core.logs import start_log
from webui.core.settings import Settings

Handler = Callable[[Any, Control], Iterator[Any]]
Message = tuple[Any, ...]
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class MemoryQuestion:
    """Its handler yields one dictionary: names "device" and "host" for people, "pid", and "ram" and "cuda" as in /sdapi/v1/memory."""


@dataclass(frozen=True)
class Ending:
    """How a worker ended: why, for people, and whether it may have died of the job that it had."""

    reason: str
    to_blame: bool


class Worker(Protocol):
    """The server's handle on one worker. `send` may be called by any thread, the rest by its supervisor."""

    def send(self, *message: Any) -> None:
        """Send one message; silently nothing when the worker is gone, for its supervisor notices that by itself."""
        ...

    def receive(self, waker: "Waker", timeout: float | None) -> Message | None:
        """The next message; None when the waker was set or the time is over. Raises EOFError when the worker is gone."""
        ...

    def end(self) -> Ending:
        """End the worker if it still lives, and tell how it ended."""
        ...


class Waker:
    """An event that can be waited for together with pipes."""

    def __init__(self) -> None:
        self.connection, self._writer = multiprocessing.Pipe(duplex=False)
        self._lock = threading.Lock()
        self._is_set = False

    def set(self) -> None:
        """Wake the one who waits; never blocks."""
        with self._lock:
            if not self._is_set:
                self._is_set = True
                self._writer.send_bytes(b"w")

    def clear(self) -> None:
        """Be ready for the next time."""
        with self._lock:
            if self._is_set:
                self._is_set = False
                self.connection.recv_bytes()

    def close(self) -> None:
        """Give the pipe back."""
        with self._lock:
            self._is_set = True
            self._writer.close()
            self.connection.close()


class WorkerProcess:
    """A Worker in a process of its own."""

    def __init__(self, factory: str, settings: Settings):
        """factory: "module:function" that is called in the new process with `settings` and returns {request type: handler}."""
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._sending = threading.Lock()
        self._process = context.Process(target=work, args=(theirs, factory, settings), name="easel-worker", daemon=True)
        self._process.start()
        theirs.close()

    def send(self, *message: Any) -> None:
        with self._sending:
            try:
                self._connection.send(message)
            except OSError:
                return

    def receive(self, waker: Waker, timeout: float | None) -> Message | None:
        found = wait([self._connection, waker.connection, self._process.sentinel], timeout)
        if self._connection in found:
            try:
                message: Message = self._connection.recv()
            except OSError as error:
                raise EOFError from error
            return message
        if waker.connection in found:
            waker.clear()
            return None
        if self._process.sentinel in found:
            raise EOFError
        return None

    def end(self) -> Ending:
        with self._sending:
            self._connection.close()  # the worker leaves when it sees this
        self._process.join(2)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        code = self._process.exitcode or 0
        self._process.close()
        return Ending(_ending(code), to_blame=code != -signal.SIGTERM)


class JobControl:
    """What the running job asks after every step; set by the listening thread."""

    def __init__(self, job_id: str, previews: bool, every: int):
        """every: steps between two previews."""
        self.job_id = job_id
        self._wanted = previews
        self._every = max(every, 1)
        self._interrupted = False
        self._skips: queue.SimpleQueue[None] = queue.SimpleQueue()
        self.step = 0  # of the latest Progress

    @property
    def interrupted(self) -> bool:
        """True: stop after this step; finished pictures are kept."""
        return self._interrupted

    @property
    def previews(self) -> bool:
        """Whether a preview of this step is wanted."""
        return self._wanted and self.step % self._every == 0

    def take_skip(self) -> bool:
        """True once for each Skip."""
        try:
            self._skips.get_nowait()
        except queue.Empty:
            return False
        return True

    def hear(self, word: str) -> None:
        """Take in a signal from the server."""
        if word == "interrupt":
            self._interrupted = True
        elif word == "skip":
            self._skips.put(None)
        elif word == "previews":
            self._wanted = True


def work(connection: Connection, factory: str, settings: Settings) -> None:
    """The life of a worker process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl+C reaches the whole group; the server decides
    start_log(settings.loglevel, "%(levelname)s worker: %(message)s")
    telling = threading.Lock()

    def tell(*message: Any) -> None:
        try:
            with telling:
                connection.send(message)
        except OSError:
            os._exit(0)  # the server is gone

    workshop = Workshop(tell)
    threading.Thread(target=_listen, args=(connection, workshop), name="listen", daemon=True).start()
    workshop.run(factory, settings)


def _listen(connection: Connection, workshop: "Workshop") -> None:
    while True:
        try:
            message = connection.recv()
        except (EOFError, OSError):
            os._exit(0)  # the server is gone or wants no more
        workshop.hear(*message)


class Workshop:
    """What goes on inside a worker, whatever carries the words: one thread runs, another one hears."""

    def __init__(self, tell: Callable[..., None]):
        """tell: sends one message to the server; called by both threads."""
        self._tell = tell
        self._handlers: Mapping[type, Handler] = {}
        self._inbox: queue.SimpleQueue[tuple[object, JobControl]] = queue.SimpleQueue()
        self._current = JobControl("", False, 1)

    def run(self, factory: str, settings: Settings) -> None:
        """Do jobs for ever; returns only where the handlers cannot be made."""
        try:
            module, _, name = factory.partition(":")
            self._handlers = getattr(importlib.import_module(module), name)(settings)
        except Exception as error:
            log.exception("the worker could not start")
            self._tell("broken", _failure(error).message)
            return
        self._tell("ready")
        while True:
            request, control = self._inbox.get()
            self._do(self._handlers.get(type(request)), request, control)

    def hear(self, word: str, what: Any, *rest: Any) -> None:
        """Take in one message: a job is put aside, a question answered, a signal given to the job it names; late ones are dropped."""
        if word == "run":
            request, previews, every = rest
            self._current = JobControl(what, previews, every)
            self._inbox.put((request, self._current))
        elif word == "do":
            self._inbox.put((rest[0], JobControl(what, previews=False, every=1)))
        elif word == "ask":
            self._tell("answer", self._answers(what))
        elif what == self._current.job_id:
            self._current.hear(word)

    def _answers(self, question: object) -> list[Any]:
        handler = self._handlers.get(type(question))
        try:
            return list(handler(question, JobControl("", False, 1))) if handler else []
        except Exception:
            log.exception("a question could not be answered")
            return []

    def _do(self, handler: Handler | None, request: object, control: JobControl) -> None:
        """Run one job and tell all that it tells; the last event is always Finished or Failed."""
        for event in _events(handler, request, control):
            if isinstance(event, Progress):
                control.step = event.step
            self._tell("event", control.job_id, event)


def _events(handler: Handler | None, request: object, control: JobControl) -> Iterator[Event]:
    try:
        if handler is None:
            raise EngineError(f"this worker cannot run a {type(request).__name__}")
        events: Any = handler(request, control)
        with closing(events):
            for event in events:
                yield event
                if isinstance(event, Finished | Failed):
                    return
    except Exception as error:
        if not isinstance(error, EaselError):
            log.exception("a job failed")
        yield _failure(error)
        return
    yield Finished(interrupted=control.interrupted)


def _failure(error: Exception) -> Failed:
    if isinstance(error, EaselError):
        return Failed(str(error), error.status, type(error).__name__)
    if isinstance(error, MemoryError):
        return Failed("main memory ran out; try a smaller size or batch", OutOfMemory.status, OutOfMemory.__name__)
    return Failed(f"generation failed: {type(error).__name__}: {error}"[:2000], EngineError.status)


def _ending(code: int) -> str:
    if code < 0:
        return f"the worker process was killed by signal {-code}" + (", often for lack of memory" if code == -9 else "")
    return f"the worker process ended with exit status {code}"
