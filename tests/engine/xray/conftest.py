"""One tiny model, the one path under a study, and what a study records."""

import io
import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from tests.tiny import tiny_model
from webui.core.event import Finished, Pictures, Progress, Record
from webui.core.request import GenerationRequest
from webui.core.xray import XrayRequest
from webui.engine.generate import generate
from webui.engine.model import DiffusionModel
from webui.engine.study import NO_STUDY
from webui.engine.xray.run import run_xray

REQUEST = GenerationRequest(
    prompt="a red circle, blue",
    negative_prompt="blurry",
    width=64,
    height=64,
    steps=4,
    seed=7,
    variation_seed=0,
    sampler="Euler",
    vae="None",
)
PHOTO = Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8))


class Alone:
    previews = False

    def __init__(self, interrupt_after=10**9):
        self.steps, self.interrupt_after = 0, interrupt_after

    @property
    def interrupted(self):
        return self.steps >= self.interrupt_after

    def take_skip(self):
        return False


class Records(dict):
    """Name -> bytes, of a study that was carried out; `events`: all that it told."""

    events: list

    def json(self, name):
        return json.loads(self[name])

    def image(self, name):
        return Image.open(io.BytesIO(self[name]))

    @property
    def steps(self):
        return [self.json(name) for name in sorted(self) if name.startswith("step-")]


@pytest.fixture(scope="session")
def model():
    tiny = tiny_model()
    return DiffusionModel(tiny.pipeline, replace(tiny.family, native_size=64), tiny.path)


@pytest.fixture(scope="session")
def lab(model):
    """plain(request) -> picture; study(request, study, control) -> Records."""

    def make(request, control, study=NO_STUDY):
        return generate(request, control, load=lambda asked: model, open_input=lambda name: PHOTO, study=study)

    def plain(request):
        return next(event.pictures[0].image for event in make(request, Alone()) if isinstance(event, Pictures))

    def load(request):
        return model
        yield

    def study(request, asked, control=None):
        whole = request if getattr(asked, "first", False) else XrayRequest.of(request, asked).base
        job = XrayRequest(base=whole, study=asked)
        control, events = control or Alone(), []
        for event in run_xray(job, control, make=make, load=load, open_input=lambda name: PHOTO):
            control.steps += isinstance(event, Progress)
            events.append(event)
        assert isinstance(events[-1], Finished)
        records = Records({event.name: event.data for event in events if isinstance(event, Record)})
        records.events = events
        return records

    return SimpleNamespace(make=make, plain=plain, study=study, model=model)
