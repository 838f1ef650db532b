"""What the page itself needs beside Gradio: one WebSocket per page with job snapshots, previews, pictures, inputs, PNG info.

Jobs belong to the browser that queued them, known by the random client id that it sends along.
"""

import asyncio
from dataclasses import asdict
from typing import Any

from fastapi import APIRouter, Request, Response, WebSocket, WebSocketDisconnect
from fastapi.responses import FileResponse
from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool

from webui.api.asker import CLIENT, asker_of
from webui.api.desktop import add_desktop_routes
from webui.api.envelope import EnvelopeRoute
from webui.api.extras import add_page_routes
from webui.api.files import file_answer
from webui.api.gallery import add_gallery_routes
from webui.api.models import add_model_routes
from webui.api.preferences import add_preference_routes
from webui.api.prompts import add_prompt_routes
from webui.api.queue import add_queue_routes, tab_of
from webui.api.roles import is_guest
from webui.api.styles import add_style_routes
from webui.api.training_page import add_training_page_routes
from webui.api.uploads import add_upload_routes
from webui.api.xray import add_xray_routes
from webui.core.errors import MissingModel, NotAllowed
from webui.core.extras import ExtrasRequest
from webui.core.request import GenerationRequest
from webui.core.xray import XrayRequest
from webui.service.job import Job
from webui.service.service import Service
from webui.service.status import Status

LONGEST_PAUSE = 1.0  # seconds between looks at the worker's state while nothing happens
SHORTEST_PAUSE = 0.1  # seconds between two messages to one page
REMEMBERED = 24  # latest pictures that a page is told of when it opens


def internal_router(service: Service) -> APIRouter:
    router = APIRouter(prefix="/internal", route_class=EnvelopeRoute, include_in_schema=False)
    _add_job_routes(router, service)
    _add_picture_routes(router, service)
    add_upload_routes(router, service)
    _add_replay_routes(router, service)
    add_model_routes(router, service)
    add_prompt_routes(router, service)
    add_style_routes(router, service)
    add_training_page_routes(router, service)
    add_desktop_routes(router, service)
    add_preference_routes(router, service)
    add_gallery_routes(router, service)
    add_xray_routes(router, service)
    add_queue_routes(router, service)
    add_page_routes(router, service)

    @router.get("/ping")
    def ping() -> dict[str, str]:
        return {}

    @router.websocket("/ws/{client}")
    async def watch(socket: WebSocket, client: str) -> None:
        if not CLIENT.fullmatch(client):
            await socket.close(1008)
            return
        await socket.accept()
        await _PageChannel(service, socket, client).run()

    return router


def _add_job_routes(router: APIRouter, service: Service) -> None:
    @router.get("/jobs/{job_id}/preview.jpg")
    def preview(job_id: str, client: str = "") -> Response:
        _own_job(service, job_id, client)
        jpeg = service.preview(job_id)
        if jpeg is None:
            raise MissingModel("this job has no preview yet; wait for its first step")
        return Response(jpeg, media_type="image/jpeg", headers={"Cache-Control": "no-store"})

    @router.get("/jobs/{job_id}")
    def told(job_id: str, client: str = "") -> dict[str, Any]:
        job = _own_job(service, job_id, client)
        return {key: getattr(job, key) for key in ("id", "status", "fraction", "text", "error", "notices")}

    @router.post("/jobs/{job_id}/interrupt")
    def interrupt(job_id: str, client: str = "") -> dict[str, str]:
        _own_job(service, job_id, client)
        service.interrupt(job_id, owner=client)
        return {}

    @router.post("/jobs/{job_id}/skip")
    def skip(job_id: str, client: str = "") -> dict[str, str]:
        _own_job(service, job_id, client)
        service.skip(job_id, owner=client)
        return {}


def _own_job(service: Service, job_id: str, client: str) -> Job:
    job = service.job(job_id)
    if job.owner != client:
        raise NotAllowed("this job was queued by another browser; only that one may look at it or stop it")
    return job


def _add_picture_routes(router: APIRouter, service: Service) -> None:
    @router.get("/pictures/{picture_id}")
    def picture(picture_id: int, request: Request, client: str = "") -> FileResponse:
        found = service.picture(picture_id)
        if is_guest(request) and (not client or found.owner != client):
            raise NotAllowed("this picture was made by somebody else; guests see their own")
        return file_answer(found.path)

    @router.get("/inputs/{name}")
    def kept_input(name: str) -> FileResponse:
        return file_answer(service.input_path(name))


class ReplayOrder(BaseModel):
    """Which picture to make again, by the hash under which it was kept, for which browser."""

    input: str
    client: str = ""


def _add_replay_routes(router: APIRouter, service: Service) -> None:
    @router.post("/replay")
    def replay(order: ReplayOrder) -> dict[str, str]:
        return {"job": service.replays.begin(order.input, owner=order.client)}

    @router.get("/replay/{job_id}")
    def verdict(job_id: str, of: str, client: str = "") -> dict[str, Any]:
        _own_job(service, job_id, client)
        found = service.replays.verdict(of, job_id)
        return {"verdict": found.kind, "sentences": found.sentences} if found else {}


