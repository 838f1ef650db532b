"""A job that makes or trains an embedding, a hypernetwork or a LoRA: its file is there whole, or as it was before.

On the way it records "losses.json", {"losses": [[step, mean loss since the one before], ...]}, and pictures "sample-<step>.webp".
"""

import io
import json
import math
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from pathlib import Path

import torch
from PIL import Image

from webui.core.errors import BadRequest, MissingModel
from webui.core.event import Control, Event, Finished, Loading, Notice, Progress, Record
from webui.core.training_request import TrainingRequest, folder_below
from webui.engine.embeddings import read_embedding
from webui.engine.model import DiffusionModel
from webui.engine.patches.hypernetwork import context_widths, read_hypernetwork, read_layout
from webui.training.dataset import make_dataset
from webui.training.embedding import EmbeddingTraining
from webui.training.folder import read_examples
from webui.training.hypernetwork import HypernetworkTraining
from webui.training.loop import MAX_NORM, train
from webui.training.lora import LoraTraining
from webui.training.sampling import sample_picture

ENDINGS = {"embedding": ".safetensors", "hypernetwork": ".pt", "lora": ".safetensors"}
SMOOTHING = 0.95  # of the loss that is shown
POINTS = 400  # of the curve of losses, at most
Trained = EmbeddingTraining | HypernetworkTraining | LoraTraining


def train_file(
    request: TrainingRequest,
    control: Control,
    *,
    load: Callable[[str], DiffusionModel],
    find: Callable[[str, str], Path],
    folders: dict[str, Path],
    data_dir: Path,
) -> Iterator[Event]:
    """Carry the request out; yields what happens, Finished last. What was learnt before an interruption is saved.

    load: checkpoint's name -> its model. find: (kind, name) -> its file, or MissingModel. folders: kind -> where new files go.
    Raises BadRequest, MissingModel, BadModelFile, StorageError.
    """
    request.validate()
    old = old_file(request, find)
    yield Loading(f"loading {request.checkpoint}")
    model = load(request.checkpoint)
    with torch.inference_mode(False), torch.enable_grad():
        addition, step = _addition(request, model, old)
        if request.steps:
            events = _learn(request, control, model, addition, data_dir)
            with closing(events):
                for event in events:
                    yield event
                    step += isinstance(event, Progress)
        _save(request, addition, old, folders[request.kind], step)
    yield Finished(interrupted=control.interrupted)


def old_file(request: TrainingRequest, find: Callable[[str, str], Path]) -> Path | None:
    """The file that is there. Raises BadRequest where there must be none, MissingModel where there must be one."""
    try:
        found = find(request.kind, request.name)
    except MissingModel:
        if not request.create:
            raise
        return None
    if request.create and found.stem != request.name:  # found by another of its names
        return None
    if request.create and not request.overwrite:
        raise BadRequest(f"{found.name} exists already; choose another name, or say that it may be overwritten")
    return found


def _addition(request: TrainingRequest, model: DiffusionModel, old: Path | None) -> tuple[Trained, int]:
    """What is trained, and how many steps it was trained before. Raises BadRequest."""
    if request.steps and (len(model.text_encoders) != 1 or model.unet.config["in_channels"] != 4):
        raise BadRequest(f"nothing can be trained for {request.checkpoint}: choose one of Stable Diffusion 1.x or 2.x, not for inpainting")
    if request.kind == "lora":
        lora = LoraTraining(model, request.rank, request.rank, request.seed)
        return lora, lora.go_on_from(old) if old and not request.create else 0
    known = None if request.create else old
    if request.kind == "embedding":
        embedding = read_embedding(known) if known else None
        trained = EmbeddingTraining(model, request.name, request.vectors, request.init_text, embedding)
        return trained, (embedding.step or 0) if embedding else 0
    if known:
        network = read_hypernetwork(known)
        return HypernetworkTraining(model, request.name, (), known=network), int(network.facts.get("step", 0))
    widths = request.widths or (model.family.text_width,)
    if not (used := context_widths(model)) & set(widths):
        raise BadRequest(f"{request.checkpoint} has no use for nets of these sizes; choose among {', '.join(map(str, sorted(used)))}")
    dropout = request.dropout or (0,) * len(request.layer_structure)
    structure = {"layer_structure": list(request.layer_structure), "dropout_structure": list(dropout), "activate_output": False}
    layout = read_layout({**structure, "activation_func": request.activation, "is_layer_norm": request.layer_norm}, request.name)
    return HypernetworkTraining(model, request.name, widths, layout, request.seed, init=request.weight_init), 0


def _learn(request: TrainingRequest, control: Control, model: DiffusionModel, addition: Trained, data_dir: Path) -> Generator[Event]:
    """Train; an event for each step."""
    folder = folder_below(data_dir, request.data_root)
    yield Loading(f"reading the pictures of {folder.name}")
    dataset = make_dataset(model, read_examples(folder, request, data_dir))
    losses = train(
        model,
        dataset,
        addition,
        steps=request.steps,
        learning_rate=request.learning_rate,
        plan=request.learning_plan,
        batch_size=request.batch_size,
        seed=request.seed,
        max_norm=request.max_norm or MAX_NORM,
    )
    shown, curve = 0.0, _Curve(math.ceil(request.steps / POINTS))
    with closing(losses):  # type: ignore[type-var]
        for step, loss in enumerate(losses, 1):
            shown = loss if step == 1 else SMOOTHING * shown + (1 - SMOOTHING) * loss
            yield Progress(1, 1, step, request.steps, f"training {request.name}, loss {shown:.4f}")
            yield from curve.added(step, loss)
            stopped = control.interrupted
            if request.sample_every and (step % request.sample_every == 0 or step == request.steps or stopped):
                yield Record(f"sample-{step}.webp", _webp(sample_picture(model, addition, request)))
            if stopped:
                yield Notice(f"training ended after {step} of {request.steps} steps; what was learnt is kept")
                return


class _Curve:
    """The losses, told as a record whenever `every` more of them are there."""

    def __init__(self, every: int) -> None:
        self._every = every
        self._points: list[list[float]] = []
        self._now: list[float] = []

    def added(self, step: int, loss: float) -> Iterator[Record]:
        self._now.append(loss)
        if len(self._now) == self._every:
            self._points.append([step, round(sum(self._now) / self._every, 6)])
            self._now.clear()
            yield Record("losses.json", json.dumps({"losses": self._points}).encode())


def _webp(picture: Image.Image) -> bytes:
    file = io.BytesIO()
    picture.save(file, "WEBP", quality=90)
    return file.getvalue()


def _save(request: TrainingRequest, addition: Trained, old: Path | None, folder: Path, step: int) -> None:
    """Write the file in the place of the old one, if there is one; one of another ending then goes."""
    name = request.checkpoint.rpartition("/")[2].rpartition(".")[0]
    path = (old or folder / f"{request.name}{ENDINGS[request.kind]}").with_suffix(ENDINGS[request.kind])
    if isinstance(addition, EmbeddingTraining):
        path.parent.mkdir(parents=True, exist_ok=True)
        addition.save(path, {"step": str(step), "sd_checkpoint_name": name}, replace=True)
    elif isinstance(addition, LoraTraining):
        path.parent.mkdir(parents=True, exist_ok=True)
        addition.save(path, {"ss_output_name": request.name, "ss_steps": str(step), "ss_sd_model_name": name}, replace=True)
    else:
        addition.save(path, {"step": step, "sd_checkpoint_name": name, "weight_initialization": request.weight_init})
    if old is not None and old != path:
        old.unlink(missing_ok=True)
