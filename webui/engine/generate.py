"""The one path from a request to pictures: load, encode, start, denoise, decode. Nothing runs between two steps but the consumer."""

import math
from collections import ChainMap
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property, partial

import torch
from PIL import Image
from torch import Tensor

from webui.core import infotext
from webui.core.aesthetic import Aesthetic
from webui.core.choices import SAMPLERS as CHOICES
from webui.core.choices import find_sampler
from webui.core.errors import OutOfMemory
from webui.core.event import Control, Event, Finished, Notice, Picture, Pictures, Preview, Progress
from webui.core.guidance_options import GuidanceOptions
from webui.core.request import GenerationRequest
from webui.core.sampler_options import SamplerOptions
from webui.engine.aesthetic import Guide, drawn_states, no_guide
from webui.engine.brownian import BrownianNoise
from webui.engine.conditioning import ConditioningCache, Encoder, Scheduled
from webui.engine.denoiser import Denoise, denoiser, keep_unmasked, lcm_denoiser, show_unmasked, unet_network
from webui.engine.device import memory_sentence
from webui.engine.embeddings import Embedding
from webui.engine.guidance import Guidance, always, guided, left_out
from webui.engine.ladders import UnetOverflow, give_memory_back, is_out_of_memory
from webui.engine.latents import FACTOR, decode_latents
from webui.engine.load_progress import at_once
from webui.engine.model import DiffusionModel
from webui.engine.networks import Networks, applied
from webui.engine.patches.text_keys import remembered_text_keys
from webui.engine.patient_unet import PatientUnet
from webui.engine.preview import preview_jpeg
from webui.engine.rng import ImageNoise, NewGenerator, noise_source
from webui.engine.samplers import SAMPLERS, Step, Steps
from webui.engine.schedules import NoiseSchedule, Plan, make_plan
from webui.engine.sources import Begin, Source, make_source
from webui.engine.text_encoding import BAD_SCORE, GOOD_SCORE

PASS_STRIDE = 1_000_003  # between the seeds of an outpainting's passes: the same noise twice would draw the same things twice
OVERFLOWED = "the UNet overflowed in 16-bit arithmetic and works in 32 bits for this job, which is slower; --no-half saves the first try"
HASH_DIGITS = 12  # of an embedding's sha256 in the infotext


def generate(
    request: GenerationRequest,
    control: Control,
    *,
    load: Callable[[GenerationRequest], DiffusionModel],
    open_input: Callable[[str], Image.Image],
    networks: Callable[[str], Networks] = Networks,
    embeddings: Callable[[], Mapping[str, Embedding]] = dict,
    guide: Callable[[DiffusionModel, Aesthetic], Guide] = no_guide,
    conditionings: ConditioningCache | None = None,
    free_caches: Callable[[], None] = give_memory_back,
    follow: Callable[[Callable[[], DiffusionModel], str], Generator[Event, None, DiffusionModel]] = at_once,
) -> Iterator[Event]:
    """Make the pictures of a complete request; yields what happens, Finished last. To stop, close it or let `control` say so.

    load: request -> the model with the request's checkpoint and VAE. open_input: sha256 -> picture. networks: prompt -> those that it
    calls. embeddings: those that prompts may call, by name; only those that are called are looked up, and those that do not fit the
    model are not used. guide: what the prompt is drawn to where a request has aesthetic gradients. conditionings: those of the jobs
    before. free_caches: lets go of what can be had again, when memory runs out. follow: runs `load` and tells how far it is.
    Raises BadRequest where the request cannot be carried out, OutOfMemory where the pictures are too large for the machine.
    """
    request.validate()
    called = networks(request.prompt)
    model = yield from follow(partial(load, request), f"loading {request.checkpoint or 'the checkpoint'}")
    try:
        with applied(called, model) as notices:
            yield from map(Notice, notices)
            words = ChainMap(called.embeddings, embeddings())  # type: ignore[arg-type]
            draw = partial(drawn_states, guide(model, request.aesthetic)) if request.aesthetic else None
            options = _guidance(request)
            cache = ConditioningCache() if conditionings is None else conditionings
            encoder = Encoder(model, request.clip_skip, options.emphasis, options.old_timelines, words, draw, called.text_patches, cache)
            source = make_source(request, model, open_input)
            yield from _batches(Job(request, model, source, called, encoder, free_caches), control)
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise OutOfMemory(_memory_advice(request, model)) from error


