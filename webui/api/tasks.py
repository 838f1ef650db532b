"""What older clients ask outside /sdapi: progress of a task by its id, waiting tasks, facts about the system, Gradio 3's queue."""

import base64
import os
import platform
import sys
from datetime import datetime
from importlib import metadata
from typing import Any

from fastapi import APIRouter, Request

from webui import __version__
from webui.api import schemas as wire
from webui.api.envelope import EnvelopeRoute
from webui.api.flags import told_flags
from webui.api.roles import is_guest
from webui.core.errors import MissingModel
from webui.core.settings import Settings
from webui.service.job import Job
from webui.service.service import Service

PACKAGES = (
    "torch",
    "diffusers",
    "transformers",
    "accelerate",
    "safetensors",
    "gradio",
    "fastapi",
    "uvicorn",
    "pillow",
    "numpy",
    "xformers",
)


def tasks_router(service: Service, settings: Settings) -> APIRouter:
    router = APIRouter(route_class=EnvelopeRoute, include_in_schema=False, strict_content_type=False)

    @router.post("/internal/progress")
    def progress(body: wire.TaskQuestion, request: Request) -> wire.TaskProgress:
        return _task_progress(service, body, with_preview=not is_guest(request))

    @router.get("/internal/pending-tasks")
    def pending() -> dict[str, Any]:
        tasks = [service.tasks.name(job.id) for job in service.jobs() if job.status == "queued"]
        return {"size": len(tasks), "tasks": tasks}

    @router.get("/internal/sysinfo")
    def sysinfo() -> dict[str, Any]:
        return _sysinfo(service, settings)

    @router.get("/queue/status")
    def queue_status() -> dict[str, Any]:
        jobs = service.jobs()
        eta = sum(job.eta or 0.0 for job in jobs)
        times = {"avg_event_process_time": None, "avg_event_concurrent_process_time": None, "rank_eta": None, "queue_eta": eta}
        return {"msg": "estimation", "rank": None, "queue_size": len(jobs), **times}

    return router


def _task_progress(service: Service, asked: wire.TaskQuestion, with_preview: bool) -> wire.TaskProgress:
    try:
        job = service.job(service.tasks.job(asked.id_task))
    except MissingModel:
        return wire.TaskProgress(textinfo="Waiting...")
    if job.status == "queued":
        waiting = [one.id for one in service.jobs() if one.status == "queued"]
        place = waiting.index(job.id) + 1 if job.id in waiting else 1
        return wire.TaskProgress(queued=True, textinfo=f"In queue: {place}/{max(len(waiting), 1)}")
    if job.ended:
        return wire.TaskProgress(completed=True, textinfo=job.error or None)
    preview = service.preview(job.id) if with_preview and asked.live_preview and job.preview_seq != asked.id_live_preview else None
    return _running(job, preview, asked.id_live_preview)


def _running(job: Job, preview: bytes | None, known: int) -> wire.TaskProgress:
    picture = f"data:image/jpeg;base64,{base64.b64encode(preview).decode('ascii')}" if preview else None
    return wire.TaskProgress(
        active=True,
        progress=job.fraction,
        eta=job.eta,
        live_preview=picture,
        id_live_preview=job.preview_seq if preview else known,
        textinfo=job.text or None,
    )


def _sysinfo(service: Service, settings: Settings) -> dict[str, Any]:
    """Facts for a report of a fault; no passwords, no environment, no command line."""
    return {
        "Platform": platform.platform(),
        "Python": sys.version.split()[0],
        "Version": f"Easel {__version__}",
        "Timestamp": datetime.now().astimezone().isoformat(timespec="seconds"),
        "Worker": service.worker_state(),
        "CPU": {"model": platform.processor() or platform.machine(), "count logical": os.cpu_count()},
        "RAM": service.status.memory()["ram"],
        "Extensions": [],
        "Flags": told_flags(settings),
        "Config": service.preferences(),
        "Packages": {name: version for name in PACKAGES if (version := _version(name))},
    }


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""
