"""The queue: jobs as rows, taken in turns between their owners; what was acknowledged survives a kill."""

import json
import sqlite3
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from webui.core.errors import BadRequest, Busy, EngineError, MissingModel
from webui.core.job_request import KINDS, JobRequest, kind_of, shown_request
from webui.core.request import GenerationRequest
from webui.service.database import Database
from webui.service.event_log import LEAP, EventLog, JobEvent, visible
from webui.service.turns import EVERYBODY, NORMAL, PRIORITY_NAMES, Waiting, taking_order

MAX_QUEUED = 500  # jobs that may wait at once
MAX_DEATHS = 2  # workers that may die of one job
MAX_OVERTAKEN = 3  # younger jobs of the same owner that may go before one, as they need no other checkpoint
MAX_RESTARTS = 5  # kills of the whole server that one job may live through
SEQ_LEAP = 1_000_000  # added to seq at a restart: above every seq that was told, but not stored, before the kill
ENDED = ("done", "failed", "interrupted")
PAGE = 1000  # stored events that are read at once


@dataclass(frozen=True)
class JobRow:
    """A job as it is stored."""

    number: int  # rises with every job ever made
    id: str
    owner: str
    status: str  # "queued", "running", "done", "failed", "interrupted"
    request: JobRequest
    save: bool  # False: its pictures are kept for a while only
    created: float  # unix seconds
    deaths: int  # workers that died of it
    restarts: int  # kills of the whole server while it ran
    seq: int
    error: str
    error_status: int
    notices: tuple[str, ...] = ()
    error_name: str = ""  # class of the error in errors.py, "" in rows of earlier versions
    priority: int = NORMAL  # one of turns.PRIORITIES


class Change:
    """One transaction that changes jobs; each job that is marked gets one event, whose id its row keeps."""

    def __init__(self, connection: sqlite3.Connection, number: Callable[[], int]):
        self.connection = connection
        self._number = number
        self._marked: set[str] = set()

    def mark(self, *job_ids: str) -> None:
        """These jobs are changed."""
        for job_id in job_ids:
            self.connection.execute("UPDATE jobs SET changed = ? WHERE id = ?", (self._number(), job_id))
            self._marked.add(job_id)

    def job(self, job_id: str) -> JobRow:
        """Raises MissingModel when there is no such job."""
        row = self.connection.execute("SELECT * FROM jobs WHERE id = ?", (job_id,)).fetchone()
        if row is None:
            raise MissingModel(f"there is no job {job_id!r}")
        return _row(row)

    def events(self) -> list[JobEvent]:
        """What is to be told once this is stored."""
        rows = (self.connection.execute("SELECT * FROM jobs WHERE id = ?", (job_id,)).fetchone() for job_id in self._marked)
        return [_event(row) for row in rows]


