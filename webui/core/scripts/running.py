"""Carries a script's plan out: its requests one after the other, each as if it were alone, and at the end the sheet of their pictures."""

from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

from PIL import Image

from webui.core.errors import BadRequest, EaselError
from webui.core.event import Control, Event, Finished, Notice, Picture, Pictures, Progress
from webui.core.image_metadata import encode, open_image, read_infotext
from webui.core.infotext import with_facts
from webui.core.request import GenerationRequest
from webui.core.scripts.drawing import draw_sheet, small_enough, tiled
from webui.core.scripts.plan import PREVIOUS, Sheet, Step, making_order
from webui.core.scripts.request import ScriptRequest

Files = Mapping[int, tuple[Path, ...]]  # step -> its pictures, made by an earlier try
Make = Callable[[GenerationRequest, Control], Iterator[Any]]  # request -> events, Finished last


def run_script(request: ScriptRequest, control: Control, *, make: Make, add_input: Callable[[bytes], str]) -> Iterator[Event]:
    """Make the pictures of a complete script; yields what happens, Finished last.

    make: the one path of a request. add_input: bytes of a picture -> sha256 by which requests name it. A step that fails is left out and
    told; only where nothing can be made, the first step's error is raised. An interrupted script lays out what there is.
    """
    plan = request.plan
    run = _Run(plan.steps, plan.sheet, request.made, make, add_input)
    interrupted = False
    for index in making_order([step.request for step in plan.steps]):
        interrupted = control.interrupted or (yield from run.step(index, control))
        if interrupted:
            break
    if run.error and not run.first:
        raise run.error
    if plan.sheet is not None and run.first:
        yield Pictures(run.sheets(plan.sheet))
    yield Finished(interrupted=interrupted)


class _Run:
    """What is known while a script runs."""

    def __init__(self, steps: tuple[Step, ...], sheet: Sheet | None, files: Files, make: Make, add_input: Callable[[bytes], str]) -> None:
        self._files = files
        self.first: dict[int, Picture] = {}  # of each step its first picture
        self.error: EaselError | None = None  # the first one
        self._steps = steps
        self._places = len(sheet.cells) if sheet else 0
        self._make = make
        self._add_input = add_input
        self._cells: dict[int, Image.Image] = {}  # of each step what stands for it on the sheet
        self._notices: set[str] = set()
        self._batches = 0  # that are behind us
        self._done = 0  # sampling steps that are behind us
        self._all_batches = sum(step.request.batch_count for step in steps)
        self._all = sum(_cost(step) for step in steps)
        self._last: Image.Image | None = None  # the picture of the step before

    def step(self, index: int, control: Control) -> Generator[Event, None, bool]:
        """Carry out one step; returns whether it was interrupted."""
        step = self._steps[index]
        made = self._made_before(index)
        interrupted = False
        request = None if made else self._settled(step.request)
        try:
            if request is not None:
                interrupted = yield from self._events(index, request, control, made)
        except EaselError as error:
            self.error = self.error or error
            if str(error) not in self._notices:
                self._notices.add(str(error))
                yield Notice(f"{step.name} was left out: {error}")
        self._last = made[0] if made else None
        if made and self._places:
            self._cells[index] = small_enough(tiled(made), self._places)
        self._batches += step.request.batch_count
        self._done += _cost(step)
        return interrupted

    def _made_before(self, index: int) -> list[Image.Image]:
        """The pictures of a step that an earlier try has made; none where their files are gone."""
        try:
            data = [path.read_bytes() for path in self._files.get(index, ())]
            images = [open_image(each) for each in data]
        except (OSError, BadRequest):
            return []
        if images:
            self.first[index] = Picture(images[0], self._steps[index].request.single(0), read_infotext(data[0]).text)
        return images

    def _events(self, index: int, request: GenerationRequest, control: Control, made: list[Image.Image]) -> Generator[Event, None, bool]:
        interrupted = False
        with closing(self._make(request, control)) as events:  # type: ignore[type-var]
            for event in events:
                if isinstance(event, Finished):
                    interrupted = event.interrupted
                elif isinstance(event, Progress):
                    yield self._progress(event, index)
                elif isinstance(event, Pictures):
                    pictures = tuple(replace(picture, place=index) for picture in event.pictures)
                    made += [picture.image for picture in pictures]
                    self.first.setdefault(index, pictures[0])
                    yield Pictures(pictures)
                else:
                    yield event
        return interrupted

    def _settled(self, request: GenerationRequest) -> GenerationRequest | None:
        """The request with the picture before it as its init image, if it asks for that; None where there is no such picture."""
        if request.init is None or request.init.image != PREVIOUS:
            return request
        if self._last is None:
            return None
        return replace(request, init=replace(request.init, image=self._add_input(encode(self._last, "", "png"))))

    def _progress(self, told: Progress, index: int) -> Progress:
        """A step's progress as the whole script's."""
        whole = (self._done + told.fraction * _cost(self._steps[index])) / self._all
        return Progress(self._batches + told.batch, self._all_batches, told.step, told.steps, told.text, whole)

    def sheets(self, sheet: Sheet) -> tuple[Picture, ...]:
        """The sheet, and its parts; the infotext of each is its own first picture's, with what the sheet says of its axes."""
        images = draw_sheet(sheet, self._cells)
        return tuple(self._told(sheet, image, i) for i, image in enumerate(images))

    def _told(self, sheet: Sheet, image: Image.Image, i: int) -> Picture:
        """Image `i` of a sheet: the whole is 0, behind it are its planes, of which each has one value of Z."""
        count = len(sheet.columns) * len(sheet.rows)
        own = [index for index in sheet.cells[(i - 1) * count : i * count] if index in self.first] if i else []
        first = self.first[own[0] if own else min(self.first)]
        facts = {key: value for key, value in sheet.facts if not (i and key.removeprefix("Fixed ").startswith("Z "))}
        return Picture(image, first.request, with_facts(first.infotext, facts), sheet=True, place=i)


def _cost(step: Step) -> int:
    """Sampling steps, which take most of the time."""
    return step.request.batch_count * max(step.request.steps, 1)
