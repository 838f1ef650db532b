"""The prompts of a job as what the UNet attends to at each of its calls; encoded once, and kept for the jobs after it."""

import weakref
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import nn

from webui.core.chunks import COMMA_BACKTRACK
from webui.core.prompt_schedule import Until, parse_prompt, parse_schedule
from webui.engine.embeddings import Embedding
from webui.engine.model import DiffusionModel
from webui.engine.text_encoding import Conditioning, Draw, encode_variants, never, read_variants, with_sizes

MAX_BYTES = 64_000_000  # of kept conditionings; a prompt of 75 tokens has 0.2 MB for SD 1.5, 0.6 MB for SDXL in fp32


@dataclass(frozen=True)
class Scheduled:
    """One part of a prompt. until: (last call, what it is used for up to there), by rising call; weight: that after AND."""

    until: tuple[tuple[int, Conditioning], ...]
    weight: float = 1.0

    def at(self, call: int) -> Conditioning:
        """What is used at network call `call`, from 0. Beyond the last it is the first again, as the field has it."""
        return next((conditioning for last, conditioning in self.until if call <= last), self.until[0][1])

    def with_sizes(self, model: DiffusionModel, size: tuple[int, int], score: float) -> "Scheduled":
        """See `text_encoding.with_sizes`."""
        sized = {conditioning: with_sizes(conditioning, model, size, score) for _, conditioning in self.until}
        return replace(self, until=tuple((last, sized[conditioning]) for last, conditioning in self.until))

    @property
    def embeddings(self) -> tuple[Embedding, ...]:
        return tuple(embedding for _, conditioning in self.until for embedding in conditioning.embeddings)


class ConditioningCache:
    """The conditionings that were used last, up to MAX_BYTES, for models that are still in memory."""

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        self._max_bytes = max_bytes
        self._kept: OrderedDict[tuple[weakref.ref[nn.Module], Hashable], tuple[list[Conditioning], int]] = OrderedDict()

    def get(self, model: DiffusionModel, key: Hashable, encode: Callable[[], list[Conditioning]]) -> list[Conditioning]:
        """What `encode` gave, or would give, for the model's text encoder and `key`, which says all else that it depends on."""
        whole = (weakref.ref(model.text_encoders[0]), key)
        if whole not in self._kept:
            made = encode()
            self._kept[whole] = made, sum(map(_bytes, made))
            self._make_room()
            return made
        self._kept.move_to_end(whole)
        return self._kept[whole][0]

    def _make_room(self) -> None:
        """Let go of those whose model has gone, then of those that were not asked for the longest."""
        for whole in [whole for whole in self._kept if whole[0]() is None]:
            del self._kept[whole]
        while sum(size for _, size in self._kept.values()) > self._max_bytes:
            self._kept.popitem(last=False)


def _bytes(conditioning: Conditioning) -> int:
    tensors = (conditioning.states, conditioning.pooled)
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors if tensor is not None)


@dataclass(frozen=True)
class Encoder:
    """How a job's prompts are encoded. draw: of the prompt's states. patches: what changes the text encoder for this job; equal ones
    change it equally. stopped: whether the job was told to stop: nothing more is encoded then, and Stopped is raised. unfit: sentences on
    the embeddings that were called so far and cannot be used. For the rest see `text_encoding`."""

    model: DiffusionModel
    clip_skip: int = 1
    emphasis: str = "Original"
    old_timelines: bool = False
    embeddings: Mapping[str, Embedding] = field(default_factory=dict)
    draw: Draw | None = None
    patches: Hashable = ()
    cache: ConditioningCache = field(default_factory=ConditioningCache)
    backtrack: int = COMMA_BACKTRACK
    stopped: Callable[[], bool] = never
    unfit: set[str] = field(default_factory=set, init=False)

    def prompt(self, text: str, calls: int, first_pass: int | None = None) -> tuple[Scheduled, ...]:
        """The parts of a prompt. calls, first_pass: see `parse_prompt`. Raises BadRequest where it cannot be used."""
        return tuple(self._encoded(part.schedule, weight=part.weight) for part in parse_prompt(text, calls, first_pass, self.old_timelines))

    def negative_prompt(self, text: str, calls: int, first_pass: int | None = None) -> Scheduled:
        return self._encoded(parse_schedule(text, calls, first_pass, self.old_timelines), negative=True)

    def empty(self) -> Conditioning:
        """The prompt without words."""
        return self._encoded([Until(0, "")]).at(0)

    @torch.inference_mode()  # what is kept must hold no graphs
    def _encoded(self, schedule: Sequence[Until], weight: float = 1.0, negative: bool = False) -> Scheduled:
        texts = [text for _, text in schedule]
        variants, order = read_variants(self.model, texts, self.embeddings, self.emphasis, negative, self.backtrack)
        self.unfit.update(variants.unfit)
        draw = None if negative else self.draw
        if draw:
            made = encode_variants(self.model, variants, self.clip_skip, draw, self.stopped)
        else:
            key = (variants, self.clip_skip, self.patches, str(self.model.device))
            made = self.cache.get(self.model, key, lambda: encode_variants(self.model, variants, self.clip_skip, stopped=self.stopped))
        return Scheduled(tuple((until.call, made[place]) for until, place in zip(schedule, order, strict=True)), weight)
