"""One stage of a long training: counts steps, shows progress and ETA, saves its state and resumes from it."""

import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm


class Stage:
    """`total` steps whose state lies in `folder`/`name`.pt; `step` is how many of them are done."""

    def __init__(self, folder: Path, name: str, total: int, save_every: int = 200):
        self.path = folder / f"{name}.pt"
        self.name = name
        self.total = total
        self.save_every = save_every
        self._state = torch.load(self.path, weights_only=True) if self.path.exists() else {}
        self.step: int = self._state.get("step", 0)
        self._bar: tqdm | None = None
        self._loss = 0.0

    @property
    def finished(self) -> bool:
        """Whether nothing is left to do."""
        return self.step >= self.total

    def resume(self, **parts: Any) -> None:
        """Load into each part (anything with load_state_dict) what was saved under its name."""
        for name, part in parts.items():
            if name in self._state:
                part.load_state_dict(self._state[name])
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

    def done(self, step: int, loss: float, **parts: Any) -> None:
        """Count a step; every `save_every` steps, and after the last, save the parts' states."""
        self.step = step + 1
        self._loss = loss if step == 0 else 0.98 * self._loss + 0.02 * loss
        if self._bar is not None:
            self._bar.set_postfix(loss=f"{self._loss:.4f}", refresh=False)
        if self.step % self.save_every == 0 or self.step == self.total:
            self.save(**parts)

    def save(self, **parts: Any) -> None:
        """Write the state; the file appears whole or not at all."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        half = self.path.with_suffix(".part")
        torch.save({"step": self.step} | {name: part.state_dict() for name, part in parts.items()}, half)
        os.replace(half, self.path)
