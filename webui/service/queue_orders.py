"""What people may do with jobs that wait or have ended: move, edit, try again, make once more, pause. Each manages their own jobs."""

import json
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from webui.core.errors import BadRequest, NotAllowed, TooLate
from webui.core.job_request import JobRequest, kind_of
from webui.core.request import GenerationRequest
from webui.core.scripts.request import ScriptRequest
from webui.core.xray import XrayRequest
from webui.service.job import Job
from webui.service.queue import ENDED, MAX_OVERTAKEN, Change, JobQueue, JobRow
from webui.service.turns import EVERYBODY, PRIORITIES
from webui.service.wording import before_chance

MOVES = ("top", "up", "down", "bottom")
MAX_PAGE = 500  # jobs in one answer


@dataclass(frozen=True)
class QueueState:
    """The queue at one moment, as its owner sees it."""

    waiting: int  # jobs
    running: int
    paused: str  # "" nothing is; "own": the asker's jobs; "all": everybody's
    last_event: int  # id of the latest stored change of any job


class QueueOrders:
    """Orders for the queue. `owner`: whose order it is, and whose jobs it may touch; None: one who may touch all.

    Methods that name a job raise MissingModel where there is none, and NotAllowed where it is somebody else's.
    """

    def __init__(
        self,
        queue: JobQueue,
        completed: Callable[[JobRequest], JobRequest],
        seen: Callable[[Callable[[], Sequence[JobRow]]], list[Job]],
        changed: Callable[[], None],
    ):
        """completed: fills in what a request leaves open; seen: rows as the outside sees them, given how to find them; changed: is called
        after each change."""
        self._queue = queue
        self._completed = completed
        self._seen = seen
        self._changed = changed

    def jobs(self, owner: str | None, statuses: Sequence[str] | None = None, limit: int = MAX_PAGE, before: int | None = None) -> list[Job]:
        """Jobs, the newest first, without those that were cleared away. statuses: as stored, None: all; before: of a lower number."""
        return self._seen(lambda: self._queue.find(owner, statuses, min(limit, MAX_PAGE), before, listed=True)[::-1])

    def state(self, owner: str | None) -> QueueState:
        """How many jobs wait and run, of that owner or of all; whether it goes on."""
        pauses = self._queue.pauses()
        paused = "all" if EVERYBODY in pauses else "own" if owner in pauses else ""
        return QueueState(*self._queue.counts(owner), paused, self._queue.log.stored)

    def move(self, job_id: str, to: str, owner: str | None) -> None:
        """Move a waiting job among its owner's: one of MOVES. Raises BadRequest, TooLate."""
        if to not in MOVES:
            raise BadRequest(f"a job moves to one of: {', '.join(MOVES)}; not to {to[:50]!r}")
        with self._queue.change() as change:
            row = self._waiting(change, job_id, owner)
            own = _own(change, row)
            at = own.index(job_id)
            to_place = {"top": 0, "up": max(at - 1, 0), "down": at + 1, "bottom": len(own)}[to]
            own.remove(job_id)
            own.insert(to_place, job_id)
            _arrange(change, own, job_id)
        self._changed()

    def move_before(self, job_id: str, other_id: str, owner: str | None) -> None:
        """Move a waiting job before another one of the same owner. Raises BadRequest, TooLate."""
        with self._queue.change() as change:
            row, other = self._waiting(change, job_id, owner), self._waiting(change, other_id, owner)
            if row.owner != other.owner:
                raise BadRequest("these jobs belong to two clients, who take turns; a job moves among the jobs of its own client")
            if job_id != other_id:
                own = _own(change, row)
                own.remove(job_id)
                own.insert(own.index(other_id), job_id)
                _arrange(change, own, job_id)
        self._changed()

    def prioritise(self, job_id: str, priority: str, owner: str | None) -> None:
        """Give a waiting job one of PRIORITIES. Raises BadRequest, TooLate."""
        if priority not in PRIORITIES:
            raise BadRequest(f"a job has the priority {', '.join(PRIORITIES)}; not {priority[:50]!r}")
        with self._queue.change() as change:
            self._waiting(change, job_id, owner)
            change.connection.execute("UPDATE jobs SET priority = ?, seq = seq + 1 WHERE id = ?", (PRIORITIES[priority], job_id))
            change.mark(job_id)
        self._changed()

    def edit(self, job_id: str, request: JobRequest, owner: str | None) -> None:
        """Give a waiting job another request. It keeps its place. Raises BadRequest, MissingModel; TooLate once it has begun."""
        self._check_owner(self._queue.get(job_id), owner)
        request = self._completed(request)
        with self._queue.change() as change:
            self._waiting(change, job_id, owner)
            sql = "UPDATE jobs SET request = ?, kind = ?, seq = seq + 1 WHERE id = ?"
            change.connection.execute(sql, (json.dumps(request.to_json()), kind_of(request), job_id))
            change.mark(job_id)
        self._changed()

    def retry(self, job_id: str, owner: str | None) -> None:
        """Let a job that failed or was interrupted wait again, at the end, with the same request: what it has made already is kept.

        Raises TooLate for other jobs, Busy when the queue is full.
        """
        with self._queue.change() as change:
            row = change.job(job_id)
            self._check_owner(row, owner)
            if row.status not in ("failed", "interrupted"):
                raise TooLate(f"job {job_id!r} is {row.status}; only one that failed or was interrupted can be tried again")
            self._queue.check_room(change)
            change.connection.execute(
                "UPDATE jobs SET status = 'queued', deaths = 0, restarts = 0, error = '', error_status = 0, error_name = '', notices = '',"
                " listed = 1, overtaken = 0, seq = seq + 1, place = (SELECT max(place) + 1 FROM jobs) WHERE id = ?",
                (job_id,),
            )
            change.mark(job_id)
        self._changed()

    def duplicate(self, job_id: str, owner: str | None, new_seed: bool = False) -> str:
        """Queue the request of any job once more, for the same owner; returns the new job's id. Raises BadRequest, MissingModel, Busy."""
        row = self._queue.get(job_id)
        self._check_owner(row, owner)
        request = self._completed(_with_new_seed(row.request) if new_seed else row.request)
        copy = secrets.token_hex(8)
        self._queue.add(copy, row.owner, request, row.save, row.priority)
        self._changed()
        return copy

    def clear(self, owner: str | None) -> int:
        """Take ended jobs off the list; their pictures stay. Returns how many."""
        whose, values = ("", []) if owner is None else (" AND owner = ?", [owner])
        with self._queue.change() as change:
            sql = f"UPDATE jobs SET listed = 0 WHERE listed AND status IN ({','.join('?' * len(ENDED))}){whose}"
            cleared = change.connection.execute(sql, [*ENDED, *values]).rowcount
        self._tell_state()
        return cleared

    def pause(self, owner: str | None) -> None:
        """Let the owner's jobs wait, those of all for None, until `resume`, over restarts. What runs goes on."""
        with self._queue.change() as change:
            change.connection.execute("INSERT OR IGNORE INTO pauses (owner) VALUES (?)", (EVERYBODY if owner is None else owner,))
        self._tell_state()

    def resume(self, owner: str | None) -> None:
        """Let the owner's jobs go on; None: everybody's, whoever paused them."""
        with self._queue.change() as change:
            sql = "DELETE FROM pauses" if owner is None else "DELETE FROM pauses WHERE owner = ?"
            change.connection.execute(sql, () if owner is None else (owner,))
        self._tell_state()

    def _tell_state(self) -> None:
        self._queue.log.tell("queue", EVERYBODY, {"paused_all": EVERYBODY in self._queue.pauses()})
        self._changed()

    def _waiting(self, change: Change, job_id: str, owner: str | None) -> JobRow:
        row = change.job(job_id)
        self._check_owner(row, owner)
        if row.status != "queued":
            raise TooLate(f"job {job_id!r} is {row.status}; only a job that still waits can be changed: duplicate it instead")
        return row

    @staticmethod
    def _check_owner(row: JobRow, owner: str | None) -> None:
        if owner is not None and row.owner != owner:
            raise NotAllowed(f"job {row.id!r} belongs to somebody else; only they may change it")


