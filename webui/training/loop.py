"""The one training loop for what is added to a finished model: LoRAs, hypernetworks, embeddings. The model itself stays as it is."""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from random import Random
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from webui.core.errors import BadRequest
from webui.core.learning_rate import Plan, rate_at
from webui.engine.model import DiffusionModel
from webui.engine.text_encoding import encode_prompt
from webui.training.dataset import Dataset

WARMUP = 20  # steps
MAX_NORM = 1.0  # of the gradients


class Addition(Protocol):
    """What is trained."""

    def parameters(self) -> list[nn.Parameter]:
        """What the optimizer changes."""
        ...

    def attached(self) -> AbstractContextManager[object]:
        """A block within which the model works with it, gradients included; afterwards the model is as before."""
        ...

    def encode(self, caption: str) -> Tensor | None:
        """The caption's text states (77 * chunks, width) where they depend on what is trained; None where they do not."""
        ...


def train(
    model: DiffusionModel,
    dataset: Dataset,
    addition: Addition,
    *,
    steps: int,
    learning_rate: float,
    plan: Plan = (),
    batch_size: int = 8,
    seed: int = 1,
    max_norm: float = MAX_NORM,
) -> Iterator[float]:
    """Teach `addition` to predict the noise in the dataset's latents (or v, where the model does); yields each step's loss.

    The learning rate rises for WARMUP steps and then falls to 0 along a line; a plan takes its place. max_norm: of the gradients, at most.
    Same arguments, same device, same result.
    Raises BadRequest where captions do not call the embedding that is trained.
    """
    optimizer = torch.optim.AdamW(addition.parameters(), lr=learning_rate, weight_decay=0.0)
    texts = Texts(model, addition)
    rng = Random(seed)
    generator = torch.Generator().manual_seed(seed)
    alphas = model.alphas_cumprod.float()
    frozen = [weight for part in (model.unet, *model.text_encoders) for weight in part.parameters() if weight.requires_grad]
    for weight in frozen:
        weight.requires_grad_(False)
    try:
        with addition.attached():
            for step in range(steps):
                rate = rate_at(plan, step + 1) if plan else learning_rate * min(1.0, (step + 1) / WARMUP) * (1 - step / steps)
                for group in optimizer.param_groups:
                    group["lr"] = rate
                chosen = [rng.randrange(len(dataset.latents)) for _ in range(batch_size)]
                states = texts.of([rng.choice(dataset.captions[i]) for i in chosen])
                loss = _loss(model, dataset.latents[chosen].to(model.device), states, alphas, generator)
                if not loss.requires_grad:
                    raise BadRequest("captions do not call the new word, so that nothing can be learnt: put its name in every caption")
                optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(addition.parameters(), max_norm)
                optimizer.step()
                yield loss.item()
    finally:
        for weight in frozen:
            weight.requires_grad_(True)


def _loss(model: DiffusionModel, clean: Tensor, states: Tensor, alphas: Tensor, generator: torch.Generator) -> Tensor:
    """Mean squared error at one random timestep a row."""
    t = torch.randint(len(alphas), (len(clean),), generator=generator)
    noise = torch.randn(clean.shape, generator=generator).to(clean)
    alpha = alphas[t][:, None, None, None].to(clean)
    noisy = alpha.sqrt() * clean + (1 - alpha).sqrt() * noise
    v = alpha.sqrt() * noise - (1 - alpha).sqrt() * clean
    predicted = model.unet(noisy.to(model.dtype), t.to(model.device), states.to(model.dtype)).sample.float()
    return F.mse_loss(predicted, v if model.family.prediction_type == "v_prediction" else noise)


class Texts:
    """The captions' text states; those that do not change in training are worked out once."""

    def __init__(self, model: DiffusionModel, addition: Addition) -> None:
        self._model, self._addition = model, addition
        self._known: dict[str, Tensor] = {}

    def of(self, captions: list[str]) -> Tensor:
        """(captions, 77 * chunks, width)."""
        rows = [self._one(caption) for caption in captions]
        longest = max(map(len, rows))
        return torch.stack([torch.cat([row, *[self._one("")] * ((longest - len(row)) // 77)]) for row in rows])

    def _one(self, caption: str) -> Tensor:
        changing = self._addition.encode(caption)
        if changing is not None:
            return changing
        if caption not in self._known:
            with torch.no_grad():
                self._known[caption] = encode_prompt(self._model, caption, clip_skip=1).states
        return self._known[caption]