class JobQueue:
    """All jobs ever made. Every method that changes something has committed it when it returns."""

    def __init__(self, database: Database, limit: int = MAX_QUEUED):
        self._database = database
        self._limit = limit
        self.log = EventLog(self._first_event())
        self._version = 0  # rises with every change of the table
        self._known = Known(-1, 0, (), frozenset())

    def _first_event(self) -> int:
        """An id above those of all events that were told in earlier lives; it is noted, so that the next life's is another one."""
        with self._database.write() as connection:
            sql = (
                "SELECT max(coalesce((SELECT max(changed) FROM jobs), 0), coalesce((SELECT value FROM counters WHERE name = 'events'), 0))"
            )
            first = int(connection.execute(sql).fetchone()[0]) + LEAP
            connection.execute("INSERT OR REPLACE INTO counters (name, value) VALUES ('events', ?)", (first,))
        return first

    @contextmanager
    def change(self) -> Iterator[Change]:
        """One transaction, committed when the block ends; then the events of the jobs that it marked are told."""
        with self.log.writing() as number:
            with self._database.write() as connection:
                change = Change(connection, number)
                yield change
                events = change.events()
            self._version += 1
            self.log.append(*events)

    def check_room(self, change: Change) -> None:
        """Raises Busy when too many wait for one more."""
        waiting = change.connection.execute("SELECT count(*) FROM jobs WHERE status = 'queued'").fetchone()[0]
        if waiting >= self._limit:
            raise Busy(f"the queue is full: {waiting} jobs wait; try again when some are done")

    def add(self, job_id: str, owner: str, request: JobRequest, save: bool, priority: int = NORMAL) -> None:
        """Append a job. Raises Busy when too many wait, BadRequest when the id is taken."""
        sql = (
            "INSERT INTO jobs (id, owner, status, kind, request, save, created, priority, place)"
            " VALUES (?, ?, 'queued', ?, ?, ?, ?, ?, (SELECT coalesce(max(place), 0) + 1 FROM jobs))"
        )
        with self.change() as change:
            self.check_room(change)
            try:
                values = (job_id, owner, kind_of(request), json.dumps(request.to_json()), save, time.time(), priority)
                change.connection.execute(sql, values)
            except sqlite3.IntegrityError as error:
                raise BadRequest(f"a job with the id {job_id!r} exists already; leave the id out or choose another") from error
            change.mark(job_id)

    def take(self, loaded: tuple[str, str] | None = None, leave: Collection[tuple[str, str] | None] = ()) -> JobRow | None:
        """The next job, now running: see `taking_order`. None when nobody waits, or none that may go on.

        loaded: the checkpoint and the VAE that the worker has in hand. A younger job of the same owner and priority that needs them and no
        others goes first, but past no job more than MAX_OVERTAKEN times, and never past other owners' jobs.
        leave: what other workers that are free have in hand. If the next job needs that, it is theirs: None.
        """
        if self._first() is None:
            return None
        with self.change() as change:
            first, connection = self._first(), change.connection  # nobody else changes it now
            if first is None:
                return None
            if leave and _needs(_row(connection.execute("SELECT * FROM jobs WHERE number = ?", (first.number,)).fetchone())) in leave:
                return None
            number = self._neighbour(connection, first, loaded) if loaded else first.number
            connection.execute("UPDATE jobs SET status = 'running', seq = seq + 1 WHERE number = ?", (number,))
            connection.execute(
                "INSERT OR REPLACE INTO turns (owner, turn) VALUES (?, (SELECT coalesce(max(turn), 0) + 1 FROM turns))", (first.owner,)
            )
            row = _row(connection.execute("SELECT * FROM jobs WHERE number = ?", (number,)).fetchone())
            change.mark(row.id)
            return row

    def _first(self) -> Waiting | None:
        """The first of those that wait, if it may go on."""
        known = self._now()
        first = known.order[0] if known.order else None
        return None if first is None or known.pauses & {EVERYBODY, first.owner} else first

    @staticmethod
    def _neighbour(connection: sqlite3.Connection, first: Waiting, loaded: tuple[str, str]) -> int:
        """The owner's first job for what is loaded, unless one that it would overtake was overtaken often enough.

        Whom it overtakes is told. All are asked: one that a worker gave back is the first again, and was not there to be overtaken.
        """
        alike = "status = 'queued' AND owner = ? AND priority = ?"
        found = connection.execute(
            f"SELECT number, place FROM jobs WHERE {alike} AND CASE WHEN json_valid(request) THEN"
            " json_extract(request, '$.checkpoint') = ? AND json_extract(request, '$.vae') = ? ELSE 0 END ORDER BY place LIMIT 1",
            (first.owner, first.priority, *loaded),
        ).fetchone()
        if found is None or found["number"] == first.number:
            return first.number
        older = f"{alike} AND place < ?"
        values = (first.owner, first.priority, found["place"])
        if connection.execute(f"SELECT max(overtaken) FROM jobs WHERE {older}", values).fetchone()[0] >= MAX_OVERTAKEN:
            return first.number
        connection.execute(f"UPDATE jobs SET overtaken = overtaken + 1 WHERE {older}", values)
        return int(found["number"])

    def cancel(self, job_id: str) -> bool:
        """End a job that still waits; False when it does not wait."""
        with self.change() as change:
            sql = "UPDATE jobs SET status = 'interrupted', seq = seq + 1 WHERE id = ? AND status = 'queued'"
            cancelled = change.connection.execute(sql, (job_id,)).rowcount == 1
            if cancelled:
                change.mark(job_id)
        return cancelled

    def finish(
        self,
        job_id: str,
        status: str,
        seq: int,
        error: str = "",
        error_status: int = 0,
        notices: Sequence[str] = (),
        error_name: str = "",
    ) -> None:
        """Store how a running job ended."""
        sql = "UPDATE jobs SET status = ?, seq = ?, error = ?, error_status = ?, notices = ?, error_name = ? WHERE id = ?"
        with self.change() as change:
            change.connection.execute(sql, (status, seq, error, error_status, "\n".join(notices), error_name, job_id))
            change.mark(job_id)

    def give_back(self, job_id: str, seq: int, died: bool) -> None:
        """Let a running job wait again, with the same request; `died`: its worker died of it."""
        with self.change() as change:
            sql = "UPDATE jobs SET status = 'queued', seq = ?, deaths = deaths + ? WHERE id = ?"
            change.connection.execute(sql, (seq, int(died), job_id))
            change.mark(job_id)

    def recover(self) -> None:
        """At start-up: what ran when the server ended waits again, unless that happened too often."""
        sentence = f"Easel was ended {MAX_RESTARTS} times while this job ran; submit it again if it was not to blame"
        with self.change() as change:
            connection = change.connection
            running = [row["id"] for row in connection.execute("SELECT id FROM jobs WHERE status = 'running' ORDER BY number")]
            sql = "UPDATE jobs SET status = 'queued', restarts = restarts + 1, seq = seq + ? WHERE status = 'running'"
            connection.execute(sql, (SEQ_LEAP,))
            connection.execute(
                "UPDATE jobs SET status = 'failed', error = ?, error_status = ?, error_name = ? WHERE status = 'queued' AND restarts >= ?",
                (sentence, EngineError.status, EngineError.__name__, MAX_RESTARTS),
            )
            change.mark(*running)

    def get(self, job_id: str) -> JobRow:
        """Raises MissingModel when there is no such job."""
        rows = self._database.read("SELECT * FROM jobs WHERE id = ?", (job_id,))
        if not rows:
            raise MissingModel(f"there is no job {job_id!r}")
        return _row(rows[0])

    def find(
        self, owner: str | None, statuses: Sequence[str] | None, limit: int, before: int | None = None, listed: bool = False
    ) -> list[JobRow]:
        """The newest `limit` jobs, oldest first; owner None: of everybody; statuses None: all.

        before: only jobs of a lower number; listed: without those that were cleared away.
        """
        sql = "SELECT * FROM jobs WHERE listed" if listed else "SELECT * FROM jobs WHERE 1"
        values: list[object] = []
        if owner is not None:
            sql, values = sql + " AND owner = ?", [*values, owner]
        if statuses is not None:
            sql, values = sql + f" AND status IN ({','.join('?' * len(statuses))})", [*values, *statuses]
        if before is not None:
            sql, values = sql + " AND number < ?", [*values, before]
        rows = self._database.read(sql + " ORDER BY number DESC LIMIT ?", [*values, limit])
        return [_row(row) for row in reversed(rows)]

    def waiting(self) -> list[tuple[str, str]]:
        """(owner, job id) of all jobs that wait, in the order in which they will be taken."""
        return [(job.owner, job.id) for job in self._now().order]

    def count_waiting(self) -> int:
        """How many jobs wait."""
        return int(self._database.read("SELECT count(*) FROM jobs WHERE status = 'queued'")[0][0])

    def ahead(self, job: JobRow) -> int:
        """How many jobs run or will be taken before this waiting one, as things stand; neighbours that may overtake are not counted."""
        if job.status != "queued":
            return 0
        known = self._now()
        return known.running + next((place for place, other in enumerate(known.order) if other.id == job.id), 0)

    def pauses(self) -> frozenset[str]:
        """The owners whose jobs wait until they are told to go on; EVERYBODY stands for all."""
        return self._now().pauses

    def counts(self, owner: str | None) -> tuple[int, int]:
        """How many jobs wait and how many run, of that owner; None: of all."""
        known = self._now()
        if owner is None:
            return len(known.order), known.running
        running = self._database.read("SELECT count(*) FROM jobs WHERE status = 'running' AND owner = ?", (owner,))[0][0]
        return sum(job.owner == owner for job in known.order), int(running)

    def events_after(self, cursor: int, owner: str | None) -> list[JobEvent]:
        """The next events after `cursor` that `owner` (None: who may see all) may read, each once: ids rise. A cursor that was never given
        counts as 0. Of what happened too long ago for the log, each job's latest change."""
        cursor = cursor if 0 <= cursor <= self.log.last else 0
        floor, events = self.log.after(cursor)
        stored: list[JobEvent] = []
        if cursor < floor:
            whose, values = ("", []) if owner is None else (" AND owner = ?", [owner])
            sql = f"SELECT * FROM jobs WHERE changed > ? AND changed <= ?{whose} ORDER BY changed LIMIT ?"
            stored = [_event(row) for row in self._database.read(sql, [cursor, floor, *values, PAGE])]
        return stored if len(stored) == PAGE else [*stored, *(event for event in events if visible(event, owner))]

    def _now(self) -> "Known":
        """What is known of the table, read anew after each change only."""
        known, version = self._known, self._version
        if known.version != version:
            rows = self._database.read("SELECT number, id, owner, priority, place FROM jobs WHERE status = 'queued'")
            turns = {row["owner"]: row["turn"] for row in self._database.read("SELECT owner, turn FROM turns")} if rows else {}
            pauses = frozenset(row["owner"] for row in self._database.read("SELECT owner FROM pauses"))
            order = taking_order([Waiting(**row) for row in rows], turns, pauses)
            running = int(self._database.read("SELECT count(*) FROM jobs WHERE status = 'running'")[0][0])
            known = self._known = Known(version, running, tuple(order), pauses)
        return known


