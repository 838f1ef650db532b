"""A worker's handlers without torch, for the API's tests: each picture is one colour that depends on its request."""

import io
import time
from collections.abc import Iterator

from PIL import Image

from webui.core.errors import BadRequest
from webui.core.event import Control, Event, Finished, Picture, Pictures, Preview, Progress
from webui.core.model_orders import WeightsOrder
from webui.core.request import GenerationRequest
from webui.core.scripts.request import ScriptRequest
from webui.core.scripts.running import run_script
from webui.core.settings import Settings
from webui.core.training_request import TrainingRequest
from webui.service.inputs import InputStore, inputs_folder
from webui.service.worker import Handler

LONG = 20.0  # seconds after which a held job goes on by itself


def make(settings: Settings) -> dict[type, Handler]:
    """Prompt words: "hold" waits in step 1 until file "go" is there, "fail" is refused, "crash" is a defect."""

    def draw(request: GenerationRequest, control: Control) -> Iterator[Event]:
        if "fail" in request.prompt:
            raise BadRequest("this cannot be drawn; ask for something else")
        if "crash" in request.prompt:
            raise ValueError("a defect")
        for batch in range(1, request.batch_count + 1):
            yield Progress(batch, request.batch_count, 1, request.steps)
            if "hold" in request.prompt:
                yield from hold(settings, control)
            skipped = control.take_skip()
            if control.interrupted:
                break
            if not skipped:
                first = (batch - 1) * request.batch_size
                yield Pictures(tuple(picture(request.single(first + i)) for i in range(request.batch_size)))
        yield Finished(interrupted=control.interrupted)

    def run(request: ScriptRequest, control: Control) -> Iterator[Event]:
        return run_script(request, control, make=draw, add_input=InputStore(inputs_folder(settings.data_dir)).add)

    def train(request: TrainingRequest, control: Control) -> Iterator[Event]:
        if request.name == "crash":
            raise ValueError("a defect")
        yield Progress(1, 1, 1, max(request.steps, 1), f"training {request.name}, loss 0.5")
        if request.name == "hold":
            yield from hold(settings, control)
        folder = settings.embeddings_dirs[0] if request.kind == "embedding" else settings.hypernetwork_dirs[0]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{request.name}.pt").write_bytes(b"made")
        yield Finished(interrupted=control.interrupted)

    return {TrainingRequest: train, GenerationRequest: draw, ScriptRequest: run, WeightsOrder: lambda order, control: iter([Finished()])}


def hold(settings: Settings, control: Control) -> Iterator[Event]:
    (settings.data_dir / "holding").touch()
    end = time.monotonic() + LONG
    while not (settings.data_dir / "go").exists() and not control.interrupted and time.monotonic() < end:
        if control.previews:
            yield Preview(jpeg())
        time.sleep(0.02)


def jpeg() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(buffer, "JPEG")
    return buffer.getvalue()


def picture(single: GenerationRequest) -> Picture:
    colour = (single.seed % 256, single.variation_seed % 256, single.clip_skip)
    return Picture(Image.new("RGB", (single.width, single.height), colour), single, infotext(single))


def infotext(single: GenerationRequest) -> str:
    negative = f"\nNegative prompt: {single.negative_prompt}" if single.negative_prompt else ""
    return (
        f"{single.prompt}{negative}\nSteps: {single.steps}, Sampler: {single.sampler}, Schedule type: {single.schedule_type}, "
        f"CFG scale: {single.cfg_scale}, Seed: {single.seed}, Size: {single.width}x{single.height}, Model: {single.checkpoint}"
    )