@dataclass(frozen=True)
class Job:
    """What stays the same for all batches of a request."""

    request: GenerationRequest
    model: DiffusionModel
    source: Source
    networks: Networks
    encoder: Encoder
    free_caches: Callable[[], None]

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
        strength = self.request.init.denoising_strength if self.request.init else None
        schedule_type = find_sampler(self.request.sampler, self.request.schedule_type)[1]
        return make_plan(self.schedule, self.sampler, schedule_type, self.request.steps, strength, self.options)

    @cached_property
    def options(self) -> SamplerOptions:
        return self.request.sampler_options or SamplerOptions()

    @cached_property
    def noise_source(self) -> NewGenerator:
        return noise_source(self.request.rng, self.model.device)

    @cached_property
    def calls(self) -> int:
        """Network calls of a full run, over which prompts that change are laid; an img2img run makes only the first of them."""
        return self.request.steps * CHOICES[self.sampler].calls_per_step

    @cached_property
    def conds(self) -> tuple[Scheduled, ...]:
        return self.encoder.prompt(self.networks.prompt, self.calls)

    @cached_property
    def uncond(self) -> Scheduled:
        return self.encoder.negative_prompt(self.request.negative_prompt, self.calls)

    @cached_property
    def strength(self) -> Guidance:
        """How strongly the prompts pull, and when the negative one does not."""
        options, choice = _guidance(self.request), CHOICES[self.sampler]
        scale, calls = self.request.cfg_scale / SAMPLERS[self.sampler].cfg_unit, self.calls
        if self.request.init:  # the calls of such a run, as the field counts them
            calls = (int(min(self.request.init.denoising_strength, 0.999) * self.request.steps) + 1) * choice.calls_per_step
        low = options.ngms if choice.kind == "timestep" else self.schedule.t_above(options.ngms)  # the field's sigma of these is t
        no_push = options.skip_uncond and math.isclose(self.request.cfg_scale * sum(cond.weight for cond in self.conds), 1)
        alone = always if no_push else left_out(options, calls, low)
        padding = self.encoder.empty() if options.pad_conds else None
        return Guidance(scale, options.rescale, alone, padding, options.pad_conds_v0)

    def facts(self, interrupted: bool) -> infotext.Facts:
        """What the pictures' infotext says beyond the request."""
        prompts = (*self.conds, self.uncond)
        hashes = {used.name: used.sha256[:HASH_DIGITS] for prompt in prompts for used in prompt.embeddings if used.sha256}
        extra = {"TI hashes": ", ".join(f"{name}: {digits}" for name, digits in hashes.items())} if hashes else {}
        return infotext.Facts(extra={**self.networks.facts, **extra} | ({"Interrupted": "True"} if interrupted else {}))


@torch.inference_mode()
def _batches(job: Job, control: Control) -> Iterator[Event]:
    request = job.request
    stopped = False
    for batch in range(request.batch_count):
        first = batch * request.batch_size
        singles = [request.single(first + i) for i in range(request.batch_size)]
        stopped = control.interrupted
        if stopped:
            break
        images, stopped = yield from _patient_batch(job, control, batch, singles)
        yield from map(Notice, job.unet.take_notices())
        if images:
            facts = job.facts(stopped)
            made = zip(images, singles, strict=True)
            yield Pictures(tuple(Picture(image, single, infotext.write(single, facts)) for image, single in made))
        if stopped:
            break
    yield Finished(interrupted=stopped)


Outcome = tuple[list[Image.Image], bool]  # the pictures, none after a skip; whether the job was told to stop on the way


def _patient_batch(job: Job, control: Control, batch: int, singles: Sequence[GenerationRequest]) -> Generator[Event, None, Outcome]:
    """The batch, once more from its first noise where 16 bits are too few for the UNet."""
    try:
        return (yield from _batch(job, control, batch, singles))
    except UnetOverflow:
        if not job.unet.widen():
            raise
    yield Notice(OVERFLOWED)
    return (yield from _batch(job, control, batch, singles))


def _batch(job: Job, control: Control, batch: int, singles: Sequence[GenerationRequest]) -> Generator[Event, None, Outcome]:
    """One batch through all passes of its source."""
    total = job.source.passes * job.plan.steps
    done = 0
    canvases: list[Image.Image] = []
    yield Progress(batch + 1, job.request.batch_count, done, total)
    for number in range(job.source.passes):
        noise = _image_noise(job, singles, number)
        begin = job.source.begin(number, canvases, noise.seeds)
        run = _start(job, begin, noise)
        step, stopped = None, False
        with closing(run.steps), job.unet.at_work(), remembered_text_keys(job.model.unet):
            for step in run.steps:
                done = number * job.plan.steps + step.index + 1
                yield Progress(batch + 1, job.request.batch_count, done, total)
                if control.previews:
                    yield Preview(preview_jpeg(step.denoised, job.model.family))
                if control.take_skip():
                    return [], False
                stopped = control.interrupted and done < total
                if stopped:
                    break
        canvases = job.source.end(number, canvases, decode_latents(job.model, _result(job, begin, run, step)))
        if stopped:
            return job.source.abandon(number + 1, canvases, noise.seeds), True
    return canvases, False