def _own(change: Change, row: JobRow) -> list[str]:
    """The ids of the waiting jobs of this one's owner, in the order of taking."""
    sql = "SELECT id FROM jobs WHERE status = 'queued' AND owner = ? ORDER BY priority DESC, place"
    return [found["id"] for found in change.connection.execute(sql, (row.owner,))]


def _arrange(change: Change, ids: list[str], moved: str) -> None:
    """Give the jobs their places in the order of `ids`; the moved one takes over a neighbour's priority where it must.

    Nobody overtakes any of them any more: somebody has decided on their order.
    """
    connection = change.connection
    rows = {each: connection.execute("SELECT priority, place FROM jobs WHERE id = ?", (each,)).fetchone() for each in ids}
    places = sorted(row["place"] for row in rows.values())
    at = ids.index(moved)
    most = rows[ids[at - 1]]["priority"] if at else max(PRIORITIES.values())
    least = rows[ids[at + 1]]["priority"] if at + 1 < len(ids) else min(PRIORITIES.values())
    priority = min(max(rows[moved]["priority"], least), most)
    connection.execute("UPDATE jobs SET priority = ?, seq = seq + 1 WHERE id = ?", (priority, moved))
    connection.executemany(
        "UPDATE jobs SET place = ?, overtaken = ? WHERE id = ?", zip(places, [MAX_OVERTAKEN] * len(ids), ids, strict=True)
    )
    change.mark(moved)


def _with_new_seed(request: JobRequest) -> JobRequest:
    """The request before chance decided: seeds and what the prompts leave open are drawn again."""
    if isinstance(request, ScriptRequest):
        base = _with_new_seed(request.base)
        assert isinstance(base, GenerationRequest)
        return ScriptRequest(base=base, script=request.script, arguments=request.arguments)
    if isinstance(request, XrayRequest) and request.makes_pictures:
        base = _with_new_seed(request.base)
        assert isinstance(base, GenerationRequest)
        return replace(request, base=base)
    if not isinstance(request, GenerationRequest):
        raise BadRequest("this job has no seed: duplicate it without a new one")
    return replace(before_chance(request), seed=-1, variation_seed=-1)
