"""The one path from a request to pictures: load, encode, start, denoise, decode. Nothing runs between two steps but the consumer."""

import math
from collections import ChainMap
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
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
from webui.core.hires import HiresFix
from webui.core.request import GenerationRequest
from webui.core.sampler_options import SamplerOptions
from webui.engine.aesthetic import Guide, drawn_states, no_guide
from webui.engine.brownian import BrownianNoise
from webui.engine.conditioning import ConditioningCache, Encoder, Scheduled
from webui.engine.denoiser import Denoise, denoiser, keep_unmasked, lcm_denoiser, show_unmasked, unet_network
from webui.engine.device import memory_sentence
from webui.engine.embeddings import Embedding
from webui.engine.guidance import Guidance, Network, always, guided, left_out
from webui.engine.ladders import UnetOverflow, give_memory_back, is_out_of_memory
from webui.engine.latents import FACTOR, decode_latents
from webui.engine.load_progress import at_once
from webui.engine.masking import Box
from webui.engine.model import DiffusionModel
from webui.engine.networks import Networks
from webui.engine.patches.text_keys import remembered_text_keys
from webui.engine.patient_unet import PatientUnet
from webui.engine.preview import preview_jpeg
from webui.engine.rng import ImageNoise, NewGenerator, noise_source
from webui.engine.samplers import SAMPLERS, Step, Steps
from webui.engine.schedules import NoiseSchedule, Plan, make_plan
from webui.engine.soft_inpainting import softly_kept
from webui.engine.sources import Begin, Source, make_source
from webui.engine.stage import Stage
from webui.engine.text_encoding import BAD_SCORE, GOOD_SCORE
from webui.engine.tiled_diffusion import tiled_network
from webui.engine.upscaling import FILTERS_ALONE, Enlarge, begin_again, check_same_latents, larger_images, larger_latents

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
    enlarge: Enlarge = FILTERS_ALONE,
    conditionings: ConditioningCache | None = None,
    free_caches: Callable[[], None] = give_memory_back,
    follow: Callable[[Callable[[], DiffusionModel], str], Generator[Event, None, DiffusionModel]] = at_once,
) -> Iterator[Event]:
    """Make the pictures of a complete request; yields what happens, Finished last. To stop, close it or let `control` say so.

    load: request -> the model with the request's checkpoint and VAE. open_input: sha256 -> picture. networks: prompt -> those that it
    calls. embeddings: those that prompts may call, by name; only those that are called are looked up, and those that do not fit the
    model are not used. guide: what the prompt is drawn to where a request has aesthetic gradients. enlarge: by an upscaler.
    conditionings: those of the jobs before. free_caches: lets go of what can be had again, when memory runs out. follow: runs `load` and
    tells how far it is.
    Raises BadRequest where the request cannot be carried out, OutOfMemory where the pictures are too large for the machine.
    """
    request.validate()
    asked = (request, request.second_pass()) if request.hires else (request,)
    called = [networks(one.prompt) for one in asked]
    options, cache = request.guidance or GuidanceOptions(), ConditioningCache() if conditionings is None else conditionings

    def make_job(number: int, model: DiffusionModel) -> Job:
        words = ChainMap(called[number].embeddings, embeddings())  # type: ignore[arg-type]
        draw = partial(drawn_states, guide(model, request.aesthetic)) if request.aesthetic else None
        patches = called[number].text_patches
        encoder = Encoder(model, request.clip_skip, options.emphasis, options.old_timelines, words, draw, patches, cache)
        source = make_source(asked[number], model, open_input, enlarge)
        again = request.hires if number else None
        return Job(asked[number], model, source, called[number], encoder, free_caches, again, _calls(request) if number else None)

    with closing(Stage(load, follow)) as stage:
        try:
            yield from _batches(Passes(request, asked, called, stage, make_job, open_input, enlarge), control)
        except (MemoryError, RuntimeError) as error:
            if stage.model is None or not is_out_of_memory(error):
                raise
            raise OutOfMemory(_memory_advice(asked[-1], stage.model)) from error


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
        return self.encoder.prompt(self.networks.prompt, _calls(self.request), self.first_pass)

    @cached_property
    def uncond(self) -> Scheduled:
        return self.encoder.negative_prompt(self.request.negative_prompt, _calls(self.request), self.first_pass)

    @cached_property
    def strength(self) -> Guidance:
        """How strongly the prompts pull, and when the negative one does not."""
        options, choice = self.request.guidance or GuidanceOptions(), CHOICES[self.sampler]
        scale, calls = self.request.cfg_scale / SAMPLERS[self.sampler].cfg_unit, _calls(self.request)
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


