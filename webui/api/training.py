"""/sdapi/v1/create/* and train/*: embeddings and hypernetworks, as jobs of the one queue; what goes wrong is told inside a 200."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel

from webui.api.lenient import Float, Int, Lenient, OpenText, Text
from webui.api.waiting import Patience
from webui.core.errors import BadRequest, Busy, EaselError
from webui.core.learning_rate import last_step, read_plan
from webui.core.training_request import WEIGHT_INITS, TrainingRequest, folder_below
from webui.service.service import Service

Numbers = list[Float] | Text | None  # a list, or a text with commas


class New(Lenient):
    """What both kinds share."""

    name: Text = ""
    overwrite_old: bool = False


class NewEmbedding(New):
    num_vectors_per_token: Int = 1
    init_text: Text = "*"


class NewHypernetwork(New):
    enable_sizes: tuple[Int, ...] = TrainingRequest.widths
    layer_structure: Numbers = None
    activation_func: OpenText = None
    weight_init: OpenText = None
    add_layer_norm: bool = False
    use_dropout: bool = False
    dropout_structure: Numbers = None


class Training(Lenient):
    """What both kinds share. Of A1111's other fields, those about logs and previews on the way change nothing here."""

    id_task: OpenText = None
    learn_rate: Text = "0.005"
    batch_size: Int = 1
    gradient_step: Int = 1
    data_root: Text = ""
    training_width: Int = 512
    training_height: Int = 512
    varsize: bool = False
    steps: Int = 1000
    clip_grad_mode: Text = "disabled"
    clip_grad_value: Float = 0.1
    shuffle_tags: bool = False
    tag_drop_out: Float = 0.0
    latent_sampling_method: Text = "once"
    use_weight: bool = False
    template_filename: Text = ""


class EmbeddingTraining(Training):
    embedding_name: Text = ""

    @property
    def name(self) -> str:
        return self.embedding_name


class HypernetworkTraining(Training):
    hypernetwork_name: Text = ""

    @property
    def name(self) -> str:
        return self.hypernetwork_name


Body = NewEmbedding | NewHypernetwork | EmbeddingTraining | HypernetworkTraining


class Told(BaseModel):
    info: str


def add_training_routes(router: APIRouter, service: Service, patience: Patience) -> None:
    async def told(kind: str, what: str, body: Body) -> Told:
        try:
            return Told(info=await patience.run(_carry_out, service, kind, what, body))
        except EaselError as error:
            return Told(info=f"{what} {kind} error: {error}")

    @router.post("/create/embedding")
    async def create_embedding(body: NewEmbedding) -> Told:
        """Make an embedding that begins as the words of `init_text`."""
        return await told("embedding", "create", body)

    @router.post("/create/hypernetwork")
    async def create_hypernetwork(body: NewHypernetwork) -> Told:
        """Make a hypernetwork that changes next to nothing yet."""
        return await told("hypernetwork", "create", body)

    @router.post("/train/embedding")
    async def train_embedding(body: EmbeddingTraining) -> Told:
        """Train an embedding on the pictures of a folder below the data folder; answers when it is done or interrupted."""
        return await told("embedding", "train", body)

    @router.post("/train/hypernetwork")
    async def train_hypernetwork(body: HypernetworkTraining) -> Told:
        """Train a hypernetwork on the pictures of a folder below the data folder; answers when it is done or interrupted."""
        return await told("hypernetwork", "train", body)


def _carry_out(service: Service, kind: str, what: str, body: Body) -> str:
    """Queue the job, wait for it, and say how it ended. Raises EaselError."""
    request = to_training(service, kind, body)
    task = body.id_task if isinstance(body, Training) else None
    job = service.wait(service.submit(request, job_id=task or None, save=False))
    if job.status == "failed":
        raise BadRequest(job.error)
    if not job.ended:
        raise Busy("Easel is being stopped; the job goes on after the next start")
    find = service.catalog.find_embedding if kind == "embedding" else service.catalog.find_hypernetwork
    filename = find(request.name).path.name
    return f"create {kind} filename: {filename}" if what == "create" else f"train {kind} complete: filename: {filename} error: None"


def to_training(service: Service, kind: str, body: Body) -> TrainingRequest:
    """The job that `body` asks for. Raises BadRequest."""
    asked = TrainingRequest(kind=kind, name=body.name, checkpoint=str(service.preferences()["sd_model_checkpoint"]))
    if isinstance(body, New):
        asked = replace(asked, create=True, overwrite=body.overwrite_old)
    if isinstance(body, NewEmbedding):
        asked = replace(asked, vectors=body.num_vectors_per_token, init_text=body.init_text or "*")
    elif isinstance(body, NewHypernetwork):
        asked = _with_structure(asked, body)
    else:
        asked = _with_training(asked, body, service.settings.data_dir)
    asked.validate()
    return asked


def _with_structure(asked: TrainingRequest, body: NewHypernetwork) -> TrainingRequest:
    inits = {name.lower(): name for name in WEIGHT_INITS}
    told = re.sub(r"[\s_]", "", body.weight_init or "Normal")
    return replace(
        asked,
        widths=body.enable_sizes,
        layer_structure=_numbers("layer_structure", body.layer_structure) or TrainingRequest.layer_structure,
        activation=body.activation_func or "linear",
        weight_init=inits.get(told.lower(), told),
        layer_norm=body.add_layer_norm,
        dropout=_numbers("dropout_structure", body.dropout_structure) if body.use_dropout else (),
    )


def _with_training(asked: TrainingRequest, body: Training, data_dir: Path) -> TrainingRequest:
    if body.varsize:
        raise BadRequest("varsize is not supported: pictures are cut to training_width and training_height; leave it out")
    if body.steps < 1:
        raise BadRequest(f"steps {body.steps} is out of range: use 1 or more")
    plan = read_plan(body.learn_rate)
    return replace(
        asked,
        data_root=folder_below(data_dir, body.data_root).relative_to(data_dir.resolve()).as_posix(),
        template=body.template_filename,
        steps=int(min(body.steps, last_step(plan))),
        learning_rate=plan[0][0],
        learning_plan=plan if ":" in body.learn_rate else (),
        batch_size=body.batch_size * body.gradient_step,
        width=body.training_width,
        height=body.training_height,
        shuffle_tags=body.shuffle_tags,
        tag_drop_out=body.tag_drop_out,
        max_norm=body.clip_grad_value if body.clip_grad_mode == "norm" else 0.0,
    )


def _numbers(name: str, told: Any) -> tuple[float, ...]:
    try:
        return tuple(float(each) for each in (told.split(",") if isinstance(told, str) else told or ()))
    except ValueError:
        raise BadRequest(f"{name} {str(told)[:50]!r} is no list of numbers; send something like [1, 2, 1]") from None
