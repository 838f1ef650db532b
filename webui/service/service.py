"""Service: all that UI and API may call. Thread-safe; everything is quick except `wait`."""

import logging
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from webui.core.catalog import Catalog
from webui.core.errors import BadRequest, NotAllowed
from webui.core.extras import ExtrasRequest
from webui.core.job_request import JobRequest
from webui.core.request import GenerationRequest
from webui.core.scripts.request import ScriptRequest
from webui.core.settings import Settings
from webui.core.xray import XrayRequest
from webui.service.collection import Collection
from webui.service.completion import complete, complete_extras, complete_order, complete_script, complete_xray
from webui.service.crew import Crew
from webui.service.database import Database, open_database
from webui.service.event_log import JobEvent
from webui.service.gallery import Gallery, SavedPicture
from webui.service.grids import Grids
from webui.service.hashing import Hasher, HashRows
from webui.service.inputs import InputStore, inputs_folder
from webui.service.job import Job, LiveJob, progress_facts, shown_pictures, stored_job
from webui.service.model_rows import ModelRows
from webui.service.models import Models
from webui.service.output_folders import OutputFolders
from webui.service.phrases import Phrases
from webui.service.preferences import PreferenceStore
from webui.service.presets import Presets
from webui.service.queue import ENDED, MAX_QUEUED, JobQueue, JobRow
from webui.service.queue_orders import QueueOrders
from webui.service.replay import Replays
from webui.service.status import StatusBoard
from webui.service.supervisor import Supervisor
from webui.service.task_names import JOB_ID, TaskNames
from webui.service.turns import EVERYBODY, PRIORITIES
from webui.service.unsaved import Unsaved
from webui.service.weights import Weights
from webui.service.worker import Worker
from webui.service.workers import worker_openers
from webui.service.xrays import Xrays

__all__ = ["Job", "Listener", "SavedPicture", "Service", "open_service"]

Listener = Callable[[str, str], None]  # called with (owner, job id), from any thread; must return at once
ACTIVE = ("queued", "running")  # as stored; "saving" is running, seen from close by
MAX_LISTED = 1000  # jobs in one answer
LAST_WORD = 10.0  # seconds that `stop` leaves to callers of `wait` for reading their job
log = logging.getLogger(__name__)


def open_service(settings: Settings, factory: str) -> "Service":
    """A service with its database and catalog; `start` it. Raises StorageError without a usable data folder, EngineError without Ray.

    factory: "module:function", called in each worker with its settings, returns {request type: handler}.
    """
    database, warnings = open_database(settings.database)
    catalog = Catalog(settings, HashRows(database), ModelRows(database))
    return Service(settings, catalog, worker_openers(settings, factory), database=database, warnings=warnings)