def _image_noise(job: Job, singles: Sequence[GenerationRequest], number: int) -> ImageNoise:
    """The generators of a batch's pictures for pass `number`."""
    request, more = job.request, number * PASS_STRIDE
    resize_from = (request.seed_resize_height // FACTOR, request.seed_resize_width // FACTOR)
    return ImageNoise(
        [single.seed + more for single in singles],
        [single.variation_seed + more for single in singles],
        request.variation_strength,
        resize_from if all(resize_from) else None,
        job.noise_source,
        job.options.ensd,
    )


@dataclass(frozen=True)
class Run:
    """One pass over one batch, ready to go. x: what the sampler begins with; init: the clean latents in it, if any."""

    steps: Steps
    x: Tensor
    init: Tensor | None


def _start(job: Job, begin: Begin, noise: ImageNoise) -> Run:
    """Start latents and sampler of one pass."""
    device = job.model.device
    shape = (job.model.vae.config.latent_channels, *begin.size)
    first = noise.first(shape).to(device)
    init = _init_latents(begin, first)
    x = job.plan.start(first, init)
    sampler = SAMPLERS[job.sampler]
    arguments = [_denoise(job, begin, init, len(noise.seeds)), x, job.plan.sigmas]
    if sampler.noise == "image":
        arguments.append(lambda sigma, sigma_next: noise.next(shape).to(device))
    elif sampler.noise == "brownian":
        path = BrownianNoise(lambda seed: job.noise_source(seed).randn(shape), noise.seeds, job.plan.span)
        arguments.append(lambda sigma, sigma_next: path(sigma, sigma_next).to(device))
    keywords = sampler.options(job.options) | ({"schedule": job.schedule} if sampler.on_timesteps else {})
    return Run(sampler.sample(*arguments, **keywords), x, init)


def _result(job: Job, begin: Begin, run: Run, step: Step | None) -> Tensor:
    """The clean latents after the last step, or after the one that the job was stopped at."""
    if step is None:
        latents = run.x
    elif step.index + 1 == job.plan.steps:
        latents = job.plan.finish(step.x)
    else:
        latents = step.denoised
    return latents if begin.mask is None or run.init is None else torch.lerp(run.init, latents, begin.mask)


def _init_latents(begin: Begin, noise: Tensor) -> Tensor | None:
    """The clean latents to start from, one per picture, with what masked content asks for under the mask."""
    if begin.init is None:
        return None
    init = begin.init.expand(len(noise), -1, -1, -1)
    if begin.mask is None or begin.content in ("original", "fill"):
        return init
    return torch.lerp(init, noise if begin.content == "latent noise" else torch.zeros_like(init), begin.mask)


def _denoise(job: Job, begin: Begin, init: Tensor | None, batch: int) -> Denoise:
    """Network, guidance and mask as one function."""
    kind = CHOICES[job.sampler].kind
    size = (begin.size[0] * FACTOR, begin.size[1] * FACTOR)
    conds = [cond.with_sizes(job.model, size, GOOD_SCORE) for cond in job.conds]
    uncond = job.uncond.with_sizes(job.model, size, BAD_SCORE)
    predict = guided(unet_network(job.unet, begin.shown), conds, uncond, job.strength, batch, unguided_too=SAMPLERS[job.sampler].cfgpp)
    prediction_type = job.model.family.prediction_type
    if kind == "lcm":
        denoise = lcm_denoiser(predict, job.schedule.for_lcm(), prediction_type)
    else:
        denoise = denoiser(predict, job.schedule, prediction_type)
    if begin.mask is None or init is None:
        return denoise
    return (show_unmasked if kind == "timestep" else keep_unmasked)(denoise, begin.mask, init)


def _guidance(request: GenerationRequest) -> GuidanceOptions:
    return request.guidance or GuidanceOptions()


def _memory_advice(request: GenerationRequest, model: DiffusionModel) -> str:
    count = f"{request.batch_size} pictures" if request.batch_size > 1 else "a picture"
    return (
        f"memory ran out while making {count} of {request.width}x{request.height}: {memory_sentence(model.device)}; "
        "make the pictures smaller or fewer at once, or close other programs"
    )
