"""A worker's handlers without torch. The prompt says what a job does; see `draw`. Files in data_dir are its way to talk with the test."""

import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from PIL import Image

from webui.core.errors import BadRequest, OutOfMemory
from webui.core.event import Control, Event, Failed, Finished, Loading, Picture, Pictures, Preview, Progress, Record
from webui.core.model_orders import SaveOrder, WeightsOrder
from webui.core.request import GenerationRequest
from webui.core.scripts.request import ScriptRequest
from webui.core.scripts.running import run_script
from webui.core.settings import Settings
from webui.core.xray import XrayRequest
from webui.service.inputs import InputStore, inputs_folder
from webui.service.worker import Handler, MemoryQuestion

LONG = 600.0  # seconds after which a job that waits for the test gives up: longer than any test


def make(settings: Settings) -> dict[type, Handler]:
    """The table for a worker that is well."""
    (settings.data_dir / f"worker{settings.worker or ''}.pid").write_text(str(os.getpid()))
    (settings.data_dir / "torch.txt").write_text(str("torch" in sys.modules))

    def draw(request: GenerationRequest, control: Control) -> Iterator[Event]:
        """Prompt words: "hold" waits in each step for file go, "fail", "crash", "die" (always), "die-once", "quiet" (no Finished)."""
        words = request.prompt.split()
        note(settings, f"{request.prompt}|{request.seed}")
        yield Loading("Loading checkpoint")
        if "fail" in words:
            raise BadRequest("this cannot be drawn; ask for something else")
        if "crash" in words:
            raise ValueError("a defect")
        if "tell" in words:
            yield Failed("it went wrong", 507)
            return
        yield from batches(settings, request, control, words)
        if "quiet" not in words:
            yield Finished(interrupted=control.interrupted)

    def write(order: SaveOrder, control: Control) -> Iterator[Event]:
        """The file that a save would write, a copy."""
        yield Progress(1, 1, 50, 100, f"writing {order.name}")
        if order.name == "hold":
            hold(settings, control)
        if not control.interrupted:
            folder = settings.checkpoint_dirs[0]
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copy(settings.builtin_checkpoint, folder / order.file_name)
        yield Finished(interrupted=control.interrupted)

    def run(request: ScriptRequest, control: Control) -> Iterator[Event]:
        return run_script(request, control, make=draw, add_input=InputStore(inputs_folder(settings.data_dir)).add)

    def look(request: XrayRequest, control: Control) -> Iterator[Event]:
        """A record for each step of what the base draws, told as pictures only where it is the job's own."""
        for event in draw(request.base, control):
            if isinstance(event, Progress) and event.step:
                yield Record(f"step-{event.step:03d}.json", json.dumps({"step": event.step}).encode())
            if not isinstance(event, Pictures) or request.makes_pictures:
                yield event

    def keep(order: WeightsOrder, control: Control) -> Iterator[Event]:
        """File "full" makes unloading fail, file "deadly" kills the worker."""
        if order.action == "unload" and (settings.data_dir / "full").exists():
            raise OutOfMemory("there is no memory left; free some")
        if order.action == "unload" and (settings.data_dir / "deadly").exists():
            os.kill(os.getpid(), signal.SIGKILL)
        note(settings, f"{order.action} {order.checkpoint}|{settings.worker}")
        yield Finished()

    return {GenerationRequest: draw, ScriptRequest: run, XrayRequest: look, SaveOrder: write, WeightsOrder: keep, MemoryQuestion: memory}


def batches(settings: Settings, request: GenerationRequest, control: Control, words: list[str]) -> Iterator[Event]:
    for batch in range(1, request.batch_count + 1):
        skipped = False
        for step in range(request.steps + 1):
            yield Progress(batch, request.batch_count, step, request.steps)
            if control.previews:
                yield Preview(f"preview {batch} {step}".encode())
            if "hold" in words:
                hold(settings, control)
            skipped = control.take_skip()
            if control.interrupted or skipped:
                break
        if control.interrupted:
            return
        if not skipped:
            yield Pictures(tuple(picture(request, (batch - 1) * request.batch_size + i) for i in range(request.batch_size)))
        died = settings.data_dir / "died"
        if "die" in words or ("die-once" in words and not died.exists()):
            died.touch()
            arrived(settings)
            os.kill(os.getpid(), signal.SIGKILL)


def hold(settings: Settings, control: Control) -> None:
    """One step that takes until file `go` exists, or a signal comes."""
    (settings.data_dir / "holding").touch()
    end = time.monotonic() + LONG
    while not (settings.data_dir / "go").exists() and not control.interrupted and time.monotonic() < end:
        with suppress(FileNotFoundError):  # another worker may take it first
            (settings.data_dir / "step").unlink()
            return
        time.sleep(0.01)


def arrived(settings: Settings) -> None:
    """Wait until the server has the first picture in hand: it writes it."""
    end = time.monotonic() + LONG
    while not any(settings.outputs_dir.glob("*/*")) and time.monotonic() < end:
        time.sleep(0.01)


def picture(request: GenerationRequest, index: int) -> Picture:
    single = request.single(index)
    colour = (single.seed % 256, single.seed // 256 % 256, single.variation_seed % 256)
    return Picture(Image.new("RGB", (request.width, request.height), colour), single, f"{request.prompt}\nSteps: 1, Seed: {single.seed}")


def note(settings: Settings, text: str) -> None:
    with open(settings.data_dir / "ran.txt", "a") as file:
        file.write(text + "\n")


def ran(folder: Path) -> list[str]:
    """What the worker began, in order: "prompt|seed"."""
    path = folder / "ran.txt"
    return path.read_text().splitlines() if path.exists() else []


def memory(question: MemoryQuestion, control: Control) -> Iterator[Any]:
    yield {"device": "Abacus", "host": "desk", "ram": {"free": 1, "used": 2, "total": 4}, "cuda": {"system": {"total": 7, "used": 3}}}


def never(settings: Settings) -> dict[type, Handler]:
    """A worker that cannot start."""
    note(settings, "start")
    raise BadRequest("there is no device here; plug one in")


def lost(settings: Settings) -> dict[type, Handler]:
    """A worker that dies while it starts."""
    note(settings, "start")
    os._exit(3)


def other(settings: Settings) -> dict[type, Handler]:
    """A worker that knows no pictures."""
    return {}


def small(**values: Any) -> GenerationRequest:
    """A request that is quick."""
    return replace(GenerationRequest(width=64, height=64, steps=2), **values)
