"""Trains a hypernetwork, the same nets and the same patch as a picture uses."""

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from webui.engine.model import DiffusionModel
from webui.engine.patches.hypernetwork import (
    Hypernetwork,
    HypernetworkModule,
    HypernetworkUse,
    Layout,
    applied_hypernetworks,
    save_hypernetwork,
)

START = 0.01  # standard deviation of the weights at the start: A1111's "Normal"


class HypernetworkTraining:
    """Nets for contexts of the given widths, for keys and for values."""

    def __init__(self, model: DiffusionModel, name: str, widths: tuple[int, ...], layout: Layout | None = None, seed: int = 1) -> None:
        self._model, layout = model, layout or Layout()
        generator = torch.Generator().manual_seed(seed)
        nets = {width: (_net(width, layout, generator, model), _net(width, layout, generator, model)) for width in widths}
        self.hypernetwork = Hypernetwork(name, layout, nets)

    def parameters(self) -> list[nn.Parameter]:
        return [weight for pair in self.hypernetwork.nets.values() for net in pair for weight in net.parameters()]

    def attached(self) -> AbstractContextManager[None]:
        return applied_hypernetworks(self._model, [HypernetworkUse(self.hypernetwork)])

    def encode(self, caption: str) -> None:
        """The text encoder is not trained."""

    def save(self, path: Path, facts: dict[str, Any]) -> None:
        """Write A1111's layout. facts: "step", "sd_checkpoint_name" and the like."""
        save_hypernetwork(path, Hypernetwork(self.hypernetwork.name, self.hypernetwork.layout, self.hypernetwork.nets, facts))


def _net(width: int, layout: Layout, generator: torch.Generator, model: DiffusionModel) -> HypernetworkModule:
    net = HypernetworkModule(width, layout)
    for name, weight in net.named_parameters():
        nn.init.normal_(weight, std=START, generator=generator) if name.endswith("weight") else nn.init.zeros_(weight)
    return net.to(model.device)