@dataclass(frozen=True)
class Passes:
    """The jobs of a request: one, or two with hires fix. Only one of them can work at a time."""

    request: GenerationRequest
    asked: Sequence[GenerationRequest]  # of each pass
    networks: Sequence[Networks]
    stage: Stage
    make_job: Callable[[int, DiffusionModel], Job]
    open_input: Callable[[str], Image.Image]
    enlarge: Enlarge
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


def _batches(passes: Passes, control: Control) -> Iterator[Event]:
    request = passes.request
    stopped = False
    for batch in range(request.batch_count):
        first = batch * request.batch_size
        singles = [request.single(first + i) for i in range(request.batch_size)]
        stopped = control.interrupted
        if stopped:
            break
        images, stopped = yield from _patient_batch(passes, control, batch, singles)
        yield from passes.take_notices()
        if images:
            facts = passes.facts(stopped)
            made = zip(images, singles, strict=True)
            yield Pictures(tuple(Picture(image, single, infotext.write(single, facts)) for image, single in made))
        if stopped:
            break
    yield Finished(interrupted=stopped)


Outcome = tuple[list[Image.Image], bool]  # the pictures, none after a skip; whether the job was told to stop on the way


def _patient_batch(passes: Passes, control: Control, batch: int, singles: Sequence[GenerationRequest]) -> Generator[Event, None, Outcome]:
    """The batch, once more from its first noise where 16 bits are too few for the UNet."""
    make = _batch if passes.request.hires is None else _two_passes
    try:
        return (yield from make(passes, control, batch, singles))
    except UnetOverflow:
        if not passes.widen():
            raise
    yield Notice(OVERFLOWED)
    return (yield from make(passes, control, batch, singles))


def _batch(passes: Passes, control: Control, batch: int, singles: Sequence[GenerationRequest]) -> Generator[Event, None, Outcome]:
    """One batch through all passes of its source."""
    job = yield from passes.job(0)
    count = Count(batch + 1, job.request.batch_count, job.source.passes * job.plan.steps)
    canvases: list[Image.Image] = []
    yield count.progress
    for number in range(job.source.passes):
        noise = _image_noise(job, singles, number * job.source.seed_stride)
        with torch.inference_mode():
            begin = job.source.begin(number, canvases, noise.seeds)
        latents, stopped = yield from _sampled(job, begin, noise, control, count)
        if latents is None:
            return [], False
        with torch.inference_mode():
            canvases = job.source.end(number, canvases, decode_latents(job.model, latents), latents)
        if stopped:
            return job.source.abandon(number + 1, canvases, noise.seeds), True
    return canvases, False


def _two_passes(passes: Passes, control: Control, batch: int, singles: Sequence[GenerationRequest]) -> Generator[Event, None, Outcome]:
    """hires fix: one batch, then again from its pictures, made larger."""
    hires, size = passes.request.hires, (passes.request.width, passes.request.height)
    assert hires is not None
    if hires.image:
        second = yield from passes.job(1)
        with torch.inference_mode():
            larger = larger_images(second.model, [passes.open_input(hires.image)] * len(singles), hires, size, passes.enlarge)
        count = Count(batch + 1, passes.request.batch_count, second.plan.steps)
        yield count.progress
    else:
        first = yield from passes.job(0)
        steps = first.plan.steps + replace(first, request=passes.asked[1], again=hires).plan.steps
        count = Count(batch + 1, passes.request.batch_count, steps)
        yield count.progress
        noise = _image_noise(first, singles)
        latents, stopped = yield from _sampled(first, first.source.begin(0, [], noise.seeds), noise, control, count)
        if latents is None:
            return [], False
        with torch.inference_mode():
            if stopped:
                return decode_latents(first.model, latents), True
            larger = larger_latents(first.model, latents, hires, size, passes.enlarge)
        second = yield from passes.job(1)
        check_same_latents(first.model, second.model, hires.upscaler)
    noise = _image_noise(second, singles)
    with torch.inference_mode():
        begin = replace(second.source.begin(0, [], noise.seeds), init=begin_again(second.model, larger, hires, size))
    latents, stopped = yield from _sampled(second, begin, noise, control, count)
    if latents is None:
        return [], False
    with torch.inference_mode():
        return decode_latents(second.model, latents), stopped


@dataclass
class Count:
    """Steps that are done, of those of one batch."""

    batch: int
    batches: int
    steps: int
    done: int = 0

    @property
    def progress(self) -> Progress:
        return Progress(self.batch, self.batches, self.done, self.steps)


