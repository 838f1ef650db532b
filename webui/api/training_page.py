"""What the Train tab asks. Guests may not: sets of pictures and model files are everybody's.

GET  /internal/training/sets -> {"sets": {name: how many pictures}}
GET  /internal/training/sets/{name} -> {"pictures": [{"file", "caption"}, ...]}
POST /internal/training/sets/{name} (a file) -> the picture
GET  /internal/training/sets/{name}/{file} -> its bytes
POST /internal/training/sets/{name}/{file} {"caption"} | {"removed": true or false} -> {}
POST /internal/training {"client", "set", and fields of core.training_request.TrainingRequest} -> {"job"}
GET  /internal/training/jobs -> {"jobs": [{"id", "kind", "name", "status", "text", "fraction", "eta", "error"}, ...]} of `client`
GET  /internal/training/jobs/{id} -> the same, "losses": [[step, loss], ...], "samples": files, and "steps"
GET  /internal/training/jobs/{id}/{file} -> a sample
POST /internal/training/jobs/{id}/further -> {"job"}, which trains the steps that one that was stopped has left
"""

import re
from dataclasses import replace
from typing import Any

from fastapi import APIRouter, UploadFile
from fastapi.responses import FileResponse
from pydantic import BaseModel, Field
from starlette.concurrency import run_in_threadpool

from webui.api.files import file_answer
from webui.core.errors import BadRequest, MissingModel, NotAllowed
from webui.core.training_request import TrainingRequest
from webui.service.job import Job
from webui.service.service import Service
from webui.service.training_sets import FOLDER, TrainingSets

MAX_PICTURE = 200 * 2**20  # bytes
LISTED = 20  # trainings
SAMPLE = re.compile(r"sample-(\d+)\.webp")


class PictureChange(BaseModel):
    """What to change about one picture; what is left out stays."""

    caption: str | None = None
    removed: bool | None = None


class Order(BaseModel):
    """A training as the page asks for it; what a kind has no use for is passed over."""

    client: str = ""
    set: str = ""
    kind: str
    name: str
    checkpoint: str = ""
    further: bool = False  # train the file that is there
    overwrite: bool = False
    vectors: int = 1
    init_text: str = Field("*", max_length=1000)
    rank: int = 16
    template: str = ""
    steps: int = 500
    learning_rate: float = 0.0001
    batch_size: int = 1
    side: int = 512
    shuffle_tags: bool = False
    tag_drop_out: float = 0.0
    sample_every: int = 0
    sample_prompt: str = ""
    seed: int = 1


def add_training_page_routes(router: APIRouter, service: Service) -> None:
    sets = TrainingSets(service.settings.data_dir)
    _add_set_routes(router, sets)

    @router.post("/training")
    def train(order: Order) -> dict[str, str]:
        if order.steps < 1 and order.kind != "aesthetic":
            raise BadRequest(f"steps {order.steps} is out of range: use 1 or more")
        if not sets.pictures(order.set):
            raise BadRequest("there is no picture to train on yet: choose a set of pictures, or drop some on the page")
        return {"job": service.submit(_request(service, order), owner=order.client, save=False)}

    @router.get("/training/jobs")
    def jobs(client: str = "") -> dict[str, Any]:
        found = [job for job in service.jobs(client, active_only=False) if isinstance(job.request, TrainingRequest)]
        return {"jobs": [_told(job) for job in reversed(found[-LISTED:])]}

    @router.get("/training/jobs/{job_id}")
    def told(job_id: str, client: str = "") -> dict[str, Any]:
        job = _own(service, job_id, client)
        found = service.xrays.told(job_id)
        steps = {int(match[1]): match[0] for match in map(SAMPLE.fullmatch, found["files"]) if match}
        samples = [steps[step] for step in sorted(steps)]
        return {**_told(job), "losses": (found.get("losses") or {}).get("losses", []), "samples": samples}

    @router.get("/training/jobs/{job_id}/{file}")
    def sample(job_id: str, file: str, client: str = "") -> FileResponse:
        _own(service, job_id, client)
        if not SAMPLE.fullmatch(file):
            raise MissingModel(f"this training has no picture {file[:80]!r}")
        return file_answer(service.xrays.path(job_id, file))

    @router.post("/training/jobs/{job_id}/further")
    def further(job_id: str, client: str = "") -> dict[str, str]:
        job = _own(service, job_id, client)
        assert isinstance(job.request, TrainingRequest)
        losses = (service.xrays.told(job_id).get("losses") or {}).get("losses", [])  # these outlive the server
        left = job.request.steps - (losses[-1][0] if losses else 0)
        if job.status != "interrupted" or left < 1:
            raise BadRequest("only a training that was stopped and has steps left can go on; start a new one")
        return {"job": service.submit(replace(job.request, create=False, steps=left), owner=client, save=False)}


def _add_set_routes(router: APIRouter, sets: TrainingSets) -> None:
    @router.get("/training/sets")
    def names() -> dict[str, Any]:
        return {"sets": sets.all()}

    @router.get("/training/sets/{name}")
    def pictures(name: str) -> dict[str, Any]:
        return {"pictures": [vars(picture) for picture in sets.pictures(name)]}

    @router.post("/training/sets/{name}")
    async def add(name: str, file: UploadFile) -> dict[str, Any]:
        data = await file.read(MAX_PICTURE + 1)
        if len(data) > MAX_PICTURE:
            raise BadRequest(f"the picture is larger than {MAX_PICTURE // 2**20} MB; save it smaller")
        return vars(await run_in_threadpool(sets.add, name, data, file.filename or ""))

    @router.get("/training/sets/{name}/{file}")
    def picture(name: str, file: str) -> FileResponse:
        return file_answer(sets.path(name, file))

    @router.post("/training/sets/{name}/{file}")
    def change(name: str, file: str, change: PictureChange) -> dict[str, str]:
        if change.caption is not None:
            sets.describe(name, file, change.caption)
        if change.removed is not None:
            (sets.remove if change.removed else sets.restore)(name, file)
        return {}


def _request(service: Service, order: Order) -> TrainingRequest:
    values = order.model_dump(exclude={"client", "set", "further", "side"})
    checkpoint = order.checkpoint or str(service.preferences()["sd_model_checkpoint"])
    places: dict[str, Any] = {"data_root": f"{FOLDER}/{order.set}", "width": order.side, "height": order.side}
    if order.kind == "aesthetic":  # takes no steps, and no file further
        return TrainingRequest(kind=order.kind, name=order.name, create=True, overwrite=order.overwrite, data_root=places["data_root"])
    return TrainingRequest(**{**values, "checkpoint": checkpoint}, create=not order.further, widths=(), **places)


def _own(service: Service, job_id: str, client: str) -> Job:
    job = service.job(job_id)
    if job.owner != client:
        raise NotAllowed("this training was ordered by another browser; only that one may look at it")
    if not isinstance(job.request, TrainingRequest):
        raise MissingModel(f"job {job_id!r} is no training")
    return job


def _told(job: Job) -> dict[str, Any]:
    assert isinstance(job.request, TrainingRequest)
    facts = {key: getattr(job, key) for key in ("id", "status", "text", "fraction", "eta", "error")}
    return {**facts, "kind": job.request.kind, "name": job.request.name, "steps": job.request.steps, "ended": job.ended}
