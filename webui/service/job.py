"""A job as the outside sees it, and what a running one has told so far."""

import threading
import time
from dataclasses import dataclass
from typing import Any

from webui.core.event import Event, Loading, Notice, Preview, Progress
from webui.core.job_request import JobRequest
from webui.core.scripts.request import ScriptRequest
from webui.service.gallery import SavedPicture
from webui.service.queue import ENDED, JobRow
from webui.service.turns import PRIORITY_NAMES


@dataclass(frozen=True, kw_only=True)
class Job:
    """One job at one moment."""

    id: str
    owner: str
    status: str  # "queued", "running", "saving", "done", "failed" or "interrupted"
    request: JobRequest
    created: float  # unix seconds
    progress: Progress | None = None
    fraction: float = 0.0  # 0 .. 1
    eta: float | None = None  # seconds; None: not known
    text: str = ""  # one line for people
    ahead: int = 0  # jobs before it
    preview_seq: int = 0  # rises with every preview
    pictures: tuple[SavedPicture, ...] = ()
    error: str = ""
    error_status: int = 0  # HTTP status that tells the error
    error_name: str = ""  # its class in errors.py, "" where that is not known
    notices: tuple[str, ...] = ()  # sentences that the user should read although the job goes on
    interrupt_asked: bool = False
    skips_asked: int = 0
    seq: int = 0  # rises with every change
    number: int = 0  # rises with every job ever made
    priority: str = "normal"  # one of turns.PRIORITIES

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen to it."""
        return self.status in ENDED


class LiveJob:
    """A job in a worker's hands: heard by one supervisor thread, seen by any thread."""

    def __init__(self, row: JobRow, again: bool = False):
        """again: an earlier try has stored pictures of it."""
        self.row = row
        self.key = f"{row.id}/{row.seq}"  # names this try of the job to the worker: what an earlier one still tells is not heard
        self.again = again
        self._lock = threading.Lock()
        self._status = "running"
        self._text = "Starting"
        self._progress: Progress | None = None
        self._first_progress: float | None = None  # monotonic seconds
        self._preview: bytes | None = None
        self._preview_seq = 0
        self._error = ""
        self._error_status = 0
        self._error_name = ""
        self._seq = row.seq
        self._notices: tuple[str, ...] = ()
        self.interrupt_asked = False
        self.skips_asked = 0
        self.unrecorded = False  # the disk did not take what it found out

    @property
    def seq(self) -> int:
        """The seq of the last change."""
        return self._seq

    @property
    def status(self) -> str:
        """ "running", "saving", or how it ended."""
        return self._status

    @property
    def notices(self) -> tuple[str, ...]:
        """What was told so far that the user should read."""
        return self._notices

    @property
    def preview(self) -> bytes | None:
        """The latest preview, a JPEG."""
        return self._preview

    def hear(self, event: Event) -> None:
        """Take in what the worker tells."""
        with self._lock:
            self._seq += 1
            self._status = "running"
            if isinstance(event, Loading):
                self._text = event.line
            elif isinstance(event, Notice):
                self._notices = (*self._notices, event.text)
            elif isinstance(event, Preview):
                self._preview = event.jpeg
                self._preview_seq += 1
            elif isinstance(event, Progress):
                self._progress = event
                self._text = _progress_text(event)
                if self._first_progress is None:
                    self._first_progress = time.monotonic()

    def ask(self, interrupt: bool) -> None:
        """Note that an interrupt (or else a skip) was asked for."""
        with self._lock:
            self._seq += 1
            if interrupt:
                self.interrupt_asked = True
            else:
                self.skips_asked += 1

    def saving(self) -> None:
        """The pictures of a batch are being written."""
        with self._lock:
            self._seq += 1
            self._status, self._text = "saving", "Saving"

    def end(self, status: str, error: str = "", error_status: int = 0, error_name: str = "") -> None:
        """How it ended; shown from now on, whether or not it is stored already."""
        with self._lock:
            self._seq += 1
            self._status, self._error, self._error_status, self._error_name = status, error, error_status, error_name

    def seen(self, pictures: tuple[SavedPicture, ...]) -> Job:
        """The job at this moment."""
        with self._lock:
            return Job(
                id=self.row.id,
                owner=self.row.owner,
                status=self._status,
                request=self.row.request,
                created=self.row.created,
                progress=self._progress,
                fraction=1.0 if self._status == "done" else self._progress.fraction if self._progress else 0.0,
                eta=self._eta(),
                text=self._error or ended_text(self._status) or ("Stopping" if self.interrupt_asked else self._text),
                preview_seq=self._preview_seq,
                pictures=pictures,
                error=self._error,
                error_status=self._error_status,
                error_name=self._error_name,
                interrupt_asked=self.interrupt_asked,
                skips_asked=self.skips_asked,
                notices=self._notices,
                seq=self._seq,
                number=self.row.number,
                priority=PRIORITY_NAMES[self.row.priority],
            )

    def _eta(self) -> float | None:
        """Seconds left, if the rest goes as fast as it went since the first progress was told."""
        if self._progress is None or self._first_progress is None or self._status in ENDED:
            return None
        done = self._progress.fraction
        return (time.monotonic() - self._first_progress) / done * (1 - done) if done > 0 else None


def stored_job(row: JobRow, pictures: tuple[SavedPicture, ...], ahead: int, worker_state: str, paused: bool = False) -> Job:
    """A job that no worker holds; paused: it waits until somebody lets the queue go on."""
    text = row.error or ended_text(row.status) or "Starting"
    if row.status == "queued":
        text = (
            "The queue is paused"
            if paused
            else f"In queue, {ahead} ahead"
            if ahead
            else "Waiting for the worker"
            if worker_state == "ready"
            else f"The worker is {worker_state}"
        )
    return Job(
        id=row.id,
        owner=row.owner,
        status=row.status,
        request=row.request,
        created=row.created,
        fraction=1.0 if row.status == "done" else 0.0,
        text=text,
        ahead=ahead,
        pictures=pictures,
        error=row.error,
        error_status=row.error_status,
        error_name=row.error_name,
        notices=row.notices,
        seq=row.seq,
        number=row.number,
        priority=PRIORITY_NAMES[row.priority],
    )


def progress_facts(job: Job) -> dict[str, Any]:
    """What an event tells of a job that runs."""
    progress = job.progress
    return {
        "job": job.id,
        "status": job.status,
        "fraction": round(job.fraction, 4),
        "eta": job.eta,
        "step": progress.step if progress else 0,
        "steps": progress.steps if progress else 0,
        "text": job.text,
    }


def shown_pictures(request: JobRequest, pictures: tuple[SavedPicture, ...]) -> tuple[SavedPicture, ...]:
    """A job's pictures without those that its sheets show, where a script wants it so."""
    sheets = tuple(picture for picture in pictures if picture.sheet)
    return sheets if sheets and isinstance(request, ScriptRequest) and not request.lone else pictures


def ended_text(status: str) -> str:
    """The line for a job that ended well or was stopped; "" for one that goes on."""
    return {"done": "Done", "interrupted": "Interrupted", "failed": "Failed"}.get(status, "")


def _progress_text(progress: Progress) -> str:
    if progress.text:
        return f"{progress.text}, {int(progress.fraction * 100)} %"
    batch = f"Batch {progress.batch} of {progress.batches}, " if progress.batches > 1 else ""
    text = f"{batch}step {progress.step} of {progress.steps}"
    return text[0].upper() + text[1:]
