"""What stays the same for all batches of a pass: model, networks, prompts as conditionings, noise levels; and the passes of a request."""

import math
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial

from PIL import Image

from webui.core import infotext
from webui.core.choices import SAMPLERS as CHOICES
from webui.core.choices import find_sampler
from webui.core.event import Event, Notice
from webui.core.guidance_options import NOISE_SCHEDULES, GuidanceOptions
from webui.core.hires import HiresFix
from webui.core.request import GenerationRequest
from webui.core.sampler_options import SamplerOptions
from webui.engine.conditioning import Encoder, Scheduled
from webui.engine.guidance import Guidance, always, left_out
from webui.engine.model import DiffusionModel, with_zero_terminal_snr
from webui.engine.networks import Networks
from webui.engine.patient_unet import PatientUnet
from webui.engine.rng import NewGenerator, noise_source
from webui.engine.samplers import SAMPLERS
from webui.engine.schedules import NoiseSchedule, Plan, make_plan
from webui.engine.sources import Source
from webui.engine.stage import Stage
from webui.engine.study import Asked, Study
from webui.engine.text_encoding import Stopped
from webui.engine.upscaling import Enlarge

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
    study: Study
    again: HiresFix | None = None  # whose second pass this is
    first_pass: int | None = None  # the network calls of the pass before that one
    refine: "Callable[[], Generator[Event, None, Job]] | None" = None  # sets up the refiner in the place of this job's model

    @cached_property
    def unet(self) -> PatientUnet:
        return PatientUnet(self.model, self.free_caches)

    @cached_property
    def sampler(self) -> str:
        return find_sampler(self.request.sampler, self.request.schedule_type)[0]

    @cached_property
    def schedule(self) -> NoiseSchedule:
        alphas, options = self.model.alphas_cumprod, self.request.guidance or GuidanceOptions()
        if options.noise_schedule == NOISE_SCHEDULES[1]:
            alphas = with_zero_terminal_snr(alphas)
        return NoiseSchedule.from_alphas(alphas, self.model.family.is_sdxl)

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
        asked = Asked(self.encoder, self.networks.prompt, full_calls(self.request), self.first_pass)
        return self.study.conds(asked, self.encoder.prompt(asked.prompt, asked.calls, asked.first_pass))

    @cached_property
    def uncond(self) -> Scheduled:
        return self.encoder.negative_prompt(self.request.negative_prompt, full_calls(self.request), self.first_pass)

    @cached_property
    def strength(self) -> Guidance:
        """How strongly the prompts pull, and when the negative one does not."""
        options, choice = self.request.guidance or GuidanceOptions(), CHOICES[self.sampler]
        scale = self.request.cfg_scale / SAMPLERS[self.sampler].cfg_unit
        low = options.ngms if choice.kind == "timestep" else self.schedule.t_above(options.ngms)  # the field's sigma of these is t
        no_push = math.isclose(self.request.cfg_scale * sum(cond.weight for cond in self.conds), 1)
        no_push = no_push and options.skip_uncond and not SAMPLERS[self.sampler].cfgpp  # these need the answer without the prompt
        alone = always if no_push else left_out(options, self.run_calls, low)
        padding = self.encoder.empty() if options.pad_conds else None
        return Guidance(scale, options.rescale, alone, scale if no_push else 1.0, padding, options.pad_conds_v0, options.pag)

    @property
    def run_calls(self) -> int:
        """The network calls of a run of its plan, as the field counts them."""
        init = self.request.init
        if init is None or init.exact_steps:
            return full_calls(self.request)
        return (int(min(init.denoising_strength, 0.999) * self.request.steps) + 1) * CHOICES[self.sampler].calls_per_step

    @property
    def facts(self) -> dict[str, str]:
        """What the pictures' infotext says beyond the request."""
        try:
            prompts = (*self.conds, self.uncond)
        except Stopped:  # before this job's prompts were encoded: they are not in the pictures
            prompts = ()
        hashes = {used.name: used.sha256[:HASH_DIGITS] for prompt in prompts for used in prompt.embeddings if used.sha256}
        extra = {"TI hashes": ", ".join(f"{name}: {digits}" for name, digits in hashes.items())} if hashes else {}
        return {**self.networks.facts, **extra}


def full_calls(request: GenerationRequest) -> int:
    """Network calls of a full run, over which prompts that change are laid; an img2img run makes only the first of them."""
    sampler = find_sampler(request.sampler, request.schedule_type)[0]
    return request.steps * CHOICES[sampler].calls_per_step


@dataclass(frozen=True)
class Passes:
    """The jobs of a request: one, or two with hires fix, each with one more where there is a refiner. One of them can work at a time."""

    request: GenerationRequest
    asked: Sequence[GenerationRequest]  # of each pass
    networks: Sequence[Networks]
    stage: Stage
    make_job: Callable[[int, GenerationRequest, DiffusionModel], Job]
    open_input: Callable[[str], Image.Image]
    enlarge: Enlarge
    study: Study
    jobs: dict[tuple[int, bool], Job] = field(default_factory=dict)

    def job(self, number: int, refining: bool = False) -> Generator[Event, None, Job]:
        """The job of a pass, or of its refiner, with its model and networks in place."""
        asked = self.asked[number].refined() if refining else self.asked[number]
        model = yield from self.stage.set_for(asked, self.networks[number], only_fitting=refining)
        place = number, refining
        if place not in self.jobs or self.jobs[place].model is not model:
            refines = asked.refiner is not None and asked.refiner.checkpoint != asked.checkpoint
            job = self.make_job(number, asked, model)
            self.jobs[place] = replace(job, refine=partial(self.job, number, refining=True) if refines else None)
        return self.jobs[place]

    @property
    def model(self) -> DiffusionModel:
        """The one at work; after a run of the sampler the refiner, if the run came so far."""
        assert self.stage.model is not None
        return self.stage.model

    def widen(self) -> bool:
        """Let the UNets work in fp32 from now on; False where they do already."""
        widened = [job.unet.widen() for job in self.jobs.values()]
        return any(widened)

    def take_notices(self) -> list[Notice]:
        told = [Notice(text) for job in self.jobs.values() for text in job.unet.take_notices()]
        return told + self.stage.untold(text for job in self.jobs.values() for text in sorted(job.encoder.unfit))

    def facts(self, interrupted: bool) -> infotext.Facts:
        """What the pictures' infotext says beyond the request; what both passes say in one list."""
        extra: dict[str, str] = {}
        for job in self.jobs.values():
            for key, value in job.facts.items():
                extra[key] = ", ".join(dict.fromkeys([*filter(None, extra.get(key, "").split(", ")), *value.split(", ")]))
        return infotext.Facts(extra=extra | ({"Interrupted": "True"} if interrupted else {}))
