"""FreeU: on the UNet's way up, what comes from below weighs more and the coarse parts of what is skipped less (Si et al. 2023,
arXiv:2309.11497). Another picture at no cost in time, without training."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor

from webui.core.guidance_options import GuidanceOptions

FLAT = 1e-12  # the least difference of heights that is divided by


@contextmanager
def freeu(unet: Any, options: GuidanceOptions | None) -> Iterator[None]:
    """Within the block the UNet's way up is weighed by the options, if they want it.

    As Forge and ComfyUI ("FreeU V2"): in layers by how wide what comes from below is, four or two times the UNet's base, and stronger
    where the mean of its channels is high. freeu_plain, as diffusers: in the first and second stage, by the plain factors.
    """
    if options is None or not options.freeu:
        yield
        return
    factors = (options.freeu_b1, options.freeu_s1), (options.freeu_b2, options.freeu_s2)
    base, below = unet.config.block_out_channels[0], unet.mid_block.resnets[-1].out_channels
    by_width = dict(zip((4 * base, 2 * base), factors, strict=True))
    with ExitStack() as exits:
        for stage, block in enumerate(unet.up_blocks):
            for layer in block.resnets:
                chosen = dict(enumerate(factors)).get(stage) if options.freeu_plain else by_width.get(below)
                if chosen:
                    hook = partial(_weighed, below, *chosen, options.freeu_plain)
                    exits.callback(layer.register_forward_pre_hook(hook).remove)
                below = layer.out_channels
        yield


def _weighed(below: int, backbone: float, skip: float, plain: bool, layer: Any, given: tuple[Any, ...]) -> tuple[Any, ...]:
    """A hook: given[0] has `below` channels of what comes from below, then those that are skipped."""
    seen, skipped = given[0].split([below, given[0].shape[1] - below], dim=1)
    factor = backbone if plain else 1 + (backbone - 1) * _height(seen)
    return torch.cat([seen[:, : below // 2] * factor, seen[:, below // 2 :], coarse_weighed(skipped, skip)], dim=1), *given[1:]


def _height(seen: Tensor) -> Tensor:
    """(rows, 1, h, w), 0 .. 1: the mean of the channels between its least and its highest of each row."""
    mean = seen.mean(dim=1, keepdim=True)
    low, high = mean.amin(dim=(2, 3), keepdim=True), mean.amax(dim=(2, 3), keepdim=True)
    return (mean - low) / (high - low).clamp(min=FLAT)


def coarse_weighed(x: Tensor, factor: float) -> Tensor:
    """x (rows, channels, h, w) with its mean and the waves of once a side towards one end, in the spectrum, times `factor`."""
    spectrum = torch.fft.fft2(x.float())
    places = torch.tensor([0, -1], device=x.device)
    spectrum[..., places[:, None], places] *= factor
    return torch.fft.ifft2(spectrum).real.to(x.dtype)