@torch.inference_mode()
def _sampled(
    job: Job, begin: Begin, noise: ImageNoise, control: Control, count: Count
) -> Generator[Event, None, tuple[Tensor | None, bool]]:
    """One run of the sampler: its clean latents, None where it was skipped, and whether the job was told to stop on the way."""
    run = _start(job, begin, noise)
    step, stopped, before = None, False, count.done
    with closing(run.steps), job.unet.at_work(), remembered_text_keys(job.model.unet):
        for step in run.steps:
            count.done = before + step.index + 1  # samplers that choose their own steps tell how far they are
            yield count.progress
            if control.previews:
                yield Preview(preview_jpeg(step.denoised, job.model.family))
            if control.take_skip():
                return None, False
            stopped = control.interrupted and count.done < count.steps
            if stopped:
                break
    return _result(job, begin, run, step), stopped


def _image_noise(job: Job, singles: Sequence[GenerationRequest], more: int = 0) -> ImageNoise:
    """The generators of a batch's pictures; more: what a pass adds to their seeds."""
    request = job.request
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
    x = job.plan.start(_multiplied(job, first), init)
    sampler = SAMPLERS[job.sampler]
    arguments = [_denoise(job, begin, init, len(noise.seeds)), x, job.plan.sigmas]
    if sampler.noise == "image":
        arguments.append(lambda sigma, sigma_next: noise.next(shape).to(device))
    elif sampler.noise == "brownian":
        path = BrownianNoise(lambda seed: job.noise_source(seed).randn(shape), noise.seeds, job.plan.span)
        arguments.append(lambda sigma, sigma_next: path(sigma, sigma_next).to(device))
    keywords = sampler.options(job.options) | ({"schedule": job.schedule} if sampler.on_timesteps else {})
    return Run(sampler.sample(*arguments, **keywords), x, init)


def _multiplied(job: Job, noise: Tensor) -> Tensor:
    """The noise that is laid on a picture: times its multiplier, and with what is to be more of it than the sampler expects."""
    repainting = job.request.init or job.again
    if repainting is None:
        return noise
    extra = repainting.extra_noise / job.plan.noised_to if repainting.extra_noise and job.plan.noised_to else 0.0
    multiplier = job.request.init.noise_multiplier if job.request.init else 1.0
    return noise * (multiplier * (1 + extra))


def _result(job: Job, begin: Begin, run: Run, step: Step | None) -> Tensor:
    """The clean latents after the last step, or after the one that the job was stopped at."""
    if step is None:
        latents = run.x
    elif step.index + 1 == job.plan.steps:
        latents = job.plan.finish(step.x)
    else:
        latents = step.denoised
    keeps_all = begin.mask is None or run.init is None or begin.soft is not None
    return latents if keeps_all else torch.lerp(run.init, latents, begin.mask)


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
    predict = guided(_network(job, begin), conds, uncond, job.strength, batch, unguided_too=SAMPLERS[job.sampler].cfgpp)
    prediction_type = job.model.family.prediction_type
    if kind == "lcm":
        denoise = lcm_denoiser(predict, job.schedule.for_lcm(), prediction_type)
    else:
        denoise = denoiser(predict, job.schedule, prediction_type)
    if begin.mask is None or init is None:
        return denoise
    if begin.soft is not None:
        return softly_kept(denoise, begin.mask, init, begin.soft)
    return (show_unmasked if kind == "timestep" else keep_unmasked)(denoise, begin.mask, init)


def _network(job: Job, begin: Begin) -> Network:
    """The UNet, in tiles where the picture is larger than they are."""
    tile, shown = job.request.tile // FACTOR, begin.shown
    if not tile or max(begin.size) <= tile:
        return unet_network(job.unet, shown)

    def make(window: Box) -> Network:
        left, top, right, bottom = window
        return unet_network(job.unet, None if shown is None else shown[:, :, top:bottom, left:right])

    return tiled_network(make, begin.size, tile, job.request.tile_overlap // FACTOR)


def _calls(request: GenerationRequest) -> int:
    """Network calls of a full run, over which prompts that change are laid; an img2img run makes only the first of them."""
    sampler = find_sampler(request.sampler, request.schedule_type)[0]
    return request.steps * CHOICES[sampler].calls_per_step


def _memory_advice(request: GenerationRequest, model: DiffusionModel) -> str:
    count = f"{request.batch_size} pictures" if request.batch_size > 1 else "a picture"
    return (
        f"memory ran out while making {count} of {request.width}x{request.height}: {memory_sentence(model.device)}; "
        "make the pictures smaller or fewer at once, or close other programs"
    )
