"""Where a model's parts wait and where they work: all on the device, or in main memory until they are needed (--medvram, --lowvram)."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain

import torch
from torch import nn

from webui.engine.patches.borrowed_weights import borrowed_weights

log = logging.getLogger(__name__)
CPU = torch.device("cpu")
FOR_WORK = 2 << 30  # bytes that the device needs beside the weights: of a UNet's work on two large latents, or of the VAE's in tiles
BY_PART = "its parts are brought there while they work, as with --medvram"
BY_LAYER = "its layers are brought there one by one, as with --lowvram, which is slow"
LARGEST_PART = 0.85  # of a checkpoint's bytes, at most, are its UNet's (SD 1.5: 0.81, SDXL: 0.74)


@dataclass(frozen=True)
class Placement:
    """Parts of a model that wait in one memory and work in another.

    by_layer: the UNet, too large for the device as a whole, has its layers brought there one by one, for each call anew.
    """

    device: torch.device  # where all work is done
    home: torch.device  # where weights wait
    by_layer: bool = False

    @contextmanager
    def at_work(self, part: nn.Module) -> Iterator[None]:
        """Within the block the whole part is on the device; at home its weights lie as they were, and nothing is copied back."""
        tensors = list(chain(part.parameters(), part.buffers()))
        homes = [tensor.data for tensor in tensors]
        try:
            with torch.inference_mode(False):  # the copies become ordinary weights
                for tensor, home in zip(tensors, homes, strict=True):
                    tensor.data = home.to(self.device, copy=True, non_blocking=True)
            yield
        finally:
            for tensor, home in zip(tensors, homes, strict=True):
                tensor.data = home

    @contextmanager
    def unet_at_work(self, unet: nn.Module) -> Iterator[None]:
        """Within the block the UNet can be called with what lies on the device."""
        with borrowed_weights(unet, device=self.device) if self.by_layer else self.at_work(unet):
            yield


@contextmanager
def moved(part: nn.Module, place: torch.device) -> Iterator[None]:
    """Within the block the part is at `place` and its old memory is free; afterwards it lies where it lay, bit for bit."""
    before = next(part.parameters()).device
    with torch.inference_mode(False):
        part.to(place)
    try:
        yield
    finally:
        with torch.inference_mode(False):
            part.to(before)


def placement_rule(device: torch.device, medvram: bool, lowvram: bool) -> Callable[[int], Placement | None]:
    """Bytes of a checkpoint's weights -> its placement; None: all of it stays on the device.

    Flags decide on a CUDA card; without them its free memory. Elsewhere there is no other memory to wait in.
    """
    asked = medvram or lowvram
    if asked and device.type != "cuda":
        log.warning("--medvram and --lowvram change nothing here: there is no CUDA card to keep parts away from")

    def place(weights: int) -> Placement | None:
        if device.type != "cuda":
            return None
        if asked:
            return Placement(device, CPU, by_layer=lowvram)
        placement = fitting(device, weights, _available(device))
        if placement:
            log.warning("the card has too little free memory for the whole model: %s", BY_LAYER if placement.by_layer else BY_PART)
        return placement

    return place


def fitting(device: torch.device, weights: int, available: int) -> Placement | None:
    """The fastest placement for which `available` bytes of the device are enough."""
    room = available - FOR_WORK
    if weights <= room:
        return None
    return Placement(device, CPU, by_layer=weights * LARGEST_PART > room)


def _available(device: torch.device) -> int:
    """Bytes that are free or held by this process, whose other models make room when they must."""
    return torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved(device)


def pin(part: nn.Module) -> None:
    """Lay the weights into main memory that stays in place, from which a card copies at the bus's full speed."""
    for tensor in chain(part.parameters(), part.buffers()):
        tensor.data = tensor.data.pin_memory()
