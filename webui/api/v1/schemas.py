"""The shapes of /api/v1. What a job is asked to do has the fields of core's requests, by their names, and is made from them."""

from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, create_model, model_validator

from webui.core.job_request import JobRequest, kind_of
from webui.core.model_orders import MergeRecipe, SaveOrder
from webui.core.request import GenerationRequest, InitImage
from webui.core.scripts.request import ScriptRequest
from webui.service.gallery import SavedPicture
from webui.service.queue_orders import QueueState
from webui.service.service import Job

Priority = Literal["low", "normal", "high"]
Status = Literal["queued", "running", "saving", "done", "failed", "interrupted"]
SETTLED = ("template", "negative_template", "each", "checkpoint_hash", "vae_hash")  # what completion fills in, never a client
PLANNED = ("changes", "sheet", "made")  # of a script


class Problem(BaseModel):
    """How every failure is told."""

    error: str = Field(examples=["BadRequest"])
    detail: Any = Field(examples=["width 65 is not a multiple of 8; try 64"])
    body: str = ""
    errors: str = Field(description="The sentence, for people", examples=["width 65 is not a multiple of 8; try 64"])


PROBLEMS: dict[int | str, dict[str, Any]] = {
    403: {"model": Problem, "description": "It belongs to somebody else"},
    404: {"model": Problem, "description": "There is no such job, picture or model"},
    409: {"model": Problem, "description": "The job has begun or ended, so that this cannot be done to it any more"},
    422: {"model": Problem, "description": "It cannot be carried out as it is"},
    503: {"model": Problem, "description": "The queue is full"},
}


class Order(BaseModel):
    """What the bodies of all kinds of jobs have in common."""

    model_config = ConfigDict(extra="forbid")


def _fields_of(source: type, left_out: tuple[str, ...]) -> dict[str, Any]:
    """Field definitions for pydantic, with the types and defaults of a dataclass."""
    made = {}
    for field in fields(source):
        if field.name in left_out:
            continue
        default = field.default if field.default is not MISSING else ...
        made[field.name] = (field.type, Field(default_factory=field.default_factory) if field.default_factory is not MISSING else default)
    return made


def _known_only(source: type, data: Any, place: str = "") -> None:
    """Raises ValueError for a name that `source`, or a dataclass within it, does not have: a typing mistake must not pass in silence."""
    if not isinstance(data, Mapping):
        return
    known = {field.name: field.type for field in fields(source)}
    for name, value in data.items():
        if name not in known:
            raise ValueError(f"{place}{str(name)[:50]} is not known; there are: {', '.join(known)}")
        inner = next((kind for kind in (known[name], *get_args(known[name])) if is_dataclass(kind)), None)
        if isinstance(inner, type):
            _known_only(inner, value, f"{place}{name}.")


class _Drawing(Order):
    @model_validator(mode="before")
    @classmethod
    def _check_names(cls, data: Any) -> Any:
        for name in ("init", "hires", "aesthetic", "guidance", "sampler_options"):
            if isinstance(data, Mapping) and name in data:
                _known_only(GenerationRequest, {name: data[name]})
        return data


_TXT2IMG = {"kind": "txt2img", "prompt": "a red circle on a blue background", "seed": 7, "steps": 20, "width": 128, "height": 128}
_IMG2IMG = {
    "kind": "img2img",
    "prompt": "a green square on a yellow background",
    "init": {"image": "<hash of POST /inputs>", "denoising_strength": 0.6},
}
_SCRIPT = {
    "kind": "script",
    "script": "Prompt matrix",
    "base": {"prompt": "a circle|red|on a blue background", "seed": 1},
}
_drawing = _fields_of(GenerationRequest, (*SETTLED, "init"))
Txt2Img = create_model(
    "Txt2Img",
    __base__=_Drawing,
    __doc__="Pictures from a prompt.",
    kind=(Literal["txt2img"], ...),
    **_drawing,
)
Img2Img = create_model(
    "Img2Img",
    __base__=_Drawing,
    __doc__="Pictures from a picture: as a whole, repainted where a mask is white (init.inpaint), or extended (init.outpaint).",
    kind=(Literal["img2img"], ...),
    init=(InitImage, ...),
    **{name: told for name, told in _drawing.items() if name != "hires"},
)


class Script(Order):
    """A script over a request: X/Y/Z plot, prompt matrix and the others, by title, with their arguments by name."""

    kind: Literal["script"]
    script: str
    arguments: dict[str, Any] = Field(default_factory=dict)
    base: GenerationRequest

    @model_validator(mode="before")
    @classmethod
    def _check_names(cls, data: Any) -> Any:
        if isinstance(data, Mapping):
            _known_only(GenerationRequest, data.get("base"), "base.")
        return data


