"""The one path from a request to pictures: load, encode, start, denoise, decode. Nothing runs between two steps but the consumer."""

from collections import ChainMap
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from functools import partial

import torch
from PIL import Image

from webui.core import infotext
from webui.core.aesthetic import Aesthetic
from webui.core.errors import OutOfMemory
from webui.core.event import Control, Event, Finished, Notice, Picture, Pictures
from webui.core.guidance_options import GuidanceOptions
from webui.core.request import GenerationRequest
from webui.engine.aesthetic import Guide, drawn_states, no_guide
from webui.engine.conditioning import ConditioningCache, Encoder
from webui.engine.device import memory_sentence
from webui.engine.embeddings import Embedding
from webui.engine.hires_fix import two_passes
from webui.engine.job import Job, Passes, full_calls
from webui.engine.ladders import UnetOverflow, give_memory_back, is_out_of_memory
from webui.engine.latents import decode_latents
from webui.engine.load_progress import at_once
from webui.engine.model import DiffusionModel
from webui.engine.networks import Networks
from webui.engine.sampling import Count, Outcome, image_noise, sampled
from webui.engine.sources import make_source
from webui.engine.stage import Stage
from webui.engine.study import NO_STUDY, Study
from webui.engine.upscaling import FILTERS_ALONE, Enlarge

OVERFLOWED = "the UNet overflowed in 16-bit arithmetic and works in 32 bits for this job, which is slower; --no-half saves the first try"


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
    study: Study = NO_STUDY,
) -> Iterator[Event]:
    """Make the pictures of a complete request; yields what happens, Finished last. To stop, close it or let `control` say so.

    load: request -> the model with the request's checkpoint and VAE. open_input: sha256 -> picture. networks: prompt -> those that it
    calls. embeddings: those that prompts may call, by name; only those that are called are looked up, and those that do not fit the
    model are not used. guide: what the prompt is drawn to where a request has aesthetic gradients. enlarge: by an upscaler.
    conditionings: those of the jobs before. free_caches: lets go of what can be had again, when memory runs out. follow: runs `load` and
    tells how far it is. study: looks into the run.
    Raises BadRequest where the request cannot be carried out, OutOfMemory where the pictures are too large for the machine.
    """
    request.validate()
    options, cache = request.guidance or GuidanceOptions(), ConditioningCache() if conditionings is None else conditionings

    def make_job(called: Sequence[Networks], number: int, one: GenerationRequest, model: DiffusionModel) -> Job:
        words = ChainMap(called[number].embeddings, embeddings())  # type: ignore[arg-type]
        draw = partial(drawn_states, guide(model, request.aesthetic)) if request.aesthetic else None
        patches = called[number].text_patches
        ways = options.emphasis, options.old_timelines
        encoder = Encoder(
            model, request.clip_skip, *ways, words, draw, patches, cache, options.comma_backtrack, lambda: control.interrupted
        )
        source = make_source(one, model, open_input, enlarge)
        again = request.hires if number else None
        first_pass = full_calls(request) if number else None
        return Job(one, model, source, called[number], encoder, free_caches, study, again, first_pass)

    def passes_of(told: GenerationRequest) -> Passes:
        asked = told.passes()
        called = [networks(one.prompt) for one in asked]
        return Passes(request, asked, called, stage, partial(make_job, called), open_input, enlarge, study)

    with closing(Stage(load, follow)) as stage:
        try:
            yield from _batches(passes_of, request, control)
        except (MemoryError, RuntimeError) as error:
            if stage.model is None or not is_out_of_memory(error):
                raise
            raise OutOfMemory(_memory_advice(request.passes()[-1], stage.model)) from error


def _batches(passes_of: Callable[[GenerationRequest], Passes], request: GenerationRequest, control: Control) -> Iterator[Event]:
    """passes_of: a request, with the words of a batch -> what is the same for all batches with these words."""
    stopped, passes = False, passes_of(request.with_words(0))
    for batch in range(request.batch_count):
        if batch and request.each:
            passes = passes_of(request.with_words(batch))
        first = batch * request.batch_size
        singles = passes.study.singles(request, range(first, first + request.batch_size))
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


def _patient_batch(passes: Passes, control: Control, batch: int, singles: Sequence[GenerationRequest]) -> Generator[Event, None, Outcome]:
    """The batch, once more from its first noise where 16 bits are too few for the UNet."""
    make = _batch if passes.request.hires is None else two_passes
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
        job = yield from passes.job(0)  # the refiner may have taken its place
        noise = image_noise(job, singles, number * job.source.seed_stride)
        with torch.inference_mode():
            begin = job.source.begin(number, canvases, noise.seeds)
        latents, stopped = yield from sampled(job, begin, noise, control, count)
        if latents is None:
            return [], stopped
        with torch.inference_mode():
            canvases = job.source.end(number, canvases, decode_latents(passes.model, latents), latents)
        if stopped:
            return job.source.abandon(number + 1, canvases, noise.seeds), True
    return canvases, False


def _memory_advice(request: GenerationRequest, model: DiffusionModel) -> str:
    count = f"{request.batch_size} pictures" if request.batch_size > 1 else "a picture"
    return (
        f"memory ran out while making {count} of {request.width}x{request.height}: {memory_sentence(model.device)}; "
        "make the pictures smaller or fewer at once, or close other programs"
    )
