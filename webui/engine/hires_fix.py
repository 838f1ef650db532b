"""Hires fix: a batch in two passes, the second over the pictures of the first, made larger."""

from collections.abc import Generator, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from webui.core.event import Control, Event
from webui.core.request import GenerationRequest
from webui.engine.job import Passes
from webui.engine.latents import decode_latents
from webui.engine.sampling import Count, Outcome, image_noise, sampled
from webui.engine.upscaling import begin_again, check_same_latents, larger_images, larger_latents


def two_passes(passes: Passes, control: Control, batch: int, singles: Sequence[GenerationRequest]) -> Generator[Event, None, Outcome]:
    """hires fix: one batch, then again from its pictures, made larger."""
    hires, size = passes.request.hires, (passes.request.width, passes.request.height)
    assert hires is not None
    latents: Tensor | None = None
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
        noise = image_noise(first, singles)
        latents, stopped = yield from sampled(first, first.source.begin(0, [], noise.seeds), noise, control, count)
        if latents is None:
            return [], stopped
        with torch.inference_mode():
            if stopped:
                return decode_latents(passes.model, latents), True
            larger = larger_latents(passes.model, latents, hires, size, passes.enlarge)
        second = yield from passes.job(1)
        check_same_latents(first.model, second.model, hires.upscaler)
    noise = image_noise(second, singles)
    with torch.inference_mode():
        begin = replace(second.source.begin(0, [], noise.seeds), init=begin_again(second.model, larger, hires, size))
    made = latents
    latents, stopped = yield from sampled(second, begin, noise, control, count)
    if latents is None and stopped and made is not None:
        yield from passes.job(0)  # another checkpoint's latents may be another VAE's to decode
        latents = made
    if latents is None:
        return [], stopped
    with torch.inference_mode():
        return decode_latents(passes.model, latents), stopped
