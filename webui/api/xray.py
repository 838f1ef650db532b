"""What the page's X-ray tab asks. A study is a job of the browser that ordered it, and shown to that one alone.

POST /internal/xray {"client", "kind": one of core.xray.STUDIES, "study": its fields, and whose request is studied: "job": id,
     "picture": id, "input": sha256 of a picture file with a recipe, "request": {"checkpoint", "vae", "prompt", "seed"}} -> {"job": its id}
GET  /internal/xray?client= -> {"xrays": [{"id", "kind", "title", "prompt", "status", "created", "live"}, ...]}, the newest first
GET  /internal/xray/{id}?client=&after=0 -> status, request and all that was found; of the steps those after `after`
GET  /internal/xray/{id}/files/{name}?client= -> a file that the answer above names
GET  /internal/xray/{id}/export/{kind}?client=&panel=denoised -> see service.xray_export; sent as a file to save
GET  /internal/xray/{id}/words?client=&by=parts&steps=8 -> {"pieces": [text, ...], "pictures", "seconds": about, or null}
"""

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from fastapi import APIRouter, Response
from fastapi.responses import FileResponse
from pydantic import BaseModel

from webui.api.files import HEADERS
from webui.core import infotext
from webui.core.errors import BadRequest, MissingModel, NotAllowed
from webui.core.image_metadata import RECIPE, read_infotext
from webui.core.job_request import shown_request
from webui.core.local_loras import with_local_loras
from webui.core.prompt_pieces import PIECES, pieces
from webui.core.request import GenerationRequest, known_fields
from webui.core.xray import XrayRequest, study_of
from webui.service.job import Job
from webui.service.replay import recipe_of, to_run
from webui.service.service import Service
from webui.service.xray_export import ENDINGS, exported

SHARED = ("checkpoint", "vae", "prompt", "seed", "clip_skip")  # fields that a request out of nothing may have


class Order(BaseModel):
    """A study, and of what."""

    client: str = ""
    kind: str = "recording"
    study: dict[str, Any] = {}
    job: str = ""
    picture: int = -1
    input: str = ""
    request: dict[str, Any] = {}


def add_xray_routes(router: APIRouter, service: Service) -> None:
    """Put the routes above on the router of /internal."""

    @router.post("/xray")
    def order(order: Order) -> dict[str, str]:
        study = study_of(order.kind, order.study)
        return {"job": service.submit(XrayRequest.of(_base(service, order), study), owner=order.client)}

    @router.get("/xray")
    def listed(client: str = "") -> dict[str, Any]:
        jobs = {
            job.id: job for job in [*_kept(service), *service.jobs(client)] if job.owner == client and isinstance(job.request, XrayRequest)
        }
        return {"xrays": [_summary(job) for job in sorted(jobs.values(), key=lambda job: -job.created)]}

    @router.get("/xray/{job_id}")
    def told(job_id: str, client: str = "", after: int = 0) -> dict[str, Any]:
        job, _ = _own(service, job_id, client)
        return {**_summary(job), "request": job.request.to_json(), **service.xrays.told(job_id, after)}

    _add_file_routes(router, service)


def _add_file_routes(router: APIRouter, service: Service) -> None:
    @router.get("/xray/{job_id}/files/{name}")
    def file(job_id: str, name: str, client: str = "") -> FileResponse:
        _own(service, job_id, client)
        settled = any(char.isdigit() for char in name)  # a step's file does not change; what is of all steps does
        headers = HEADERS if settled else HEADERS | {"Cache-Control": "private, no-cache"}
        return FileResponse(service.xrays.path(job_id, name), headers=headers)

    @router.get("/xray/{job_id}/export/{kind}")
    def export(job_id: str, kind: str, client: str = "", panel: str = "denoised") -> Response:
        _own(service, job_id, client)
        name, _, ending = kind.partition(".")
        if ending not in ENDINGS:
            raise BadRequest(f"an X-ray cannot be saved as {kind[:40]!r}; choose strip.png, steps.gif or numbers.csv")
        data = exported(service.xrays.told(job_id), kind, panel, lambda file: service.xrays.path(job_id, file))
        headers = {"Content-Disposition": f'attachment; filename="xray-{name}.{ending}"'}
        return Response(data, media_type=ENDINGS[ending], headers=headers)

    @router.get("/xray/{job_id}/words")
    def words(job_id: str, client: str = "", by: str = PIECES[0], steps: int = 8) -> dict[str, Any]:
        _, request = _own(service, job_id, client)
        if by not in PIECES:
            raise BadRequest(f"a prompt cannot be taken apart by {by[:40]!r}; choose one of: {', '.join(PIECES)}")
        found = pieces(request.base.prompt, by)
        told = service.xrays.told(job_id)
        seen = [step["seconds"] for step in told["steps"] if step] or [words["seconds"] for words in [told.get("words")] if words]
        pictures, each = len(found) + 1, min(steps, request.base.steps)
        seconds = sum(seen) / len(seen) * each * pictures if seen else None
        return {"pieces": [piece.text for piece in found], "pictures": pictures, "steps": each, "seconds": seconds}


