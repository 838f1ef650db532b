"""The worker process: takes one job after another, runs its handler, sends the events; holds engine and weights.

Words on the pipe, to the worker: ("run", key, request, previews, every), ("interrupt" | "skip" | "previews", key), ("ask", question).
From it: ("ready",), ("broken", sentence), ("event", key, event), ("answer", what the handler yielded). A key names one try of a job.
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
from typing import Any

from webui.core.errors import EaselError, EngineError, OutOfMemory
from webui.core.event import Control, Event, Failed, Finished, Progress
from webui.core.logs import start_log
from webui.core.settings import Settings

Handler = Callable[[Any, Control], Iterator[Any]]
Message = tuple[Any, ...]
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class MemoryQuestion:
    """Asked of an idle worker; its handler yields one dictionary for the "cuda" part of /sdapi/v1/memory."""


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
    """The server's handle on one worker process. `send` may be called by any thread, the rest by its supervisor."""

    def __init__(self, factory: str, settings: Settings):
        """factory: "module:function" that is called in the new process with `settings` and returns {request type: handler}."""
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._sending = threading.Lock()
        self._process = context.Process(target=work, args=(theirs, factory, settings), name="easel-worker", daemon=True)
        self._process.start()
        theirs.close()

    def send(self, *message: Any) -> None:
        """Send one message; silently nothing when the worker is gone, for its supervisor notices that by itself."""
        with self._sending:
            try:
                self._connection.send(message)
            except OSError:
                return

    def receive(self, waker: Waker, timeout: float | None) -> Message | None:
        """The next message; None when the waker was set or the time is over. Raises EOFError when the worker is gone."""
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

    def end(self) -> int:
        """End the process if it still runs; returns its exit code, that is minus the signal if one killed it."""
        with self._sending:
            self._connection.close()  # the worker leaves when it sees this
        self._process.join(2)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        code = self._process.exitcode or 0
        self._process.close()
        return code


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
    inbox: queue.SimpleQueue[Message] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(connection, inbox), name="listen", daemon=True).start()
    try:
        module, _, name = factory.partition(":")
        handlers: Mapping[type, Handler] = getattr(importlib.import_module(module), name)(settings)
    except Exception as error:
        log.exception("the worker could not start")
        _tell(connection, "broken", _failure(error).message)
        return
    _tell(connection, "ready")
    while True:
        word, what, control = inbox.get()
        handler = handlers.get(type(what))
        if word == "ask":
            _tell(connection, "answer", list(handler(what, control)) if handler else [])
        else:
            _run(connection, handler, what, control)


def _listen(connection: Connection, inbox: "queue.SimpleQueue[Message]") -> None:
    """Sort what comes in: jobs and questions into the inbox, signals to the job they name; a signal for another job is late and dropped."""
    current = JobControl("", False, 1)
    while True:
        try:
            word, what, *rest = connection.recv()
        except (EOFError, OSError):
            os._exit(0)  # the server is gone or wants no more
        if word == "run":
            request, previews, every = rest
            current = JobControl(what, previews, every)
            inbox.put((word, request, current))
        elif word == "ask":
            inbox.put((word, what, JobControl("", False, 1)))
        elif what == current.job_id:
            current.hear(word)


def _tell(connection: Connection, *message: Any) -> None:
    try:
        connection.send(message)
    except OSError:
        os._exit(0)  # the server is gone


def _run(connection: Connection, handler: Handler | None, request: object, control: JobControl) -> None:
    """Run one job and send all that it tells; the last event is always Finished or Failed."""
    for event in _events(handler, request, control):
        if isinstance(event, Progress):
            control.step = event.step
        _tell(connection, "event", control.job_id, event)


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
