"""What a picture depends on beyond its request: the versions, the device and the kernels it is made with."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from importlib.metadata import version
from typing import Any

import torch

from webui import __version__
from webui.core.event import Event, Picture, Pictures
from webui.engine.device import Device


def environment(device: Device, attention: str) -> dict[str, str]:
    """name -> value, for recipes; the same in every run on the same machine. attention: the kernel that the UNets use."""
    names = {torch.float32: "fp32", torch.float16: "fp16", torch.bfloat16: "bf16"}
    told = {
        "Easel": __version__,
        **{name: version(name) for name in ("torch", "diffusers", "transformers")},
        "device": device.name,
        "precision": f"{names[device.dtype]}, VAE {names[device.vae_dtype]}",
        "attention": attention,
    }
    if device.torch_device.type == "cpu":
        told["threads"] = str(torch.get_num_threads())
    return told


def recorded(events: Iterator[Event], facts: Callable[[Picture], Mapping[str, Any]]) -> Iterator[Event]:
    """The same events, each picture with its facts."""
    for event in events:
        if isinstance(event, Pictures):
            yield Pictures(tuple(replace(picture, facts=facts(picture)) for picture in event.pictures))
        else:
            yield event
