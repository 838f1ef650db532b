"""Events in /api/v1: server-sent events whose ids are cursors, so that a client that was cut off reads on where it was.

event "ready": where the stream begins; "job": a job is now so (its new status, error, priority), stored; "progress": how far it is;
"queue": paused or resumed, look at /queue. Each "job" event comes once, in order. What happened long ago, or before a restart, is told as
the latest state of each job.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool

from webui.api.asker import Asker, asker_of
from webui.core.settings import Settings
from webui.service.queue import ENDED
from webui.service.service import Service

HEARTBEAT = 15.0  # seconds of silence after which a comment is sent
FAR = 2**63
EXAMPLE = 'id: 1000007\nevent: job\ndata: {"job": "4f0c…", "status": "done", "priority": 0, "error": ""}\n\n'
STREAM: dict[int | str, dict[str, Any]] = {200: {"description": "Events", "content": {"text/event-stream": {"example": EXAMPLE}}}}
Cursor = Annotated[int | None, Query(description="the id of the last event that was read; left out: from now on", ge=0, lt=FAR)]
LastId = Annotated[str | None, Header(alias="Last-Event-ID", description="the same, as browsers send it when they connect again")]


def add_event_routes(router: APIRouter, service: Service, settings: Settings) -> None:
    @router.get("/events", response_class=StreamingResponse, responses=STREAM)
    async def events(request: Request, cursor: Cursor = None, last_event_id: LastId = None) -> Response:
        """All events of the asker's jobs, of all where the asker manages all, until the client leaves."""
        return _stream(_Reader(service, asker_of(request, settings), _position(cursor, last_event_id)))

    @router.get("/jobs/{job_id}/events", response_class=StreamingResponse, responses=STREAM)
    async def job_events(request: Request, job_id: str, cursor: Cursor = None, last_event_id: LastId = None) -> Response:
        """One job's events, beginning with how it stands, until it has ended. 204 where the cursor lies behind its end."""
        asker = asker_of(request, settings)
        reader = _Reader(service, asker, _position(cursor, last_event_id), job_id)
        return Response(status_code=204) if await run_in_threadpool(reader.knows_the_end) else _stream(reader)


def _position(cursor: int | None, last_event_id: str | None) -> int | None:
    """The header is the newer one: a browser that connects again keeps the address."""
    if last_event_id and last_event_id.isascii() and last_event_id.isdecimal() and len(last_event_id) < 19:
        return int(last_event_id)
    return cursor


def _stream(reader: "_Reader") -> Response:
    return StreamingResponse(
        reader.read(), media_type="text/event-stream", headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    )


class _Reader:
    """One client's reading. cursor None: from now on; job_id "": all jobs."""

    def __init__(self, service: Service, asker: Asker, cursor: int | None, job_id: str = "") -> None:
        self._service = service
        self._asker = asker
        self._from_now = cursor is None
        self._cursor = service.log.last if cursor is None else cursor
        self._job_id = job_id
        self._ended = False

    def knows_the_end(self) -> bool:
        """Whether the job has ended and the cursor lies behind that. Raises MissingModel, NotAllowed."""
        job = self._asker.job(self._service, self._job_id)
        events = () if self._from_now else self._service.events_after(self._cursor, self._asker.scope)
        return job.ended and not self._from_now and not any(event.facts.get("job") == job.id for event in events)

    async def read(self) -> AsyncIterator[str]:
        loop, news = asyncio.get_running_loop(), asyncio.Event()
        leave = self._service.log.watch(lambda: loop.call_soon_threadsafe(news.set))
        try:
            yield _message(self._cursor, "ready", {"cursor": self._cursor})
            if self._job_id and self._from_now:
                yield await run_in_threadpool(self._as_it_is)
            while not self._ended and not self._service.log.closed:
                news.clear()
                told = await run_in_threadpool(self._next)
                for message in told:
                    yield message
                if not told:
                    try:
                        await asyncio.wait_for(news.wait(), HEARTBEAT)
                    except TimeoutError:
                        yield ": still here\n\n"
        finally:
            leave()

    def _as_it_is(self) -> str:
        """An event that tells how the job stands; what happens to it after the cursor is told after it."""
        job = self._asker.job(self._service, self._job_id)
        self._ended = job.ended
        return _message(self._cursor, "job", {"job": job.id, "status": job.status, "error": job.error})

    def _next(self) -> list[str]:
        """The next events, none if nothing has happened."""
        messages = []
        for event in self._service.events_after(self._cursor, self._asker.scope):
            self._cursor = event.id
            if self._job_id and event.facts.get("job") != self._job_id:
                continue
            messages.append(_message(event.id, event.kind, dict(event.facts)))
            if self._job_id and event.facts["status"] in ENDED:
                self._ended = True
                break
        return messages


def _message(number: int, kind: str, facts: dict[str, Any]) -> str:
    return f"id: {number}\nevent: {kind}\ndata: {json.dumps(facts)}\n\n"
