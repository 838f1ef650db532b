"""What stays the same for all batches of a pass: model, networks, prompts as conditionings, noise levels; and the passes of a request."""

import math
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from PIL import Image

from webui.core import infotext
from webui.core.choices import SAMPLERS as CHOICES
from webui.core.choices import find_sampler
from webui.core.event import Event, Notice
from webui.core.guidance_options import GuidanceOptions
from webui.core.hires import HiresFix
from webui.core.request import GenerationRequest
from webui.core.sampler_options import SamplerOptions
from webui.engine.conditioning import Encoder, Scheduled
from webui.engine.guidance import Guidance, always, left_out
from webui.engine.model import DiffusionModel
from webui.engine.networks import Networks
from webui.engine.patient_unet import PatientUnet
from webui.engine.rng import NewGenerator, noise_source
from webui.engine.samplers import SAMPLERS
from webui.engine.schedules import NoiseSchedule, Plan, make_plan
from webui.engine.sources import Source
from webui.engine.stage import Stage

HASH_DIGITS = 12  # of an embedding's sha256 in the infotext


@dataclass(frozen=True)
class Job:
    """What stays the same for all batches of a request."""

    request: GenerationRequest
    model: DiffusionModel
    source: Source
    networks: Networks
    encoder: Encoder
    free_caches: Callable[[], None]
    again: HiresFix | None = None  # whose second pass this is
    first_pass: int | None = None  # the network calls of the pass before that one

    @cached_property
    def unet(self) -> PatientUnet:
        return PatientUnet(self.model, self.free_caches)

    @cached_property
    def sampler(self) -> str:
        return find_sampler(self.request.sampler, self.request.schedule_type)[0]

    @cached_property
    def schedule(self) -> NoiseSchedule:
        return NoiseSchedule.from_alphas(self.model.alphas_cumprod, self.model.family.is_sdxl)

    @cached_property
    def plan(self) -> Plan:
        init, again = self.request.init, self.again
        repainting = init or again
        strength = repainting.denoising_strength if repainting else None
        exact = init.exact_steps if init else again is not None
        schedule_type = find_sampler(self.request.sampler, self.request.schedule_type)[1]
        return make_plan(self.schedule, self.sampler, schedule_type, self.request.steps, strength, self.options, exact=exact)

    @cached_property
    def options(self) -> SamplerOptions:
        return self.request.sampler_options or SamplerOptions()

    @cached_property
    def noise_source(self) -> NewGenerator:
        return noise_source(self.request.rng, self.model.device)

    @cached_property
    def conds(self) -> tuple[Scheduled, ...]:
        return self.encoder.prompt(self.networks.prompt, full_calls(self.request), self.first_pass)

    @cached_property
    def uncond(self) -> Scheduled:
        return self.encoder.negative_prompt(self.request.negative_prompt, full_calls(self.request), self.first_pass)

    @cached_property
    def strength(self) -> Guidance:
        """How strongly the prompts pull, and when the negative one does not."""
        options, choice = self.request.guidance or GuidanceOptions(), CHOICES[self.sampler]
        scale, calls = self.request.cfg_scale / SAMPLERS[self.sampler].cfg_unit, full_calls(self.request)
        if self.request.init and not self.request.init.exact_steps:  # the calls of such a run, as the field counts them
            calls = (int(min(self.request.init.denoising_strength, 0.999) * self.request.steps) + 1) * choice.calls_per_step
        low = options.ngms if choice.kind == "timestep" else self.schedule.t_above(options.ngms)  # the field's sigma of these is t
        no_push = math.isclose(self.request.cfg_scale * sum(cond.weight for cond in self.conds), 1)
        no_push = no_push and options.skip_uncond and not SAMPLERS[self.sampler].cfgpp  # these need the answer without the prompt
        alone = always if no_push else left_out(options, calls, low)
        padding = self.encoder.empty() if options.pad_conds else None
        return Guidance(scale, options.rescale, alone, padding, options.pad_conds_v0)

    @property
    def facts(self) -> dict[str, str]:
        """What the pictures' infotext says beyond the request."""
        prompts = (*self.conds, self.uncond)
        hashes = {used.name: used.sha256[:HASH_DIGITS] for prompt in prompts for used in prompt.embeddings if used.sha256}
        extra = {"TI hashes": ", ".join(f"{name}: {digits}" for name, digits in hashes.items())} if hashes else {}
        return {**self.networks.facts, **extra}


def full_calls(request: GenerationRequest) -> int:
    """Network calls of a full run, over which prompts that change are laid; an img2img run makes only the first of them."""
    sampler = find_sampler(request.sampler, request.schedule_type)[0]
    return request.steps * CHOICES[sampler].calls_per_step


@dataclass(frozen=True)
class Passes:
    """The jobs of a request: one, or two with hires fix. Only one of them can work at a time."""

    request: GenerationRequest
    asked: Sequence[GenerationRequest]  # of each pass
    networks: Sequence[Networks]
    stage: Stage
    make_job: Callable[[int, DiffusionModel], Job]
    open_input: Callable[[str], Image.Image]
    jobs: dict[int, Job] = field(default_factory=dict)

    def job(self, number: int) -> Generator[Event, None, Job]:
        """The job of a pass, with its model and networks in place."""
        model = yield from self.stage.set_for(self.asked[number], self.networks[number])
        if number not in self.jobs or self.jobs[number].model is not model:
            self.jobs[number] = self.make_job(number, model)
        return self.jobs[number]

    def widen(self) -> bool:
        """Let the UNets work in fp32 from now on; False where they do already."""
        widened = [job.unet.widen() for job in self.jobs.values()]
        return any(widened)

    def take_notices(self) -> list[Notice]:
        return [Notice(text) for job in self.jobs.values() for text in job.unet.take_notices()]

    def facts(self, interrupted: bool) -> infotext.Facts:
        """What the pictures' infotext says beyond the request; what both passes say in one list."""
        extra: dict[str, str] = {}
        for job in self.jobs.values():
            for key, value in job.facts.items():
                extra[key] = ", ".join(dict.fromkeys([*filter(None, extra.get(key, "").split(", ")), *value.split(", ")]))
        return infotext.Facts(extra=extra | ({"Interrupted": "True"} if interrupted else {}))