class Service:
    """Jobs, pictures, inputs, preferences and models of one Easel."""

    def __init__(
        self,
        settings: Settings,
        catalog: Catalog,
        workers: Sequence[Callable[[], Worker]],
        *,
        database: Database,
        warnings: tuple[str, ...] = (),  # of open_database: rows are lost
        queue_limit: int = MAX_QUEUED,
    ):
        """workers: each opens a worker, at the start and when the one before died."""
        self.settings = settings
        self.catalog = catalog
        self.models = Models(database, settings)
        self.phrases = Phrases(settings.data_dir)
        self.xrays = Xrays(settings.data_dir / "cache" / "xray")
        self.losses = warnings
        self.warnings = settings.warnings + warnings
        self._database = database
        self._rows_are_lost = bool(warnings)
        self._queue = JobQueue(database, queue_limit)
        self.queue = QueueOrders(self._queue, self._completed, self._all_seen, self._queue_changed)
        self.log = self._queue.log
        self.tasks = TaskNames(self._queue)
        self._gallery = Gallery(database, settings.outputs_dir, settings.temp_dir)
        self.grids = Grids(self._queue, self._gallery)
        self._unsaved = Unsaved()
        self._inputs = InputStore(inputs_folder(settings.data_dir))
        self.output_folders = OutputFolders(settings.outputs_dir, self._inputs.add)
        self._preferences = PreferenceStore(database)
        self.presets = Presets(database, self._preferences, catalog)
        self.collection = Collection(
            database,
            self._gallery,
            self._inputs,
            outputs_dir=settings.outputs_dir,
            cache_dir=settings.data_dir / "cache" / "pictures",
            preferences=self._preferences.all,
        )
        self.replays = Replays(catalog, self._inputs.path, self.submit, self.job, self.models.with_hash)
        self._hasher = Hasher(catalog, self.models.take_unhashed)
        self._listeners: dict[int, Listener] = {}
        self._listeners_made = 0
        self._lock = threading.Lock()  # over the listeners
        self._ended = threading.Condition()
        self._waiting = 0  # callers of `wait`
        self._stopped = False
        crew = Crew(self._queue)
        self._supervisors = [
            Supervisor(
                open_worker,
                crew,
                self._queue,
                self._gallery,
                self._unsaved,
                keep=self.xrays.keep,
                preferences=self._preferences.all,
                looked_at=lambda: bool(self._listeners),
                refresh_models=self.refresh_models,
                changed=self._job_changed,
                moved=self._queue_moved,
            )
            for open_worker in workers
        ]
        self.status = StatusBoard(self._supervisors, self._queue)
        self.weights = Weights(self._supervisors, catalog, self._preferences.all)

    def start(self) -> None:
        """Take up the jobs of last time and start the workers; returns at once."""
        for warning in self.warnings:
            log.warning(warning)
        self._queue.recover()
        self._gallery.sweep()
        self.collection.start(self._lost_pictures())
        for supervisor in self._supervisors:
            supervisor.start()
        self.models.start()
        self._hasher.start()

    def stop(self) -> None:
        """End the workers; jobs that run or wait are done after the next start. Callers of `wait` get their job as it is."""
        self.release()
        self._hasher.stop()
        self.models.stop()
        self.collection.stop()
        for supervisor in self._supervisors:
            supervisor.stop()
        with self._ended:
            self._ended.wait_for(lambda: not self._waiting, LAST_WORD)
        self._database.close()

    def release(self) -> None:
        """Let the callers of `wait` go, now and from now on, with their job as it is: the first thing to do before the end."""
        with self._ended:
            self._stopped = True
            self._ended.notify_all()
        self.log.close()

    # jobs

    def complete(self, request: GenerationRequest) -> GenerationRequest:
        """The request with nothing left open: checkpoint, VAE, size, seeds. Raises BadRequest, MissingModel."""
        return complete(request, self.catalog, self._preferences.all(), self._inputs.open, self.phrases)

    def _completed(self, request: JobRequest) -> JobRequest:
        if isinstance(request, GenerationRequest):
            return self.complete(request)
        if isinstance(request, ScriptRequest):
            return complete_script(request, self.catalog, self._preferences.all(), self._inputs.open, self.phrases)
        if isinstance(request, XrayRequest):
            return complete_xray(request, self.complete, self._inputs.path)
        if isinstance(request, ExtrasRequest):
            return complete_extras(request, self.catalog, self._inputs.size)
        return complete_order(request, self.catalog, self._preferences.all())

    def submit(
        self, request: JobRequest, *, owner: str = "", job_id: str | None = None, save: bool = True, priority: str = "normal"
    ) -> str:
        """Put a job into the queue; when this returns, it outlives a power cut. Returns its id.

        save False: its pictures are kept for a while only, and not among the recent ones. priority: one of turns.PRIORITIES.
        Raises BadRequest, MissingModel, Busy.
        """
        if job_id is None:
            job_id = secrets.token_hex(8)
        elif not JOB_ID.fullmatch(job_id):
            raise BadRequest("a job id has 1 to 100 letters, digits or one of . : ( ) _ -")
        self._queue.add(job_id, owner, self._completed(request), save, PRIORITIES[priority])
        self._wake()
        self._notify([(owner, job_id)])
        return job_id

    def job(self, job_id: str) -> Job:
        """The job at this moment. Raises MissingModel."""
        lives = self._lives()
        return self._seen(self._queue.get(job_id), lives)

    def jobs(self, owner: str | None = None, active_only: bool = True, limit: int = MAX_LISTED) -> list[Job]:
        """Jobs that wait or run, or all of them, the newest `limit`, the oldest first; owner None: of everybody."""
        return self._all_seen(lambda: self._queue.find(owner, ACTIVE if active_only else None, limit))

    def events_after(self, cursor: int, owner: str | None) -> list[JobEvent]:
        """What happened after event `cursor`, of that owner's jobs, of all for None, in the order of their ids, each once."""
        return self._queue.events_after(cursor, owner)

    def wait(self, job_id: str, timeout: float | None = None) -> Job:
        """Block until the job has ended, or for `timeout` seconds; returns it as it then is. Raises MissingModel."""
        end = None if timeout is None else time.monotonic() + timeout
        with self._counted_waiting():
            while True:
                job = self.job(job_id)
                left = None if end is None else end - time.monotonic()
                if job.ended or self._stopped or (left is not None and left <= 0):
                    return job
                self._ended.wait(left)

    @contextmanager
    def _counted_waiting(self) -> Iterator[None]:
        """Holding `_ended`; until the block has ended, `stop` leaves the database open."""
        with self._ended:
            self._waiting += 1
            try:
                yield
            finally:
                self._waiting -= 1
                self._ended.notify_all()

    def interrupt(self, job_id: str | None = None, *, owner: str | None = None) -> None:
        """Stop a job after its present step, or take it from the queue. job_id None: what runs now (of that owner, if one is given).

        Raises MissingModel; NotAllowed when `owner` is given and the job is another's. A job that has ended stays as it is.
        """
        self._signal(job_id, owner, "interrupt")

    def skip(self, job_id: str | None = None, *, owner: str | None = None) -> None:
        """Drop the batch that is being made and go on with the next; arguments and errors as for `interrupt`."""
        self._signal(job_id, owner, "skip")

    def preview(self, job_id: str) -> bytes | None:
        """The latest preview of a running job, a JPEG; None when there is none (yet). Asking for one makes the worker send them."""
        for supervisor in self._supervisors:
            live = supervisor.live
            if live is not None and live.row.id == job_id:
                if live.preview is None:
                    self._want_previews(supervisor, job_id)
                return live.preview
        return None

    def watch(self, listener: Listener) -> Callable[[], None]:
        """Call `listener(owner, job id)` at every change of any job, until the returned function is called."""
        with self._lock:
            self._listeners_made += 1
            number = self._listeners_made
            self._listeners = {**self._listeners, number: listener}
        for supervisor in self._supervisors:
            live = supervisor.live
            if live is not None:
                self._want_previews(supervisor, live.row.id)

        def unwatch() -> None:
            with self._lock:
                self._listeners = {key: value for key, value in self._listeners.items() if key != number}

        return unwatch

    # pictures and inputs

    def picture(self, picture_id: int) -> SavedPicture:
        """Raises MissingModel."""
        return self._unsaved.get(picture_id) or self._gallery.get(picture_id)

    def recent_pictures(self, limit: int = 50, offset: int = 0, owner: str | None = None) -> list[SavedPicture]:
        """Saved pictures, the newest first; owner None: of everybody."""
        return self._gallery.recent(limit, offset, owner)

    def add_input(self, data: bytes) -> str:
        """Store an init image or a mask; returns the sha256 by which requests name it. Raises BadRequest, StorageError."""
        return self._inputs.add(data)

    def input_path(self, sha256: str) -> Path:
        """The file with an input picture's bytes. Raises MissingModel."""
        return self._inputs.path(sha256)

    # models

    def refresh_models(self) -> None:
        """Look for model files of every kind again; what is in new files comes to the cards a little later."""
        self.catalog.refresh()
        self.models.refresh()

    # preferences and state

    def preferences(self) -> dict[str, Any]:
        """Every preference by name."""
        return self._preferences.all()

    def set_preferences(self, values: Mapping[str, Any]) -> None:
        """Set some preferences, or none if one is wrong. Checkpoint and VAE by any name they have. Raises BadRequest, MissingModel."""
        values = dict(values)
        if values.get("sd_model_checkpoint"):
            values["sd_model_checkpoint"] = self.catalog.find_checkpoint(str(values["sd_model_checkpoint"])).name
        if values.get("sd_vae", "None") not in ("Automatic", "None"):
            values["sd_vae"] = self.catalog.find_vae(str(values["sd_vae"])).name
        values |= self.catalog.text_encoders.checked(values)
        self._preferences.set(values)

    def worker_state(self) -> str:
        """ "starting", "ready", "restarting: why", "paused: why" or "stopped": "ready" if any worker is, else the first one's."""
        states = [supervisor.state for supervisor in self._supervisors]
        return "ready" if "ready" in states else states[0]

    # inside

    def _lost_pictures(self) -> Sequence[Path]:
        """Files to take in: where the database was damaged, and where it knows no picture, as after it was deleted."""
        return self._gallery.strangers() if self._rows_are_lost or not self._gallery.recent(1, 0, None) else ()

    def _lives(self) -> dict[str, LiveJob]:
        """The jobs in workers' hands. To be asked before the rows are read: a job that ends meanwhile is then found ended."""
        lives = [supervisor.live for supervisor in self._supervisors]
        return {live.row.id: live for live in lives if live is not None}

    def _all_seen(self, find: Callable[[], Sequence[JobRow]]) -> list[Job]:
        lives = self._lives()
        return [self._seen(row, lives) for row in find()]

    def _seen(self, row: JobRow, lives: Mapping[str, LiveJob]) -> Job:
        pictures = shown_pictures(row.request, (*self._gallery.of_job(row.id), *self._unsaved.of_job(row.id)))
        if row.status == "running" and row.id in lives:
            return lives[row.id].seen(pictures)
        paused = bool(self._queue.pauses() & {row.owner, EVERYBODY})
        return stored_job(row, pictures, self._queue.ahead(row), self.worker_state(), paused)

    def _signal(self, job_id: str | None, owner: str | None, word: str) -> None:
        if job_id is None:
            lives = [(supervisor, supervisor.live) for supervisor in self._supervisors]
            for supervisor, live in lives:
                if live is not None and owner in (None, live.row.owner):
                    supervisor.signal(live.row.id, word)
            return
        row = self._queue.get(job_id)
        if owner is not None and row.owner != owner:
            raise NotAllowed(f"job {job_id!r} belongs to somebody else")
        while row.status not in ENDED:  # it may be taken, or given back, between two looks
            if word == "interrupt" and self._queue.cancel(job_id):
                self._job_ended(row.owner, job_id)
                self._queue_moved()
                return
            if any(supervisor.signal(job_id, word) for supervisor in self._supervisors) or word == "skip":
                return
            time.sleep(0.01)
            row = self._queue.get(job_id)

    def _want_previews(self, supervisor: Supervisor, job_id: str) -> None:
        if self._preferences.all()["live_previews_enable"]:
            supervisor.signal(job_id, "previews")

    def _job_changed(self, live: LiveJob) -> None:
        if live.row.id in self._lives() and live.status not in ENDED:  # how it ended is told when that is stored
            self.log.tell_progress(live.row.owner, progress_facts(live.seen(())))
        self._notify([(live.row.owner, live.row.id)])

    def _queue_changed(self) -> None:
        """Somebody gave an order for the queue."""
        self._wake()
        self._queue_moved()

    def _wake(self) -> None:
        for supervisor in self._supervisors:
            supervisor.wake()

    def _queue_moved(self) -> None:
        """Those who wait have moved up, or the worker's state is another."""
        with self._ended:
            self._ended.notify_all()
        if self._listeners:
            self._notify(self._queue.waiting())

    def _job_ended(self, owner: str, job_id: str) -> None:
        with self._ended:
            self._ended.notify_all()
        self._notify([(owner, job_id)])

    def _notify(self, changed: Sequence[tuple[str, str]]) -> None:
        for listener in self._listeners.values():
            for owner, job_id in changed:
                try:
                    listener(owner, job_id)
                except Exception:
                    log.exception("a listener failed")
