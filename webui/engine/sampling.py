"""One run of the sampler over one batch: start latents, network, guidance and mask put together, and the steps told as they are made."""

from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from webui.core.choices import SAMPLERS as CHOICES
from webui.core.event import Control, Event, Preview, Progress
from webui.core.request import GenerationRequest
from webui.engine.brownian import BrownianNoise
from webui.engine.denoiser import Denoise, denoiser, held_back, keep_unmasked, lcm_denoiser, show_unmasked, timestep_denoiser, unet_network
from webui.engine.guidance import Context, Network, asks_one_by_one, guided, one_by_one
from webui.engine.job import Job
from webui.engine.latents import FACTOR
from webui.engine.masking import Box
from webui.engine.patches.perturbed_attention import perturbed_attention
from webui.engine.preview import preview_jpeg
from webui.engine.refining import AtWork
from webui.engine.rng import ImageNoise
from webui.engine.samplers import SAMPLERS, Step, Steps
from webui.engine.soft_inpainting import softly_kept, softly_shown
from webui.engine.sources import Begin
from webui.engine.text_encoding import BAD_SCORE, GOOD_SCORE, Stopped
from webui.engine.tiled_diffusion import tiled_network

Outcome = tuple[list[Image.Image], bool]  # the pictures, none after a skip; whether the job was told to stop on the way


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
def sampled(
    job: Job, begin: Begin, noise: ImageNoise, control: Control, count: Count
) -> Generator[Event, None, tuple[Tensor | None, bool]]:
    """One run of the sampler: its clean latents, None where there are none, and whether the job was told to stop on the way."""
    run = _start(job, begin, noise)
    step, stopped, before = None, False, count.done
    try:
        with closing(run.steps), run.models as models:
            for step in run.steps:
                yield from models.take_notices()
                count.done = before + step.index + 1  # samplers that choose their own steps tell how far they are
                yield count.progress
                if control.previews:
                    yield Preview(preview_jpeg(step.denoised, job.model.family))
                if control.take_skip():
                    return None, False
                stopped = control.interrupted and count.done < count.steps
                if stopped:
                    break
    except Stopped:  # the model's prompts, or the refiner's, are not encoded
        stopped = True
        if step is None:
            return None, True
    return _result(job, begin, run, step), stopped


def image_noise(job: Job, singles: Sequence[GenerationRequest], more: int = 0) -> ImageNoise:
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
    models: AtWork
    x: Tensor
    init: Tensor | None


def _start(job: Job, begin: Begin, noise: ImageNoise) -> Run:
    """Start latents and sampler of one pass."""
    device = job.model.device
    shape = (job.model.vae.config.latent_channels, *begin.size)
    first = noise.first(shape).to(device)
    init = _init_latents(begin, lambda: ImageNoise(noise.seeds, source=job.noise_source).first(shape).to(device), len(noise.seeds))
    x = job.plan.start(_multiplied(job, first), init)
    sampler = SAMPLERS[job.sampler]
    models = AtWork(job, begin, lambda job, begin: job.study.denoise(_denoise(job, begin, init, len(noise.seeds))))
    arguments = [models.denoise, x, job.plan.sigmas]
    if sampler.noise == "image":
        arguments.append(lambda sigma, sigma_next: noise.next(shape).to(device))
    elif sampler.noise == "brownian":
        path = BrownianNoise(lambda seed: job.noise_source(seed).randn(shape), noise.seeds, job.plan.span)
        arguments.append(lambda sigma, sigma_next: path(sigma, sigma_next).to(device))
    keywords = sampler.options(job.options) | ({"schedule": job.schedule} if sampler.on_timesteps else {})
    return Run(sampler.sample(*arguments, **keywords), models, x, init)


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


def _init_latents(begin: Begin, noise: Callable[[], Tensor], batch: int) -> Tensor | None:
    """The clean latents to start from, one per picture, with what masked content asks for under the mask.

    noise: the first of the seeds' own, which knows no variation and no other size, as in the field.
    """
    if begin.init is None:
        return None
    init = begin.init.expand(batch, -1, -1, -1)
    if begin.mask is None or begin.content in ("original", "fill"):
        return init
    return torch.lerp(init, noise() if begin.content == "latent noise" else torch.zeros_like(init), begin.mask)


def _denoise(job: Job, begin: Begin, init: Tensor | None, batch: int) -> Denoise:
    """Network, guidance and mask as one function."""
    kind = CHOICES[job.sampler].kind
    size = (begin.size[0] * FACTOR, begin.size[1] * FACTOR)
    conds = [cond.with_sizes(job.model, size, GOOD_SCORE) for cond in job.conds]
    uncond = job.uncond.with_sizes(job.model, size, BAD_SCORE)
    plain = _network(job, begin, batch)
    perturbed = _perturbed(plain, job.model.unet) if job.strength.perturbed else None
    predict = guided(job.study.network(plain), conds, uncond, job.strength, batch, SAMPLERS[job.sampler].cfgpp, perturbed)
    prediction_type = job.model.family.prediction_type
    if kind == "lcm":
        denoise = lcm_denoiser(predict, job.schedule.for_lcm(), prediction_type)
    elif kind == "timestep":
        denoise = timestep_denoiser(predict, job.schedule, prediction_type, job.plan.read_at)
    else:
        denoise = denoiser(predict, job.schedule, prediction_type)
    if begin.mask is None or init is None:
        return denoise
    if begin.soft is not None:
        if kind == "timestep":
            return softly_shown(denoise, begin.mask, init, begin.soft, job.schedule.t)
        return softly_kept(denoise, begin.mask, init, begin.soft)
    keep = partial(show_unmasked if kind == "timestep" else keep_unmasked, denoise, init=init)
    return keep(begin.mask) if begin.free_at is None else held_back(keep, begin.mask, begin.free_at, job.schedule)


def _perturbed(network: Network, unet: Any) -> Network:
    """`network`, whose UNet is `unet`, without its sense for form."""

    def formless(x: Tensor, t: float, context: Context) -> Tensor:
        with perturbed_attention(unet):
            return network(x, t, context)

    return formless


def _network(job: Job, begin: Begin, batch: int) -> Network:
    """The UNet; a CPU's sees one picture of a batch at a time."""
    if batch == 1 or not asks_one_by_one(job.model.device):
        return _of_any_size(job, begin, begin.shown)
    shown = [None] * batch if begin.shown is None else begin.shown.expand(batch, -1, -1, -1).split(1)
    return one_by_one([_of_any_size(job, begin, its) for its in shown])


def _of_any_size(job: Job, begin: Begin, shown: Tensor | None) -> Network:
    """The UNet, in tiles where the picture is larger than they are."""
    tile = job.request.tile // FACTOR
    if not tile or max(begin.size) <= tile:
        return unet_network(job.unet, shown)

    def make(window: Box) -> Network:
        left, top, right, bottom = window
        return unet_network(job.unet, None if shown is None else shown[:, :, top:bottom, left:right])

    return tiled_network(make, begin.size, tile, job.request.tile_overlap // FACTOR)
