"""Pictures, inputs, models and replays in /api/v1: everything by id or hash, nothing by path."""

import re
from collections.abc import Callable
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import FileResponse, PlainTextResponse
from pydantic import BaseModel, ConfigDict, Field, model_validator

from webui.api.asker import Asker, asker_of
from webui.api.files import file_answer
from webui.api.models import as_json
from webui.api.uploads import add_upload_routes
from webui.api.v1 import schemas as wire
from webui.core.errors import BadRequest, MissingModel, NotAllowed
from webui.core.settings import Settings
from webui.service.gallery import SavedPicture
from webui.service.model_rows import CardSearch
from webui.service.service import Service

HASH = "[0-9a-f]{64}"
REPLAY = re.compile(rf"(.+)-({HASH})")
PictureId = Annotated[int, Path(ge=0, lt=2**63)]
PNG: dict[int | str, dict[str, Any]] = {200: {"content": {"image/png": {}, "image/jpeg": {}, "image/webp": {}}}}


class PictureWhole(wire.PictureOut):
    """A picture with what it says of itself."""

    infotext: str


class ModelList(BaseModel):
    """One page of model cards."""

    total: int
    scanning: bool = Field(description="more may come soon")
    models: list[dict[str, Any]]


class ReplayOrder(BaseModel):
    """Which picture to make again: one of POST /inputs by its hash, or a finished one by its id."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"picture": 12}, {"input": "<hash of POST /inputs>"}]})
    input: str | None = Field(None, pattern=f"^{HASH}$")
    picture: int | None = Field(None, ge=0, lt=2**63)

    @model_validator(mode="after")
    def _names_one(self) -> "ReplayOrder":
        if (self.input is None) == (self.picture is None):
            raise ValueError("name one picture: either input or picture")
        return self


class ReplayOut(BaseModel):
    """A replay, and how its picture compares with the old one once it is made."""

    id: str
    job: str
    input: str
    verdict: Literal["", "identical", "nearly identical", "different"] = Field("", description="empty while it is being made")
    sentences: tuple[str, ...] = ()


def add_file_routes(router: APIRouter, service: Service, settings: Settings) -> None:
    def who(request: Request) -> Asker:
        return asker_of(request, settings)

    _add_pictures(router, service, who)
    add_upload_routes(router, service)
    _add_replay(router, service, who)

    @router.get("/models", response_model=ModelList)
    def models(
        kind: Literal["checkpoint", "vae", "lora", "embedding", "hypernetwork"],
        search: str = "",
        family: str = "",
        sort: Literal["name", "date", "size"] = "name",
        down: bool = False,
        page: Annotated[int, Query(ge=0, lt=2**31)] = 0,
        count: Annotated[int, Query(ge=1, le=200)] = 60,
    ) -> dict[str, Any]:
        """The catalog: models of a kind whose names, words and notes fit the search."""
        found = service.models.search(CardSearch(kind, search, family, sort, down, page, count))
        return {"total": found.total, "scanning": found.scanning, "models": [as_json(card) for card in found.cards]}


def _add_pictures(router: APIRouter, service: Service, who: Callable[[Request], Asker]) -> None:
    @router.get("/pictures/{picture_id}", response_model=PictureWhole)
    def picture(request: Request, picture_id: PictureId) -> dict[str, Any]:
        """A finished picture and its infotext."""
        found = _picture(service, who(request), picture_id)
        return {**wire.told_of_picture(found), "infotext": found.infotext}

    @router.get("/pictures/{picture_id}/file", response_class=FileResponse, responses=PNG)
    def file(request: Request, picture_id: PictureId) -> FileResponse:
        """Its bytes, with its parameters inside."""
        return file_answer(_picture(service, who(request), picture_id).path)

    @router.get("/pictures/{picture_id}/infotext", response_class=PlainTextResponse)
    def infotext(request: Request, picture_id: PictureId) -> str:
        """Its parameters as text."""
        return _picture(service, who(request), picture_id).infotext


def _picture(service: Service, asker: Asker, picture_id: int) -> SavedPicture:
    found = service.picture(picture_id)
    if not asker.admin and found.owner != asker.owner:
        raise NotAllowed("this picture was made by somebody else")
    return found


def _there(picture: SavedPicture) -> Any:
    if not picture.path.is_file():
        raise MissingModel(f"the file of picture {picture.id} is not there any more: {picture.path.name}")
    return picture.path


def _add_replay(router: APIRouter, service: Service, who: Callable[[Request], Asker]) -> None:
    @router.post("/replay", status_code=202)
    def replay(request: Request, body: ReplayOrder) -> ReplayOut:
        """Make a picture again from the recipe that it carries."""
        asker, kept = who(request), body.input
        if body.picture is not None:
            kept = service.add_input(_there(_picture(service, asker, body.picture)).read_bytes())
        job_id = service.replays.begin(str(kept), owner=asker.owner)
        return ReplayOut(id=f"{job_id}-{kept}", job=job_id, input=str(kept))

    @router.get("/replay/{replay_id}")
    def verdict(request: Request, replay_id: str) -> ReplayOut:
        """How the new picture compares with the old one, pixel by pixel, and why it differs if it does."""
        parts = REPLAY.fullmatch(replay_id)
        if parts is None:
            raise BadRequest("a replay's id is the one that POST /replay answered")
        job_id, kept = parts.groups()
        who(request).job(service, job_id)
        found = service.replays.verdict(kept, job_id)
        told = {"verdict": found.kind, "sentences": found.sentences} if found else {}
        return ReplayOut(id=replay_id, job=job_id, input=kept, **told)