class _PageChannel:
    """One page's socket. Wakes when the service tells of a change, sends what is new to this page, latest wins."""

    def __init__(self, service: Service, socket: WebSocket, client: str) -> None:
        self.service = service
        self.socket = socket
        self.client = client
        self.changed = asyncio.Event()
        self.active: set[str] = set()  # ids of jobs that had not ended when last told
        self.touched: set[str] = set()  # ids of this page's jobs that changed since; some may have begun and ended
        self.sent: dict[str, list[int]] = {}  # job id -> ids of the pictures told of
        self.last: dict[str, dict[str, Any]] = {}  # job id -> last snapshot
        self.worker = ""
        self.gallery = -1  # the collection's revision
        self.scope = asker_of(socket, service.settings, client).scope
        self.queue: dict[str, Any] = {}
        self.status: dict[str, Any] = {}

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        stop_watching = self.service.watch(lambda owner, job_id: loop.call_soon_threadsafe(self._note, owner, job_id))
        listening = asyncio.create_task(self._listen())
        telling = asyncio.create_task(self._tell())
        try:
            done, _ = await asyncio.wait({listening, telling}, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        except WebSocketDisconnect:
            pass
        finally:
            stop_watching()
            for task in (listening, telling):
                task.cancel()

    def _note(self, owner: str, job_id: str) -> None:
        if owner == self.client:
            self.touched.add(job_id)
            self.changed.set()

    async def _listen(self) -> None:
        while True:
            await self.socket.receive_text()  # pages say nothing; this ends when they leave

    async def _send(self, message: dict[str, Any]) -> None:
        try:
            await self.socket.send_json(message)
        except RuntimeError as error:  # what servers raise for a send after the page has gone
            raise WebSocketDisconnect(1006, str(error)) from None

    async def _tell(self) -> None:
        past = await run_in_threadpool(self._past)
        self.active = {job.id for job in await run_in_threadpool(self.service.jobs, self.client)}
        state, reach = self.service.worker_state(), self.service.settings.reach
        hello = {"hello": True, "worker": state, "reach": reach, "losses": self.service.losses}
        await self._send({**hello, "jobs": past, "active": sorted(self.active)})
        while True:
            self.changed.clear()
            touched, self.touched = self.touched, set()
            message = await run_in_threadpool(self._news, touched)
            if message:
                await self._send(message)
            await asyncio.sleep(SHORTEST_PAUSE)
            try:
                await asyncio.wait_for(self.changed.wait(), LONGEST_PAUSE)
            except TimeoutError:
                continue

    def _past(self) -> list[dict[str, Any]]:
        """Snapshots of the ended jobs behind this owner's latest pictures and of the latest jobs, whose end a page may have missed."""
        pictures = self.service.recent_pictures(REMEMBERED, 0, self.client)
        jobs = [self.service.job(job_id) for job_id in dict.fromkeys(picture.job for picture in pictures)]
        latest = self.service.jobs(self.client, active_only=False, limit=REMEMBERED)
        past = {job.id: job for job in (*jobs, *latest) if job.ended}
        return [self._snapshot(job) for job in sorted(past.values(), key=lambda job: job.created)]

    def _news(self, touched: set[str]) -> dict[str, Any]:
        """What this page does not know yet: jobs that changed, the worker's state, the status line; {} if nothing."""
        jobs = [self.service.job(job_id) for job_id in self.active | touched]
        self.active = {job.id for job in jobs if not job.ended}
        snapshots = []
        for job in sorted(jobs, key=lambda job: job.created):
            snapshot = self._snapshot(job)
            compared = {key: value for key, value in snapshot.items() if key not in ("pictures", "seq")}
            if "pictures" in snapshot or self.last.get(job.id) != compared:
                snapshots.append(snapshot)
                self.last[job.id] = compared
        message: dict[str, Any] = {"jobs": snapshots} if snapshots else {}
        state = self.service.worker_state()
        if state != self.worker:
            self.worker = message["worker"] = state
        revision = self.service.collection.revision
        if revision != self.gallery:
            self.gallery = message["gallery"] = revision
        queue = asdict(self.service.queue.state(self.scope))
        if queue != self.queue:
            self.queue = message["queue"] = queue
        status = _status_line(self.service.status.now())
        if status != self.status:
            self.status = message["status"] = status
        return message

    def _snapshot(self, job: Job) -> dict[str, Any]:
        progress = job.progress
        snapshot: dict[str, Any] = {
            "id": job.id,
            "tab": tab_of(job),
            "title": "" if isinstance(job.request, GenerationRequest) else job.request.title,
            "xray": isinstance(job.request, XrayRequest),
            "status": job.status,
            "fraction": round(job.fraction, 4),
            "eta": job.eta,
            "text": job.text,
            "ahead": job.ahead,
            "stopping": job.interrupt_asked,
            "preview_seq": job.preview_seq,
            "seq": job.seq,
            "error": job.error,
            "notices": job.notices,
            "step": progress.step if progress else 0,
            "steps": progress.steps if progress else 0,
            "batch": progress.batch if progress else 0,
            "batches": progress.batches if progress else 0,
        }
        if isinstance(job.request, ExtrasRequest):
            snapshot |= {"inputs": job.request.images, "line": job.request.postprocessing()}
        shown = [each.id for each in job.pictures]
        if self.sent.get(job.id) != shown:
            self.sent[job.id] = shown
            snapshot["pictures"] = [
                {
                    "id": each.id,
                    "version": f"{each.created:.6f}",  # in its address: another database may have another picture of this id
                    "ending": each.path.suffix,
                    "sheet": each.sheet,
                    "place": each.place,
                    "infotext": each.infotext,
                    "seed": str(each.seed),
                    "width": each.width,
                    "height": each.height,
                }
                for each in job.pictures
            ]
        return snapshot


def _status_line(status: Status) -> dict[str, Any]:
    """The status for pages: memory in tenths of GiB, so that a page is told of what people would notice."""
    devices = [
        {**vars(device), "used": round(device.used / 2**30, 1), "total": round(device.total / 2**30, 1)} for device in status.devices
    ]
    return {"devices": devices, "running": status.running, "waiting": status.waiting}