@dataclass(frozen=True)
class Known:
    """The table in short, at one moment."""

    version: int
    running: int  # jobs that run
    order: tuple[Waiting, ...]  # jobs that wait, in the order of taking
    pauses: frozenset[str]  # owners whose jobs wait until they are told to go on; EVERYBODY stands for all


def _event(row: sqlite3.Row) -> JobEvent:
    facts = {"job": row["id"], "status": row["status"], "priority": PRIORITY_NAMES[_priority(row)], "error": row["error"]}
    return JobEvent(row["changed"], "job", row["owner"], facts)


def _needs(row: JobRow) -> tuple[str, str] | None:
    """Checkpoint and VAE with which a job begins; None where it makes no picture."""
    request = shown_request(row.request)
    return (request.checkpoint, request.vae) if request else None


def _row(row: sqlite3.Row) -> JobRow:
    request: JobRequest
    try:
        request = KINDS[row["kind"]].from_json(json.loads(row["request"]))
    except (ValueError, TypeError, AttributeError, KeyError):  # a damaged row: the engine will refuse the empty request with a sentence
        request = GenerationRequest()
    return JobRow(
        number=row["number"],
        id=row["id"],
        owner=row["owner"],
        status=row["status"],
        request=request,
        save=bool(row["save"]),
        created=row["created"],
        deaths=row["deaths"],
        restarts=row["restarts"],
        seq=row["seq"],
        error=row["error"],
        error_status=row["error_status"],
        notices=tuple(row["notices"].splitlines()),
        error_name=row["error_name"],
        priority=_priority(row),
    )


def _priority(row: sqlite3.Row) -> int:
    return row["priority"] if row["priority"] in PRIORITY_NAMES else NORMAL  # a damaged row
