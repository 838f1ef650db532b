"""The refiner in a run of the sampler: from the call on where it is due another checkpoint answers; the sampler goes on as it was."""

from collections.abc import Callable, Generator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from webui.core.choices import SAMPLERS as CHOICES
from webui.core.errors import BadRequest
from webui.core.event import Event, Notice
from webui.core.refiner import Refiner
from webui.engine.denoiser import Denoise
from webui.engine.job import Job
from webui.engine.patches.text_keys import remembered_text_keys
from webui.engine.schedules import ROUNDING, NoiseSchedule
from webui.engine.sources import Begin
from webui.engine.upscaling import have_same_latents

Due = Callable[[Tensor, int], bool]
"""(sigma, call) -> whether the refiner makes this call, if it has made none yet."""


@dataclass
class AtWork:
    """The models of one run, one at a time: the job's own, then its refiner's. Within the block `denoise` may be called.

    make: (job, what its run begins with) -> its own denoiser.
    """

    job: Job
    begin: Begin
    make: Callable[[Job, Begin], Denoise]
    _notices: list[Notice] = field(default_factory=list)
    _exits: ExitStack = field(default_factory=ExitStack)

    def __enter__(self) -> "AtWork":
        self._answer = self.make(self.job, self.begin)
        refiner = self.job.request.refiner
        self._due = due(refiner, self.job) if refiner and self.job.refine else _never
        self._set_to_work()
        return self

    def __exit__(self, *problem: object) -> None:
        self._exits.close()

    def denoise(self, x: Tensor, sigma: Tensor, call: int) -> Tensor:
        """A Denoise."""
        if self._due(sigma, call):
            self._due = _never
            self._refine()
        return self._answer(x, sigma, call)

    def take_notices(self) -> list[Notice]:
        """What the refiner's set-up has to tell the user, told once."""
        told, self._notices = self._notices, []
        return told

    def _set_to_work(self) -> None:
        self._exits.enter_context(self.job.unet.at_work())
        self._exits.enter_context(remembered_text_keys(self.job.model.unet))
        self._exits.enter_context(self.job.study.at_work(self.job.model, self.job.schedule, self.job.plan))

    def _refine(self) -> None:
        """The refiner in the place of the job's model. The first is left before the other is loaded: memory may not hold both."""
        assert self.job.refine is not None
        base = self.job
        self._exits.close()
        with torch.inference_mode(False), torch.no_grad():  # weights that are loaded here are ordinary ones
            self.job = self._told(self.job.refine())
        _check_fits(base, self.job)
        shown = self.begin.shown if self.job.model.family.inpainting else None
        self._answer = self.make(self.job, replace(self.begin, shown=shown))
        self._set_to_work()

    def _told(self, events: Generator[Event, None, Job]) -> Job:
        while True:
            try:
                event = next(events)
            except StopIteration as end:
                job: Job = end.value
                return job
            if isinstance(event, Notice):
                self._notices.append(event)


def due(refiner: Refiner, job: Job) -> Due:
    """When the refiner takes over, as the field counts: by the training timestep of the noise level, or by calls."""

    def by_calls(sigma: Tensor, call: int) -> bool:
        return call / job.run_calls >= refiner.switch_at

    on_timesteps = CHOICES[job.sampler].kind == "timestep"

    def by_timestep(sigma: Tensor, call: int) -> bool:
        return share_done(job.schedule, sigma, on_timesteps) >= refiner.switch_at

    return by_calls if refiner.by_steps else by_timestep


def share_done(schedule: NoiseSchedule, sigma: Tensor, on_timesteps: bool) -> float:
    """Of the training timesteps, counted from pure noise, 0 .. 0.999. on_timesteps: rounded down, else to the nearest noise level."""
    t = int(schedule.t(sigma) + ROUNDING) if on_timesteps else int((schedule.sigmas - sigma).abs().argmin())
    return (len(schedule.sigmas) - 1 - t) / len(schedule.sigmas)


def _never(sigma: Tensor, call: int) -> bool:
    return False


def _check_fits(base: Job, refiner: Job) -> None:
    """Raises BadRequest where the refiner cannot go on with the first checkpoint's latents."""
    name, first = refiner.model.path.name, base.model.path.name
    if not have_same_latents(base.model, refiner.model):
        raise BadRequest(
            f"{name} ({refiner.model.family.title}) cannot refine the latents of {first} ({base.model.family.title}): "
            "choose a refiner of the same family"
        )
    if refiner.model.family.inpainting and not base.model.family.inpainting:
        raise BadRequest(f"{name} is an inpainting checkpoint and {first} is none: choose a refiner that is none either")
