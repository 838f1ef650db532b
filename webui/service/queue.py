"""The queue: jobs as rows, taken in turns between their owners; what was acknowledged survives a kill."""

import json
import sqlite3
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from webui.core.errors import BadRequest, Busy, EngineError, MissingModel
from webui.core.job_request import KINDS, JobRequest, kind_of, shown_request
from webui.core.request import GenerationRequest
from webui.service.database import Database

MAX_QUEUED = 500  # jobs that may wait at once
MAX_DEATHS = 2  # workers that may die of one job
MAX_OVERTAKEN = 3  # younger jobs of the same owner that may go before one, as they need no other checkpoint
MAX_RESTARTS = 5  # kills of the whole server that one job may live through
SEQ_LEAP = 1_000_000  # added to seq at a restart: above every seq that was told, but not stored, before the kill
ENDED = ("done", "failed", "interrupted")


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


class JobQueue:
    """All jobs ever made. Every method that changes something has committed it when it returns."""

    def __init__(self, database: Database, limit: int = MAX_QUEUED):
        self._database = database
        self._limit = limit

    def add(self, job_id: str, owner: str, request: JobRequest, save: bool) -> None:
        """Append a job. Raises Busy when too many wait, BadRequest when the id is taken."""
        with self._database.write() as connection:
            waiting = connection.execute("SELECT count(*) FROM jobs WHERE status = 'queued'").fetchone()[0]
            if waiting >= self._limit:
                raise Busy(f"the queue is full: {waiting} jobs wait; try again when some are done")
            try:
                connection.execute(
                    "INSERT INTO jobs (id, owner, status, kind, request, save, created) VALUES (?, ?, 'queued', ?, ?, ?, ?)",
                    (job_id, owner, kind_of(request), json.dumps(request.to_json()), save, time.time()),
                )
            except sqlite3.IntegrityError as error:
                raise BadRequest(f"a job with the id {job_id!r} exists already; leave the id out or choose another") from error

    def take(self, loaded: tuple[str, str] | None = None, leave: Collection[tuple[str, str] | None] = ()) -> JobRow | None:
        """The next job, now running: the oldest one of the owner who was served longest ago. None when nobody waits.

        loaded: the checkpoint and the VAE that the worker has in hand. A younger job of the same owner that needs them and no others goes
        first, but past no job more than MAX_OVERTAKEN times, and never past other owners' jobs.
        leave: what other workers that are free have in hand. If the next job needs that, it is theirs: None.
        """
        with self._database.write() as connection:
            found = connection.execute(
                "SELECT min(number) AS number, jobs.owner AS owner FROM jobs LEFT JOIN turns ON turns.owner = jobs.owner"
                " WHERE status = 'queued' GROUP BY jobs.owner ORDER BY coalesce(turn, 0), min(number) LIMIT 1"
            ).fetchone()
            if found is None:
                return None
            if leave and _needs(_row(connection.execute("SELECT * FROM jobs WHERE number = ?", (found["number"],)).fetchone())) in leave:
                return None
            number = self._neighbour(connection, found["owner"], found["number"], loaded) if loaded else found["number"]
            connection.execute("UPDATE jobs SET status = 'running', seq = seq + 1 WHERE number = ?", (number,))
            connection.execute(
                "INSERT OR REPLACE INTO turns (owner, turn) VALUES (?, (SELECT coalesce(max(turn), 0) + 1 FROM turns))", (found["owner"],)
            )
            return _row(connection.execute("SELECT * FROM jobs WHERE number = ?", (number,)).fetchone())

    @staticmethod
    def _neighbour(connection: sqlite3.Connection, owner: str, oldest: int, loaded: tuple[str, str]) -> int:
        """The owner's oldest job for what is loaded, unless one that it would overtake was overtaken often enough.

        Whom it overtakes is told. All are asked: one that a worker gave back is the oldest again, and was not there to be overtaken.
        """
        found = connection.execute(
            "SELECT min(number) FROM jobs WHERE status = 'queued' AND owner = ?"
            " AND CASE WHEN json_valid(request) THEN"
            " json_extract(request, '$.checkpoint') = ? AND json_extract(request, '$.vae') = ? ELSE 0 END",
            (owner, *loaded),
        ).fetchone()[0]
        older = "SELECT max(overtaken) FROM jobs WHERE status = 'queued' AND owner = ? AND number < ?"
        if found is None or found == oldest or connection.execute(older, (owner, found)).fetchone()[0] >= MAX_OVERTAKEN:
            return oldest
        sql = "UPDATE jobs SET overtaken = overtaken + 1 WHERE status = 'queued' AND owner = ? AND number < ?"
        connection.execute(sql, (owner, found))
        return int(found)

    def cancel(self, job_id: str) -> bool:
        """End a job that still waits; False when it does not wait."""
        with self._database.write() as connection:
            sql = "UPDATE jobs SET status = 'interrupted', seq = seq + 1 WHERE id = ? AND status = 'queued'"
            return connection.execute(sql, (job_id,)).rowcount == 1

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
        with self._database.write() as connection:
            connection.execute(sql, (status, seq, error, error_status, "\n".join(notices), error_name, job_id))

    def give_back(self, job_id: str, seq: int, died: bool) -> None:
        """Let a running job wait again, with the same request; `died`: its worker died of it."""
        with self._database.write() as connection:
            sql = "UPDATE jobs SET status = 'queued', seq = ?, deaths = deaths + ? WHERE id = ?"
            connection.execute(sql, (seq, int(died), job_id))

    def recover(self) -> None:
        """At start-up: what ran when the server ended waits again, unless that happened too often."""
        sentence = f"Easel was ended {MAX_RESTARTS} times while this job ran; submit it again if it was not to blame"
        with self._database.write() as connection:
            sql = "UPDATE jobs SET status = 'queued', restarts = restarts + 1, seq = seq + ? WHERE status = 'running'"
            connection.execute(sql, (SEQ_LEAP,))
            connection.execute(
                "UPDATE jobs SET status = 'failed', error = ?, error_status = ?, error_name = ? WHERE status = 'queued' AND restarts >= ?",
                (sentence, EngineError.status, EngineError.__name__, MAX_RESTARTS),
            )

    def get(self, job_id: str) -> JobRow:
        """Raises MissingModel when there is no such job."""
        rows = self._database.read("SELECT * FROM jobs WHERE id = ?", (job_id,))
        if not rows:
            raise MissingModel(f"there is no job {job_id!r}")
        return _row(rows[0])

    def find(self, owner: str | None, statuses: Sequence[str] | None, limit: int) -> list[JobRow]:
        """The newest `limit` jobs, oldest first; owner None: of everybody; statuses None: all."""
        sql = "SELECT * FROM jobs WHERE 1"
        values: list[object] = []
        if owner is not None:
            sql, values = sql + " AND owner = ?", [*values, owner]
        if statuses is not None:
            sql, values = sql + f" AND status IN ({','.join('?' * len(statuses))})", [*values, *statuses]
        rows = self._database.read(sql + " ORDER BY number DESC LIMIT ?", [*values, limit])
        return [_row(row) for row in reversed(rows)]

    def waiting(self) -> list[tuple[str, str]]:
        """(owner, job id) of all jobs that wait."""
        rows = self._database.read("SELECT owner, id FROM jobs WHERE status = 'queued' ORDER BY number")
        return [(row["owner"], row["id"]) for row in rows]

    def count_waiting(self) -> int:
        """How many jobs wait."""
        return int(self._database.read("SELECT count(*) FROM jobs WHERE status = 'queued'")[0][0])

    def ahead(self, job: JobRow) -> int:
        """How many jobs run or will be taken before this waiting one, as things stand; neighbours that may overtake are not counted."""
        if job.status != "queued":
            return 0
        rows = self._database.read(
            "SELECT jobs.owner AS owner, count(*) AS waiting, min(number) AS first, coalesce(turn, 0) AS turn, sum(number < ?) AS older"
            " FROM jobs LEFT JOIN turns ON turns.owner = jobs.owner WHERE status = 'queued' GROUP BY jobs.owner",
            (job.number,),
        )
        running = int(self._database.read("SELECT count(*) FROM jobs WHERE status = 'running'")[0][0])
        own = next((row for row in rows if row["owner"] == job.owner), None)
        if own is None:
            return running
        rounds = int(own["older"])  # of this owner, before this job
        before = rounds
        for row in rows:
            if row["owner"] != job.owner:
                first_in_turn = (row["turn"], row["first"]) < (own["turn"], own["first"])
                before += min(int(row["waiting"]), rounds + int(first_in_turn))
        return running + before


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
    )
