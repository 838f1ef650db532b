"""A worker's handlers without torch, for the API's tests: each picture is one colour that depends on its request."""

import io
import json
import time
from collections.abc import Iterator

from PIL import Image

from webui.core.errors import BadRequest
from webui.core.event import Control, Event, Finished, Notice, Picture, Pictures, Preview, Progress, Record
from webui.core.model_orders import WeightsOrder
from webui.core.request import GenerationRequest
from webui.core.scripts.request import ScriptRequest
from webui.core.scripts.running import run_script
from webui.core.settings import Settings
from webui.core.training_request import TrainingRequest
from webui.core.xray import XrayRequest
from webui.service.inputs import InputStore, inputs_folder
from webui.service.worker import Handler

LONG = 200.0  # seconds after which a held job goes on by itself: longer than any test waits, or the next ones would fail with it


def make(settings: Settings) -> dict[type, Handler]:
    """Prompt words: "hold" waits in step 1 until file "go" is there, "fail" is refused, "crash" is a defect, "notice" tells one."""

    def look_at_it(request: XrayRequest, control: Control) -> Iterator[Event]:
        yield from look_into(request)
        yield from draw(request.base, control) if request.makes_pictures else [Finished()]

    def draw(request: GenerationRequest, control: Control) -> Iterator[Event]:
        if "fail" in request.prompt:
            raise BadRequest("this cannot be drawn; ask for something else")
        if "crash" in request.prompt:
            raise ValueError("a defect")
        if "notice" in request.prompt:
            yield Notice("there is something to know")
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

    def keep(order: WeightsOrder, control: Control) -> Iterator[Event]:
        with (settings.data_dir / "weights.txt").open("a") as file:
            file.write(f"{order.action} {order.checkpoint}\n")
        yield Finished()

    return {
        GenerationRequest: draw,
        ScriptRequest: run,
        XrayRequest: look_at_it,
        TrainingRequest: train,
        WeightsOrder: keep,
    }


def look_into(request: XrayRequest) -> Iterator[Event]:
    """Two steps, of one colour each panel, with a sigma and a token that a spreadsheet would take for a formula."""
    token = {"id": 1, "text": "=1+1</w>", "chunk": 0, "place": 1, "weight": 1.0, "norm": 2.5}
    whole = {"texts": [{"part": 0, "text": request.base.prompt, "tokens": [token], "words": []}], "layers": []}
    for number in (1, 2):
        panels = Image.new("RGB", (32, 8))
        for place in range(4):
            panels.paste((place * 60, number * 60, 0), (place * 8, 0, place * 8 + 8, 8))
        buffer = io.BytesIO()
        panels.save(buffer, "WEBP", lossless=True)
        step = {"step": number, "pass": 0, "calls": 1, "sigma": -1.5, "t": 9.0, "seconds": 0.25, "cosine": None, "kept": True}
        step |= {"norms": dict.fromkeys(("noisy", "noise", "denoised", "guidance"), 1.0), "channels": {"noisy": [[0.0, 1.0, -1.0, 1.0]]}}
        yield Record(f"panels-{number:03d}.webp", buffer.getvalue())
        yield Record(f"step-{number:03d}.json", json.dumps(step).encode())
        yield Record("whole.json", json.dumps(whole).encode())
        yield Progress(1, 1, number, 2)


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
