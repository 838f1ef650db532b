"""Trains a LoRA (arXiv:2106.09685) on the attention layers of a UNet, and saves it as kohya's scripts do."""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from webui.core.errors import BadRequest
from webui.engine.model import DiffusionModel
from webui.engine.model_file import ReadAs, open_tensors
from webui.engine.patches.forwards import replaced_forwards
from webui.engine.tensor_writer import save_tensors

TRAINED = (".to_q", ".to_k", ".to_v", ".to_out.0")  # endings of the layers' names
PARTS = ("lora_down.weight", "lora_up.weight", "alpha")  # of a layer in the file


class LoraTraining:
    """Pairs of small matrices beside the UNet's attention layers: W + up @ down * alpha / rank."""

    def __init__(self, model: DiffusionModel, rank: int = 4, alpha: float = 4.0, seed: int = 1) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.rank, self.alpha = rank, alpha
        self._layers = {name: layer for name, layer in model.unet.named_modules() if name.endswith(TRAINED)}
        self._pairs = {name: _pair(layer, rank, generator) for name, layer in self._layers.items()}

    def go_on_from(self, path: Path) -> int:
        """Take the matrices, rank and alpha of a file that `save` wrote; returns the steps that it was trained.

        Raises BadModelFile, and BadRequest where the file was trained on other layers.
        """
        with open_tensors(path) as file:
            keys = {name: _key(name) for name in self._layers}
            wanted = {f"{key}.{part}" for key in keys.values() for part in PARTS}
            shapes = {name: [file.shapes.get(f"{key}.{part}", ()) for part in PARTS[:2]] for name, key in keys.items()}
            if file.shapes.keys() != wanted or not all(_fits(self._layers[name], *both) for name, both in shapes.items()):
                raise BadRequest(
                    f"{path.name} was not made by training this checkpoint here, so it cannot be trained further; make a new one"
                )
            for name, key in keys.items():
                for parameter, part in zip(self._pairs[name], PARTS, strict=False):
                    parameter.data = file.read(f"{key}.{part}", ReadAs(torch.float32)).to(parameter.device)
            self.alpha = float(file.read(f"{next(iter(keys.values()))}.alpha"))
            self.rank = len(next(iter(self._pairs.values()))[0])
            steps = file.metadata.get("ss_steps", "")
        return int(steps) if steps.isdecimal() else 0

    def parameters(self) -> list[nn.Parameter]:
        return [part for pair in self._pairs.values() for part in pair]

    @contextmanager
    def attached(self) -> Iterator[None]:
        with replaced_forwards([(layer, self._beside(name, layer)) for name, layer in self._layers.items()]):
            yield

    def encode(self, caption: str) -> None:
        """The text encoder is not trained."""

    def save(self, path: Path, metadata: Mapping[str, str], *, replace: bool = False) -> None:
        """Write the file, fp16. Raises BadRequest where there is one already (unless `replace`), StorageError."""
        tensors: dict[str, Tensor] = {}
        for name, (down, up) in self._pairs.items():
            parts = zip(PARTS, (down, up, torch.tensor(self.alpha)), strict=True)
            tensors |= {f"{_key(name)}.{part}": tensor for part, tensor in parts}
        facts = {"ss_network_module": "networks.lora", "ss_network_dim": str(self.rank), "ss_network_alpha": str(self.alpha), **metadata}
        save_tensors(path, {name: tensor.detach().half() for name, tensor in tensors.items()}, facts, replace=replace)

    def _beside(self, name: str, layer: nn.Module) -> Callable[[Tensor], Any]:
        compute, (down, up) = layer.forward, self._pairs[name]

        def forward(x: Tensor) -> Tensor:
            added: Tensor = F.linear(F.linear(x, down.to(x.dtype)), up.to(x.dtype)) * (self.alpha / self.rank)
            return compute(x) + added

        return forward


def _key(name: str) -> str:
    return f"lora_unet_{name.replace('.', '_')}"


def _fits(layer: nn.Linear, down: tuple[int, ...], up: tuple[int, ...]) -> bool:
    return bool(down) and down[1:] == (layer.in_features,) and up == (layer.out_features, down[0])


def _pair(layer: nn.Linear, rank: int, generator: torch.Generator) -> tuple[nn.Parameter, nn.Parameter]:
    """(rank, in) at random, (out, rank) of zeros: nothing changes at first."""
    bound = 1 / math.sqrt(layer.in_features)
    down = (torch.rand(rank, layer.in_features, generator=generator) * 2 - 1) * bound
    device = layer.weight.device
    return nn.Parameter(down.to(device)), nn.Parameter(torch.zeros(layer.out_features, rank, device=device))
