"""Jobs and the queue in /api/v1."""

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response

from webui.api.asker import Asker, asker_of
from webui.api.v1 import schemas as wire
from webui.core.errors import MissingModel
from webui.core.settings import Settings
from webui.service.queue_orders import MAX_PAGE
from webui.service.service import Service

STORED = {"saving": "running"}  # what is seen from close by only


def add_job_routes(router: APIRouter, service: Service, settings: Settings) -> None:
    def who(request: Request) -> Asker:
        return asker_of(request, settings)

    _add_submitting(router, service, who)
    _add_looking(router, service, who)
    _add_changing(router, service, who)
    _add_queue(router, service, who)


def _add_submitting(router: APIRouter, service: Service, who: Callable[[Request], Asker]) -> None:
    @router.post("/jobs", status_code=202, response_model=wire.JobOut)
    def submit(request: Request, body: wire.NewJob) -> dict[str, Any]:
        """Queue a job. When this answers, the job outlives a power cut."""
        job_id = service.submit(wire.asked(body.request), owner=who(request).owner, job_id=body.id, save=body.save, priority=body.priority)
        return wire.told_of(service.job(job_id))

    @router.post("/jobs/{job_id}/retry", response_model=wire.JobOut)
    def retry(request: Request, job_id: str) -> dict[str, Any]:
        """Queue a job that failed or was interrupted again, under its id, with the same seed; what it has made already is kept."""
        service.queue.retry(job_id, who(request).scope)
        return wire.told_of(service.job(job_id))

    @router.post("/jobs/{job_id}/duplicate", status_code=202, response_model=wire.JobOut)
    def duplicate(request: Request, job_id: str, body: wire.Copy | None = None) -> dict[str, Any]:
        """Queue a job's request once more, under a new id."""
        copy = service.queue.duplicate(job_id, who(request).scope, body.new_seed if body else False)
        return wire.told_of(service.job(copy))


def _add_looking(router: APIRouter, service: Service, who: Callable[[Request], Asker]) -> None:
    @router.get("/jobs", response_model=wire.JobList)
    def jobs(
        request: Request,
        status: Annotated[list[wire.Status] | None, Query(description="only these")] = None,
        limit: Annotated[int, Query(ge=1, le=MAX_PAGE)] = 50,
        before: Annotated[int | None, Query(description="`next` of the page before", ge=0, lt=2**63)] = None,
    ) -> dict[str, Any]:
        """Jobs, the newest first, a page at a time; those that were cleared away are left out."""
        statuses = [STORED.get(each, each) for each in status] if status else None
        found = service.queue.jobs(who(request).scope, statuses, limit, before)
        return {"jobs": [wire.told_of(job) for job in found], "next": found[-1].number if len(found) == limit else None}

    @router.get("/jobs/{job_id}", response_model=wire.JobWhole)
    def job(request: Request, job_id: str) -> dict[str, Any]:
        """One job, with its request."""
        found = who(request).job(service, job_id)
        told = {key: value for key, value in found.request.to_json().items() if key != "changes"}
        return {**wire.told_of(found), "request": told}

    @router.get("/jobs/{job_id}/pictures", response_model=list[wire.PictureOut])
    def pictures(request: Request, job_id: str) -> list[dict[str, Any]]:
        """The job's finished pictures."""
        return [wire.told_of_picture(picture) for picture in who(request).job(service, job_id).pictures]

    @router.get("/jobs/{job_id}/preview", response_class=Response, responses={200: {"content": {"image/jpeg": {}}}})
    def preview(request: Request, job_id: str) -> Response:
        """The picture in the making, small; asking for it makes the worker draw previews."""
        who(request).job(service, job_id)
        jpeg = service.preview(job_id)
        if jpeg is None:
            raise MissingModel("this job has no preview yet; wait for its next step")
        return Response(jpeg, media_type="image/jpeg", headers={"Cache-Control": "no-store"})


def _add_changing(router: APIRouter, service: Service, who: Callable[[Request], Asker]) -> None:
    @router.patch("/jobs/{job_id}", response_model=wire.JobOut)
    def change(request: Request, job_id: str, body: wire.JobChange) -> dict[str, Any]:
        """Change a job that still waits: its request, its place, its priority, in this order."""
        scope = who(request).scope
        if body.request is not None:
            service.queue.edit(job_id, wire.asked(body.request), scope)
        if body.move is not None:
            service.queue.move(job_id, body.move, scope)
        if body.before is not None:
            service.queue.move_before(job_id, body.before, scope)
        if body.priority is not None:
            service.queue.prioritise(job_id, body.priority, scope)
        return wire.told_of(who(request).job(service, job_id))

    @router.delete("/jobs/{job_id}", response_model=wire.JobOut)
    def cancel(request: Request, job_id: str) -> dict[str, Any]:
        """Take a job from the queue, or stop it after its present step; finished pictures stay. One that has ended stays as it is."""
        service.interrupt(job_id, owner=who(request).scope)
        return wire.told_of(service.job(job_id))

    @router.post("/jobs/{job_id}/interrupt", response_model=wire.JobOut)
    def interrupt(request: Request, job_id: str) -> dict[str, Any]:
        """The same as DELETE."""
        return cancel(request, job_id)

    @router.post("/jobs/{job_id}/skip", response_model=wire.JobOut)
    def skip(request: Request, job_id: str) -> dict[str, Any]:
        """Drop the batch that is being made and go on with the next."""
        service.skip(job_id, owner=who(request).scope)
        return wire.told_of(service.job(job_id))


def _add_queue(router: APIRouter, service: Service, who: Callable[[Request], Asker]) -> None:
    @router.get("/queue")
    def queue(request: Request) -> wire.QueueOut:
        """How many jobs wait and run, and whether the queue goes on."""
        return wire.told_of_queue(service.queue.state(who(request).scope))

    @router.post("/queue/pause")
    def pause(request: Request) -> wire.QueueOut:
        """Let the asker's waiting jobs wait on, everybody's where the asker manages all; over restarts. What runs goes on."""
        service.queue.pause(who(request).scope)
        return queue(request)

    @router.post("/queue/resume")
    def resume(request: Request) -> wire.QueueOut:
        """The end of a pause."""
        service.queue.resume(who(request).scope)
        return queue(request)

    @router.post("/queue/clear")
    def clear(request: Request) -> dict[str, int]:
        """Take ended jobs off the lists. Their pictures stay, and they are still found by id."""
        return {"cleared": service.queue.clear(who(request).scope)}