def _kept(service: Service) -> Iterator[Job]:
    """The jobs whose findings are kept; trainings, and those that the database has forgotten, are left out."""
    for job_id in service.xrays.jobs():
        with suppress(MissingModel):
            job = service.job(job_id)
            if isinstance(job.request, XrayRequest):
                yield job


def _own(service: Service, job_id: str, client: str) -> tuple[Job, XrayRequest]:
    job = service.job(job_id)
    if job.owner != client:
        raise NotAllowed("this X-ray was ordered by another browser; only that one may look at it")
    if not isinstance(job.request, XrayRequest):
        raise MissingModel(f"job {job_id!r} is no X-ray; order one of it")
    return job, job.request


def _base(service: Service, order: Order) -> GenerationRequest:
    """The request that is studied: a job's, a finished picture's by its recipe, or one out of nothing but a checkpoint."""
    if order.job:
        job = service.job(order.job)
        if job.owner != order.client:
            raise NotAllowed("this job was queued by another browser; only that one may look into it")
        request = shown_request(job.request)
        if request is None:
            raise BadRequest("this job makes no picture, so there is nothing to look into")
        return request
    if order.picture >= 0 or order.input:
        path = service.picture(order.picture).path if order.picture >= 0 else service.input_path(order.input)
        if not path.is_file():
            raise MissingModel("the picture's file is not there any more")
        return _of_file(service, path.read_bytes())
    if order.kind != "noising" and "prompt" not in order.request:
        raise BadRequest("nothing says what to look into: name a job, a picture or an input, or send a request with a prompt")
    return _plain_request(order.request)


def _of_file(service: Service, data: bytes) -> GenerationRequest:
    """By Easel's recipe in the picture, or by what another program wrote into it. Raises BadRequest, MissingModel."""
    found = read_infotext(data)
    if RECIPE in found.items:
        return to_run(recipe_of(data), service.catalog, service.input_path)
    told = infotext.read(with_local_loras(found.text, service.catalog.find_lora, service.models.with_hash)[0])
    if not told.params:
        raise BadRequest("nothing in this picture says how it was made; open one that carries its parameters")
    request, problems = infotext.to_request(told, GenerationRequest())
    if "Denoising strength" in told.params and request.hires is None:
        raise BadRequest("this picture was made from another one, which it does not carry: make it on its tab, then look into that")
    if problems:
        raise BadRequest(problems[0])
    return request


def _plain_request(told: dict[str, Any]) -> GenerationRequest:
    given = {name: value for name, value in told.items() if name in SHARED}
    for name, value in given.items():
        if type(value) is not type(getattr(GenerationRequest(), name)):
            raise BadRequest(f"{name} is {str(value)[:50]!r}, which is not of the right kind")
    return GenerationRequest(**known_fields(GenerationRequest, given))


def _summary(job: Job) -> dict[str, Any]:
    assert isinstance(job.request, XrayRequest)
    return {
        "id": job.id,
        "kind": job.request.kind,
        "title": job.request.title,
        "prompt": job.request.base.prompt,
        "status": job.status,
        "text": job.text,
        "created": job.created,
        "live": not job.ended,
        "notices": job.notices,
    }
