"""A study as a job: which of them is made, on the one path of a request."""

from collections.abc import Callable, Generator, Iterator
from contextlib import closing

from PIL import Image

from webui.core.event import Control, Event, Finished, Notice, Pictures, Progress, Record
from webui.core.request import GenerationRequest
from webui.core.xray import Interpolation, Noising, Recording, WordRanking, XrayRequest
from webui.engine.model import DiffusionModel
from webui.engine.xray.between import interpolate
from webui.engine.xray.noising import noise_picture
from webui.engine.xray.panels import png
from webui.engine.xray.recorder import Recorder
from webui.engine.xray.words import Make, rank

IN_TILES = "attention is not recorded where the UNet sees the picture in tiles; everything else is"


def run_xray(
    request: XrayRequest,
    control: Control,
    *,
    make: Make,
    load: Callable[[GenerationRequest], Generator[Event, None, DiffusionModel]],
    open_input: Callable[[str], Image.Image],
) -> Iterator[Event]:
    """Carry out a complete study; yields what happens, what it finds as Records, Finished last. Raises BadRequest.

    make: the one path of a request, under a study. load: the model of a request, telling how far it is. open_input: sha256 -> picture.
    """
    request.validate()
    base, study = request.base, request.study
    if isinstance(study, Recording):
        yield from record(base, study, control, make)
    elif isinstance(study, WordRanking):
        yield from rank(base, study, control, make)
    elif isinstance(study, Interpolation):
        yield from interpolate(base, study, control, make)
    elif isinstance(study, Noising):
        image = open_input(study.image)
        model = yield from load(base)
        yield from noise_picture(base, study, control, model, image)


def record(base: GenerationRequest, study: Recording, control: Control, make: Make) -> Iterator[Event]:
    """The pictures, with the records of the first one's steps; it is recorded itself, as a PNG, and pictures are told only where there are
    none yet."""
    tiled = bool(base.tile) and max(base.width, base.height) > base.tile
    if tiled and study.attention:
        yield Notice(IN_TILES)
    recorder = Recorder(study, with_maps=not tiled)
    passes = 0
    with closing(make(base, control, recorder)) as events:  # type: ignore[type-var]
        for event in events:
            if isinstance(event, Pictures):
                if recorder.looks:
                    yield Record("picture.png", png(event.pictures[0].image))
                    yield from recorder.whole()
                if not study.first:
                    continue
            if isinstance(event, Finished) and recorder.looks:  # it may have been stopped before there was a picture
                yield from recorder.whole()
            if isinstance(event, Progress):
                yield from recorder.step(event.step)
                if recorder.passes != passes:  # so that pages know what the first step's maps are of
                    passes = recorder.passes
                    yield from recorder.whole()
            yield event
