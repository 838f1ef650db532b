"""What the page's Queue tab asks.

GET  /internal/queue?client=  -> {"state": waiting, running, paused, last_event, "all": whether everybody's jobs are shown,
                                  "jobs": [job, ...]: those that run, those that wait in the order of taking, then ended ones, newest first}
POST /internal/queue {"client", "order": one of the names below, "job", and what the order needs} -> {}

A job: {"id", "tab", "title", "status", "priority", "ahead", "fraction", "text", "error", "picture": {"id", "version"} or null,
"inputs": {"image", "mask"} by hash, "editable", "own"}. Texts are data, never HTML.
"""

from typing import Any, Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel

from webui.api.asker import Asker, asker_of
from webui.core.extras import ExtrasRequest
from webui.core.job_request import JobRequest, shown_request
from webui.core.request import GenerationRequest
from webui.core.training_request import TrainingRequest
from webui.core.xray import XrayRequest
from webui.service.job import Job
from webui.service.service import Service

ENDED_SHOWN = 60  # ended jobs in the list
RUNNING, ENDED = ("running",), ("done", "failed", "interrupted")


class QueueOrder(BaseModel):
    """One order for the queue; `job` is left empty where it is for all."""

    order: Literal["move", "before", "priority", "retry", "duplicate", "cancel", "pause", "resume", "clear"]
    client: str = ""
    job: str = ""
    to: str = ""
    before: str = ""
    priority: str = ""
    new_seed: bool = False


def add_queue_routes(router: APIRouter, service: Service) -> None:
    """Put the routes above on the router of /internal."""

    @router.get("/queue")
    def queue(request: Request, client: str = "") -> dict[str, Any]:
        asker = asker_of(request, service.settings, client)
        waiting = sorted(service.queue.jobs(asker.scope, ("queued",), limit=500), key=lambda job: job.ahead)
        jobs = [*service.queue.jobs(asker.scope, RUNNING), *waiting, *service.queue.jobs(asker.scope, ENDED, ENDED_SHOWN)]
        told = {job.id: _told(job, asker) for job in jobs}  # a job that went on between two looks is shown once, as it was seen last
        return {"state": service.queue.state(asker.scope), "all": asker.admin, "jobs": list(told.values())}

    @router.post("/queue")
    def act(request: Request, body: QueueOrder) -> dict[str, Any]:
        _act(service, body, asker_of(request, service.settings, body.client).scope)
        return {}


def _act(service: Service, body: QueueOrder, scope: str | None) -> None:
    orders = service.queue
    if body.order == "cancel":
        service.interrupt(body.job, owner=scope)
    elif body.order == "move":
        orders.move(body.job, body.to, scope)
    elif body.order == "before":
        orders.move_before(body.job, body.before, scope)
    elif body.order == "priority":
        orders.prioritise(body.job, body.priority, scope)
    elif body.order == "retry":
        orders.retry(body.job, scope)
    elif body.order == "duplicate":
        orders.duplicate(body.job, scope, body.new_seed)
    else:
        {"pause": orders.pause, "resume": orders.resume, "clear": orders.clear}[body.order](scope)


def _title(request: JobRequest, prompt: str) -> str:
    """What is done, with the prompt; X-rays say theirs themselves."""
    if isinstance(request, GenerationRequest):
        return prompt
    return f"{request.title}: {prompt}" if prompt and not isinstance(request, XrayRequest) else request.title


def _told(job: Job, asker: Asker) -> dict[str, Any]:
    request, shown = job.request, shown_request(job.request)
    init = shown.init if shown else None
    picture = next(iter(job.pictures), None)
    prompt = (shown.template or shown.prompt) if shown else ""
    return {
        "id": job.id,
        "tab": tab_of(job),
        "title": _title(request, prompt),
        "status": job.status,
        "priority": job.priority,
        "ahead": job.ahead,
        "fraction": round(job.fraction, 4),
        "text": job.text,
        "error": job.error,
        "picture": {"id": picture.id, "version": f"{picture.created:.6f}"} if picture else None,
        "inputs": {"image": init.image if init else "", "mask": init.inpaint.mask if init and init.inpaint else ""},
        "editable": isinstance(request, GenerationRequest),
        "own": job.owner == asker.owner,
    }


def tab_of(job: Job) -> str:
    """The tab of the page to which a job belongs."""
    if isinstance(job.request, XrayRequest) and not job.request.makes_pictures:
        return "xray"
    if isinstance(job.request, ExtrasRequest):
        return "extras"
    if isinstance(job.request, TrainingRequest):
        return "train"
    request = shown_request(job.request)
    if request is None:
        return "merger"
    if request.init is None:
        return "txt2img"
    return "img2img" if request.init.outpaint is None else "outpaint"
