"""The server's thread for one device: keeps a worker process alive, gives it jobs, stores what comes back."""

import logging
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from contextlib import suppress
from typing import Any

from webui.core.errors import Busy, EaselError, EngineError, StorageError, error_of
from webui.core.event import Event, Failed, Finished, Notice, Pictures, Record
from webui.core.job_request import JobRequest, last_models, makes_model_files
from webui.core.scripts.request import ScriptRequest
from webui.core.xray import XrayRequest
from webui.service.crew import Crew
from webui.service.gallery import Gallery
from webui.service.job import LiveJob
from webui.service.queue import MAX_DEATHS, JobQueue, JobRow
from webui.service.unsaved import Unsaved
from webui.service.worker import Ending, MemoryQuestion, Message, Waker, Worker

FIRST_PAUSE = 0.25  # seconds before a dead worker is replaced; doubles with every death without a finished job between
LONGEST_PAUSE = 60.0
RETRY = 1.0  # seconds until a full or read-only disk is tried again
log = logging.getLogger(__name__)


class Supervisor:
    """One worker. Its thread is the only one that talks with it, except for short signals."""

    def __init__(
        self,
        open_worker: Callable[[], Worker],
        crew: Crew,
        queue: JobQueue,
        gallery: Gallery,
        unsaved: Unsaved,
        keep: Callable[[str, Record], None],
        preferences: Callable[[], Mapping[str, Any]],
        looked_at: Callable[[], bool],
        refresh_models: Callable[[], None],
        changed: Callable[[LiveJob], None],
        moved: Callable[[], None],
    ):
        """open_worker: called again when the worker died; crew: whom this one joins; keep: stores what a job records.
        looked_at: whether anybody watches previews. refresh_models: called before the end of a job is told that may have written some.

        changed: tells a job's watchers; moved: tells those who wait in the queue, or for a job's end. Both are called by any thread.
        """
        self._open_worker = open_worker
        self._crew = crew
        self._queue = queue
        self._gallery = gallery
        self._keep = keep
        self._unsaved = unsaved
        self._refused: JobRow | None = None  # whose pictures the disk did not take; nothing is begun until it takes files again
        self._preferences = preferences
        self._looked_at = looked_at
        self._refresh_models = refresh_models
        self._changed = changed
        self._moved = moved
        self._lock = threading.RLock()  # over live and worker, so that a signal meets the job it is meant for
        self._live: LiveJob | None = None
        self._loaded: tuple[str, str] | None = None  # checkpoint and VAE of the last job, which the worker has in hand
        self._worker: Worker | None = None
        self._stopping = threading.Event()
        self._waker = Waker()
        self._ready = False  # the worker in hand takes jobs
        self._answered = threading.Event()
        self._answer: dict[str, Any] = {}
        self._orders: dict[str, Future[None]] = {}  # that the worker has, by their keys
        self._ordered = 0
        self._deaths = 0  # since a job was last finished
        self._state = "starting"
        self._thread = threading.Thread(target=self._run, name="easel-supervisor", daemon=True)
        crew.join(self)

    @property
    def state(self) -> str:
        """ "starting", "ready", "restarting: why", "paused: why" or "stopped"."""
        return self._state

    @property
    def live(self) -> LiveJob | None:
        """The job in hand."""
        return self._live

    @property
    def free(self) -> bool:
        """Whether it would take a job now."""
        return self._ready and self._live is None

    @property
    def loaded(self) -> tuple[str, str] | None:
        """Checkpoint and VAE that the worker has in hand, as far as is known."""
        return self._loaded

    def start(self) -> None:
        """Begin; returns at once."""
        self._thread.start()

    def stop(self) -> None:
        """End the worker; the job in hand waits again, for the next start. Returns when all is stored."""
        self._stopping.set()
        self.wake()
        if self._thread.is_alive():
            self._thread.join()

    def wake(self) -> None:
        """There is something new in the queue."""
        self._waker.set()

    def signal(self, job_id: str, word: str) -> bool:
        """Pass "interrupt", "skip" or "previews" on; False when this job is not in hand here."""
        with self._lock:
            if self._live is None or self._live.row.id != job_id:
                return False
            if word != "previews":
                self._live.ask(interrupt=word == "interrupt")
            if self._worker is not None:
                self._worker.send(word, self._live.key)
            live = self._live
        if word != "previews":
            self._changed(live)
        return True

    def ask(self) -> None:
        """Let the worker say how its device is (see MemoryQuestion); `answer` tells it a moment later."""
        with self._lock:
            if self._ready and self._worker is not None:
                self._answered.clear()
                self._worker.send("ask", MemoryQuestion())

    def answer(self, timeout: float = 0.0) -> dict[str, Any]:
        """What the worker last said of its device, {} before it has said anything. timeout: seconds for a question that is open."""
        if self._ready and timeout:
            self._answered.wait(timeout)
        return self._answer

    def order(self, order: object) -> Future[None]:
        """Let the worker carry something out after its present job; the answer may fail with an EaselError. Without a worker it is done."""
        done: Future[None] = Future()
        with self._lock:
            if self._worker is None:
                done.set_result(None)
            else:
                self._ordered += 1
                key = f"/{self._ordered}"  # the key of no job
                self._orders[key] = done
                self._worker.send("do", key, order)
        return done

    def _run(self) -> None:
        while not self._stopping.is_set():
            reason = self._one_life()
            if self._stopping.is_set():
                break
            pause = min(FIRST_PAUSE * 2**self._deaths, LONGEST_PAUSE)
            self._deaths += 1
            self._say(f"restarting: {reason}")
            log.warning("the worker ended (%s); the next one starts in %.1f s", reason, pause)
            self._stopping.wait(pause)
        self._say("stopped")
        self._waker.close()

    def _one_life(self) -> str:
        """From the start of a worker to its end; returns why it ended."""
        reason, worker = "", None
        try:
            worker = self._open_worker()
            with self._lock:
                self._worker = worker
            while not reason and not self._stopping.is_set():
                timeout = self._give_work(worker)
                message = worker.receive(self._waker, timeout)
                if message is not None:
                    reason = self._hear(message)
        except EOFError:
            pass
        except Exception as error:
            log.exception("the supervisor failed")
            reason = f"{type(error).__name__}: {error}"
        with self._lock:
            self._worker, self._ready, self._loaded = None, False, None
            orders, self._orders = self._orders, {}
        ending = worker.end() if worker is not None else Ending("no worker could be started", to_blame=False)
        reason = reason or ending.reason
        for done in orders.values():
            done.set_exception(Busy("Easel is being stopped") if self._stopping.is_set() else EngineError(reason))
        self._part(reason, ending.to_blame)
        self._crew.wake_others(self)  # for what was left to this one, or given back
        return reason

    def _give_work(self, worker: Worker) -> float | None:
        """Take a job if there is one and the worker is free; returns how long to wait before asking again (None: until woken)."""
        if self._live is not None or not self._ready:
            return None
        try:
            preferences = self._preferences()
            if self._refused is not None:
                self._gallery.try_to_write(self._refused)
                self._refused = None
            with self._lock:
                row = self._crew.take(self)
                if row is not None:
                    self._live = LiveJob(row, again=bool(self._gallery.of_job(row.id)))
                    self._loaded = last_models(row.request) or self._loaded
                    every = int(preferences["show_progress_every_n_steps"])
                    previews = bool(preferences["live_previews_enable"]) and self._looked_at()
                    worker.send("run", self._live.key, self._resumed(row), previews, every)
        except StorageError as error:
            self._say(f"paused: {error}")
            return RETRY
        self._say("ready")
        if self._live is not None:
            self._changed(self._live)
            self._moved()
            self._crew.wake_others(self)  # for what was left to this one while it was free
        return None

    def _resumed(self, row: JobRow) -> JobRequest:
        """The job's request; of a script without what an earlier try has made."""
        if not isinstance(row.request, ScriptRequest):
            return row.request
        return row.request.resumed(self._gallery.exact_files(row.id))

    def _hear(self, message: Message) -> str:
        """Act on a message; returns why this worker must end, "" if it need not."""
        word, *rest = message
        if word == "ready":
            self._ready = True
            self._say("ready")
        elif word == "broken":
            return str(rest[0])
        elif word == "answer":
            self._answer = rest[0][0] if rest[0] else {}
            self._answered.set()
        elif word == "event" and self._live is not None and self._live.key == rest[0]:
            self._hear_event(self._live, rest[1])
        elif word == "event" and rest[0] in self._orders:
            self._hear_of_order(*rest)
        return ""

    def _hear_of_order(self, key: str, event: Event) -> None:
        if isinstance(event, Finished | Failed):
            with self._lock:
                done, self._loaded = self._orders.pop(key), None
            if isinstance(event, Failed):
                done.set_exception(error_of(event.name, event.message, event.status))
            else:
                done.set_result(None)

    def _hear_event(self, live: LiveJob, event: Event) -> None:
        if isinstance(event, Finished):
            self._deaths = 0
            self._end(live, "interrupted" if event.interrupted else "done")
        elif isinstance(event, Failed):
            self._deaths = 0
            self._end(live, "failed", event.message, event.status, event.name)
        elif isinstance(event, Pictures):
            self._save(live, event)
        elif isinstance(event, Record):
            self._record(live, event)
        else:
            live.hear(event)
            self._changed(live)

    def _save(self, live: LiveJob, event: Pictures) -> None:
        live.saving()
        self._changed(live)
        try:
            self._store(live.row, event, live.again)
        except Exception as error:
            failed = (
                error
                if isinstance(error, EaselError)
                else StorageError(f"the pictures could not be saved: {type(error).__name__}: {error}")
            )
            log.warning("job %s: %s", live.row.id, failed, exc_info=failed is not error)
            self._refused = live.row
            with suppress(Exception):  # so that they can be seen and downloaded all the same
                stored = [picture.infotext for picture in self._gallery.of_job(live.row.id)]
                self._unsaved.add(live.row, [picture for picture in event.pictures if picture.infotext not in stored])
            self._stop_job(live)
            self._end(live, "failed", str(failed), failed.status, type(failed).__name__)
        else:
            self._changed(live)

    def _record(self, live: LiveJob, event: Record) -> None:
        """Store what a job found out. Where the disk refuses, a job that makes something else goes on without."""
        request = live.row.request
        if live.unrecorded and isinstance(request, XrayRequest):  # its steps would have a gap
            return
        try:
            self._keep(live.row.id, event)
        except StorageError as error:
            log.warning("job %s: %s", live.row.id, error)
            if isinstance(request, XrayRequest) and not request.makes_pictures:
                self._stop_job(live)
                self._end(live, "failed", str(error), error.status, type(error).__name__)
            elif not live.unrecorded:
                live.unrecorded = True
                live.hear(Notice(f"{error}. The job itself goes on"))
                self._changed(live)

    def _store(self, row: JobRow, event: Pictures, again: bool) -> None:
        preferences = self._preferences()
        self._gallery.save(row, event.pictures, str(preferences["samples_format"]), int(preferences["jpeg_quality"]), again)

    def _stop_job(self, live: LiveJob) -> None:
        """Tell the worker to leave a job whose end is decided; what it still tells of it is dropped."""
        with self._lock:
            if self._worker is not None:
                self._worker.send("interrupt", live.key)

    def _end(self, live: LiveJob, status: str, error: str = "", error_status: int = 0, error_name: str = "") -> None:
        """Show and store how the job ended. While the disk refuses, the queue pauses and storing is tried again."""
        if status != "failed" and makes_model_files(live.row.request):
            self._list_models()  # first, so that who is told of the end finds the new file
        live.end(status, error, error_status, error_name)
        self._changed(live)
        while not self._stored(
            lambda: self._queue.finish(live.row.id, status, live.seq, error, error_status, live.notices, error_name=error_name)
        ):
            if self._stopping.wait(RETRY):
                break
        self._let_go(live)

    def _list_models(self) -> None:
        try:
            self._refresh_models()
        except Exception:
            log.exception("the lists of models could not be refreshed")

    def _part(self, reason: str, to_blame: bool) -> None:
        """The worker is gone: decide what becomes of the job it had. to_blame: it may have died of that job."""
        live = self._live
        if live is None:
            return
        row = live.row
        if self._stopping.is_set():
            self._stored(lambda: self._queue.give_back(row.id, live.seq + 1, died=False))
            self._let_go(live)
        elif live.interrupt_asked:
            self._end(live, "interrupted")
        elif to_blame and row.deaths + 1 >= MAX_DEATHS:
            sentence = f"the worker died {MAX_DEATHS} times while making this ({reason}); try a smaller size or batch"
            self._end(live, "failed", sentence, EngineError.status, EngineError.__name__)
        else:
            while not self._stored(lambda: self._queue.give_back(row.id, live.seq + 1, died=to_blame)) and not self._stopping.wait(RETRY):
                continue
            self._let_go(live)

    def _stored(self, action: Callable[[], None]) -> bool:
        """Whether the disk took it."""
        try:
            action()
        except StorageError as error:
            self._say(f"paused: {error}")
            return False
        return True

    def _let_go(self, live: LiveJob) -> None:
        with self._lock:
            self._live = None
        if self._ready:
            self._say("ready")
        self._changed(live)
        self._moved()

    def _say(self, state: str) -> None:
        if state != self._state:
            self._state = state
            self._moved()
