"""Which words matter: the picture in few steps, as it is and without each piece of its prompt, several at once and all from one noise."""

import json
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from webui.core.event import Control, Event, Finished, Pictures, Progress, Record
from webui.core.networks import extract_networks
from webui.core.prompt_pieces import Piece, pieces
from webui.core.prompt_schedule import parse_prompt
from webui.core.request import GenerationRequest
from webui.core.xray import WordRanking
from webui.engine.conditioning import Scheduled
from webui.engine.denoiser import Denoise
from webui.engine.guidance import Context, Network
from webui.engine.study import Asked, Study
from webui.engine.text_encoding import Conditioning
from webui.engine.xray.panels import LONGEST, webp

AT_ONCE = 8  # pictures of one batch
Make = Callable[[GenerationRequest, Control, Study], Iterator[Any]]
"""(request, control, study) -> events of the one path."""


class SideBySide(Study):
    """A batch whose pictures begin with the same noise, each with a prompt of its own; all have as many parts, of the same weights.

    A prompt of fewer chunks than the longest is made as long, as the field does where parts of a prompt differ in length; otherwise each
    picture is what it would be alone.
    """

    def __init__(self, prompts: Sequence[str]) -> None:
        self._prompts = prompts
        self._conds: list[tuple[Scheduled, ...]] = []  # of each picture
        self._call = 0
        self._asked = False  # the network, in this call: what comes second is the negative prompt by itself
        self._contexts: dict[tuple[int, ...], tuple[Context, Context]] = {}
        self.latents = torch.empty(0)  # of all pictures: the clean ones that were seen last

    def singles(self, request: GenerationRequest, numbers: range) -> list[GenerationRequest]:
        return [replace(request.single(0), prompt=self._prompts[number]) for number in numbers]

    def conds(self, asked: Asked, made: tuple[Scheduled, ...]) -> tuple[Scheduled, ...]:
        """The longest of them, so that guidance makes room for all."""
        texts = [extract_networks(prompt)[0] for prompt in self._prompts]
        self._conds = [asked.encoder.prompt(text, asked.calls, asked.first_pass) for text in texts]
        return max(self._conds, key=lambda conds: max(len(part.at(0).states) for part in conds))

    def denoise(self, denoise: Denoise) -> Denoise:
        def followed(x: Tensor, sigma: Tensor, call: int) -> Tensor:
            self._call, self._asked = call, False
            answer = denoise(x, sigma, call)
            self.latents = answer if answer.ndim == x.ndim else answer[0]
            return answer

        return followed

    def network(self, network: Network) -> Network:
        def each_its_own(x: Tensor, t: float, context: Context) -> Tensor:
            told, self._asked = context if self._asked else self._told(context), True
            return network(x, t, told)

        return each_its_own

    def _told(self, context: Context) -> Context:
        """`context` with each picture's own prompt in place of the first rows; the same object for the same prompts."""
        now = [conds[part].at(self._call) for part in range(len(self._conds[0])) for conds in self._conds]
        key = (id(context), *map(id, now))
        if key not in self._contexts:
            self._contexts[key] = (context, _with_rows(context, now))  # `context` is kept, so that its id stays its own
        return self._contexts[key][1]


def _with_rows(context: Context, now: Sequence[Conditioning]) -> Context:
    tokens = context.states.shape[1]
    rows = [_long_enough(each.states, tokens) for each in now]
    states = torch.cat([torch.stack(rows), context.states[len(rows) :]])
    if context.pooled is None:
        return replace(context, states=states)
    pooled = torch.stack([each.pooled for each in now if each.pooled is not None])
    return replace(context, states=states, pooled=torch.cat([pooled, context.pooled[len(rows) :]]))


def _long_enough(states: Tensor, tokens: int) -> Tensor:
    """The last state repeated, as where a prompt's parts differ in length."""
    return torch.cat([states, states[-1:].expand(tokens - len(states), -1)]) if len(states) < tokens else states[:tokens]


@dataclass(frozen=True)
class Made:
    """One short run. latents: (channels, h, w)."""

    image: Image.Image
    latents: Tensor


