"""Trains a hypernetwork, the same nets and the same patch as a picture uses."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
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
INITS: dict[str, Callable[..., Any]] = {  # of matrices; all else begins as "Normal" has it
    "Normal": partial(nn.init.normal_, std=START),
    "KaimingNormal": partial(nn.init.kaiming_normal_, nonlinearity="relu"),
    "KaimingUniform": partial(nn.init.kaiming_uniform_, nonlinearity="relu"),
    "XavierNormal": nn.init.xavier_normal_,
    "XavierUniform": nn.init.xavier_uniform_,
}


class HypernetworkTraining:
    """Nets for contexts, for keys and for values: those of a hypernetwork that goes on being trained, or new ones."""

    def __init__(
        self,
        model: DiffusionModel,
        name: str,
        widths: tuple[int, ...],
        layout: Layout | None = None,
        seed: int = 1,
        *,
        init: str = "Normal",
        known: Hypernetwork | None = None,
    ) -> None:
        """widths: of the contexts of new nets. init: one of INITS. known: instead of new nets."""
        self._model, layout = model, layout or Layout()
        generator = torch.Generator().manual_seed(seed)
        self.hypernetwork = known or Hypernetwork(
            name, layout, {width: (_net(width, layout, generator, init), _net(width, layout, generator, init)) for width in widths}
        )
        for net in self._nets():
            net.to(model.device).train().requires_grad_(True)

    def _nets(self) -> list[HypernetworkModule]:
        return [net for pair in self.hypernetwork.nets.values() for net in pair]

    def parameters(self) -> list[nn.Parameter]:
        return [weight for net in self._nets() for weight in net.parameters()]

    def attached(self) -> AbstractContextManager[None]:
        return applied_hypernetworks(self._model, [HypernetworkUse(self.hypernetwork)])

    def encode(self, caption: str) -> None:
        """The text encoder is not trained."""

    def save(self, path: Path, facts: dict[str, Any]) -> None:
        """Write A1111's layout. facts: "step", "sd_checkpoint_name" and the like, beside what the hypernetwork has of them."""
        made = self.hypernetwork
        save_hypernetwork(path, Hypernetwork(made.name, made.layout, made.nets, {**made.facts, **facts}))


def _net(width: int, layout: Layout, generator: torch.Generator, init: str) -> HypernetworkModule:
    net = HypernetworkModule(width, layout)
    for name, weight in net.named_parameters():
        if name.endswith("weight"):
            INITS[init if weight.dim() > 1 else "Normal"](weight, generator=generator)
        else:
            nn.init.zeros_(weight)
    return net