Merge = create_model("Merge", __base__=Order, __doc__=MergeRecipe.__doc__, kind=(Literal["merge"], ...), **_fields_of(MergeRecipe, ()))
Save = create_model("Save", __base__=Order, __doc__=SaveOrder.__doc__, kind=(Literal["save"], ...), **_fields_of(SaveOrder, ()))
Asked = Annotated[Txt2Img | Img2Img | Script | Merge | Save, Field(discriminator="kind")]  # type: ignore[valid-type]


class NewJob(BaseModel):
    """A job to queue."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"request": _TXT2IMG}, {"request": _IMG2IMG, "priority": "high"}, {"request": _SCRIPT}]},
    )
    request: Asked
    id: str | None = Field(None, description="1 to 100 letters, digits or . : ( ) _ -; a second job of the same id is refused")
    priority: Priority = "normal"
    save: bool = Field(True, description="false: its pictures are kept for a while only")


class JobChange(BaseModel):
    """What to change of a job that waits; what is left out stays. A new request leaves the job its place."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"move": "top"}, {"priority": "low"}, {"request": _TXT2IMG}]})
    priority: Priority | None = None
    move: Literal["top", "up", "down", "bottom"] | None = Field(None, description="among the jobs of the same client")
    before: str | None = Field(None, description="the id of a waiting job of the same client")
    request: Asked | None = None


class Copy(BaseModel):
    """How to duplicate a job."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"new_seed": True}]})
    new_seed: bool = Field(False, description="true: seeds, and what the prompts leave to chance, are drawn again")


class PictureOut(BaseModel):
    """A picture on disk."""

    id: int
    job: str
    seed: int
    width: int
    height: int
    created: float = Field(description="unix seconds")
    sheet: bool = Field(description="it shows other pictures of its job")
    file: str = Field(description="where its bytes are", examples=["/api/v1/pictures/12/file"])


class JobOut(BaseModel):
    """A job at this moment."""

    id: str
    number: int = Field(description="rises with every job; `before` in lists")
    kind: str = Field(examples=["txt2img"])
    title: str = Field(description="its prompt, or what is done, for people")
    status: Status
    priority: Priority
    ahead: int = Field(description="jobs that run or will be taken before it")
    fraction: float = Field(description="how much is done, 0 .. 1")
    eta: float | None = Field(description="seconds; null: not known")
    text: str = Field(description="one line for people", examples=["Step 3 of 20"])
    created: float
    stopping: bool
    error: str
    error_status: int = Field(description="the HTTP status that tells the error; 0: none")
    notices: tuple[str, ...]
    pictures: list[PictureOut]


class JobWhole(JobOut):
    """A job with all that it was asked."""

    request: dict[str, Any] = Field(description="with nothing left open; without `changes` of scripts")


class JobList(BaseModel):
    """Jobs, the newest first."""

    jobs: list[JobOut]
    next: int | None = Field(description="`before` for the next page; null: there is none")


class QueueOut(BaseModel):
    """The queue, as far as the asker may see it."""

    waiting: int
    running: int
    paused: Literal["", "own", "all"]
    cursor: int = Field(description="of the latest event")


def asked(body: Any) -> JobRequest:
    """The request that a body describes. Raises BadRequest."""
    values = {name: getattr(body, name) for name in type(body).model_fields if name != "kind"}
    if body.kind == "script":
        return ScriptRequest(**values)
    if body.kind in ("merge", "save"):
        return MergeRecipe(**values) if body.kind == "merge" else SaveOrder(**values)
    return GenerationRequest(**values)


def told_of(job: Job) -> dict[str, Any]:
    """The fields of JobOut."""
    request = job.request
    return {
        "id": job.id,
        "number": job.number,
        "kind": wire_kind(request),
        "title": (request.template or request.prompt) if isinstance(request, GenerationRequest) else request.title,
        "status": job.status,
        "priority": job.priority,
        "ahead": job.ahead,
        "fraction": round(job.fraction, 4),
        "eta": job.eta,
        "text": job.text,
        "created": job.created,
        "stopping": job.interrupt_asked,
        "error": job.error,
        "error_status": job.error_status,
        "notices": job.notices,
        "pictures": [told_of_picture(picture) for picture in job.pictures],
    }


def wire_kind(request: JobRequest) -> str:
    """The name of a request's kind in /api/v1."""
    if isinstance(request, GenerationRequest):
        return "txt2img" if request.init is None else "img2img"
    return kind_of(request)


def told_of_picture(picture: SavedPicture) -> dict[str, Any]:
    """The fields of PictureOut."""
    names = ("id", "job", "seed", "width", "height", "created", "sheet")
    return {**{name: getattr(picture, name) for name in names}, "file": f"/api/v1/pictures/{picture.id}/file"}


def told_of_queue(state: QueueState) -> QueueOut:
    return QueueOut(waiting=state.waiting, running=state.running, paused=state.paused, cursor=state.last_event)  # type: ignore[arg-type]