def rank(base: GenerationRequest, study: WordRanking, control: Control, make: Make) -> Iterator[Event]:
    """Records "words.json" after every batch, with what is known so far, and the pictures; Finished last.

    "seconds" in it: what a step of one picture took, so that the next ranking's cost can be told.
    """
    found = pieces(base.prompt, study.by)
    prompts = [base.prompt, *(piece.without for piece in found)]
    batches = _batches(prompts)
    made: dict[int, Made] = {}
    begun = time.perf_counter()
    for number, batch in enumerate(batches):
        seen, interrupted = yield from _short_runs(base, study.steps, [prompts[i] for i in batch], control, make, (number, len(batches)))
        made |= dict(zip(batch, seen, strict=False))
        yield from (Record(f"words-{i:03d}.webp", webp(_small(made[i].image))) for i in batch if i in made)
        seconds = (time.perf_counter() - begun) / max(len(made) * min(study.steps, base.steps), 1)
        yield Record("words.json", json.dumps(_told(found, made, study) | {"seconds": seconds}).encode())
        if interrupted:
            break
    yield Finished(interrupted=len(made) < len(prompts))


def _batches(prompts: Sequence[str]) -> list[list[int]]:
    """Places of prompts that can be made at once; the first prompt among the first."""
    alike: dict[tuple[float, ...], list[int]] = {}
    for i, prompt in enumerate(prompts):
        weights = tuple(part.weight for part in parse_prompt(extract_networks(prompt)[0], 1))
        alike.setdefault(weights, []).append(i)
    return [same[start : start + AT_ONCE] for same in alike.values() for start in range(0, len(same), AT_ONCE)]


def _short_runs(
    base: GenerationRequest, steps: int, prompts: Sequence[str], control: Control, make: Make, place: tuple[int, int]
) -> Generator[Event, None, tuple[list[Made], bool]]:
    """One batch; none of its pictures where it was stopped on the way. place: number of the batch, and of how many."""
    study = SideBySide(prompts)
    request = replace(base, prompt=prompts[0], steps=min(steps, base.steps), batch_size=len(prompts))
    images: list[Image.Image] = []
    interrupted = True
    with closing(make(request, control, study)) as events:  # type: ignore[type-var]
        for event in events:
            if isinstance(event, Pictures):
                images = [picture.image for picture in event.pictures]
            elif isinstance(event, Finished):
                interrupted = event.interrupted
            elif isinstance(event, Progress):
                yield replace(event, batch=place[0] + 1, batches=place[1])
            else:
                yield event
    latents = study.latents.float().cpu()
    return ([] if interrupted else [Made(*pair) for pair in zip(images, latents, strict=True)]), interrupted


def _told(found: Sequence[Piece], made: dict[int, Made], study: WordRanking) -> dict[str, Any]:
    """Rows by how much the picture's pixels change, the most first. Distances: |with - without| / |with|."""
    rows = [
        {
            "piece": piece.text,
            "prompt": piece.without,
            "pixels": relative_distance(made[0].image, made[i].image),
            "latents": _distance(made[0].latents, made[i].latents),
            "picture": f"words-{i:03d}.webp",
        }
        for i, piece in enumerate(found, 1)
        if 0 in made and i in made
    ]
    rows.sort(key=lambda row: -float(str(row["pixels"])))
    return {"by": study.by, "steps": study.steps, "pieces": len(found), "base": "words-000.webp", "rows": rows}


def relative_distance(one: Image.Image, other: Image.Image) -> float:
    """|one - other| / |one| over all values of both pictures, which are of one size."""
    pixels = [torch.from_numpy(np.array(image.convert("RGB"))).float() for image in (one, other)]
    return _distance(*pixels)


def _distance(whole: Tensor, without: Tensor) -> float:
    return float(torch.linalg.vector_norm(whole - without) / torch.linalg.vector_norm(whole).clamp(min=1e-8))


def _small(image: Image.Image) -> Image.Image:
    small = image.copy()
    small.thumbnail((LONGEST, LONGEST))
    return small
