"""One stage of a long training: counts steps, shows progress and ETA, saves its state and resumes from it."""

import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import Module
from torch.optim import Optimizer
from tqdm import tqdm

Part = Module | Optimizer


class Stage:
    """`total` steps whose state lies in `folder`/`name`.safetensors; `step` is how many of them are done."""

    def __init__(self, folder: Path, name: str, total: int, save_every: int = 200):
        self.path = folder / f"{name}.safetensors"
        self.name = name
        self.total = total
        self.save_every = save_every
        self._state = load_tensors(self.path)
        self.step = int(self._state.get("step", 0))
        self._bar: tqdm | None = None
        self._losses: list[float] = []

    @property
    def finished(self) -> bool:
        """Whether nothing is left to do."""
        return self.step >= self.total

    def resume(self, **parts: Part) -> None:
        """Load into each part what was saved under its name; a part of which nothing was saved stays as it is."""
        for name, part in parts.items():
            saved = {key.removeprefix(f"{name}/"): value for key, value in self._state.items() if key.startswith(f"{name}/")}
            if saved:
                _restore(part, saved)
        self._state = {}

    def steps(self) -> Iterator[int]:
        """The numbers of the steps still to do."""
        with tqdm(total=self.total, initial=self.step, desc=self.name, mininterval=10) as self._bar:
            for step in range(self.step, self.total):
                yield step
                self._bar.update()

    def cosine(self, step: int, warmup: int, floor: float = 0.02) -> float:
        """Factor of the learning rate: up in a line for `warmup` steps, then down on half a cosine to `floor` at the end."""
        rising = min(1.0, (step + 1) / warmup)
        return rising * (floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * min(1.0, step / self.total))))

    def done(self, step: int, loss: float, **parts: Part) -> None:
        """Count a step; every `save_every` steps, and after the last, save the parts' states."""
        self.step = step + 1
        self._losses = [*self._losses[-99:], loss]
        if self._bar is not None:
            self._bar.set_postfix(loss=f"{sum(self._losses) / len(self._losses):.4f}", refresh=False)
        if self.step % self.save_every == 0 or self.step == self.total:
            tensors = {f"{name}/{key}": value for name, part in parts.items() for key, value in _tensors(part).items()}
            save_tensors(tensors | {"step": torch.tensor(self.step)}, self.path)


def load_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a file that `save_tensors` wrote; none where there is no such file."""
    return load_file(path) if path.exists() else {}


def save_tensors(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Write tensors by name; the file appears whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    half = path.with_suffix(".part")
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, half)
    os.replace(half, path)


def _tensors(part: Part) -> dict[str, Tensor]:
    """A module's weights by name, or an optimizer's state by "parameter/name" (its options are made anew by who makes it)."""
    if isinstance(part, Module):
        return part.state_dict()
    state = part.state_dict()["state"]
    return {f"{index}/{name}": value for index, values in state.items() for name, value in values.items()}


def _restore(part: Part, saved: dict[str, Tensor]) -> None:
    if isinstance(part, Module):
        part.load_state_dict(saved)
        return
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in saved.items():
        index, _, name = key.partition("/")
        state.setdefault(int(index), {})[name] = value
    part.load_state_dict({"state": state, "param_groups": part.state_dict()["param_groups"]})
