"""Pictures on the way between two prompts, two seeds, or both."""

import json
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace

import torch
from PIL import Image
from torch import Tensor

from webui.core.errors import BadRequest
from webui.core.event import Control, Event, Finished, Pictures, Progress, Record
from webui.core.networks import extract_networks
from webui.core.request import GenerationRequest
from webui.core.xray import Interpolation
from webui.engine.conditioning import Encoder, Scheduled
from webui.engine.study import Asked, Study
from webui.engine.text_encoding import Conditioning
from webui.engine.xray.panels import png
from webui.engine.xray.words import Make, relative_distance


@dataclass(frozen=True)
class Blend(Study):
    """The conditioning a `fraction` of the way to that of another prompt, at every call what both have there."""

    prompt: str
    fraction: float  # 0 .. 1
    way: str

    def conds(self, asked: Asked, made: tuple[Scheduled, ...]) -> tuple[Scheduled, ...]:
        other = asked.encoder.prompt(extract_networks(self.prompt)[0], asked.calls, asked.first_pass)
        if len(other) != len(made):
            raise BadRequest(f"one prompt has {len(made)} parts joined by AND, the other {len(other)}: write as many into both")
        if self.fraction in (0.0, 1.0):
            return other if self.fraction else made
        return tuple(self._between(asked.encoder, *pair) for pair in zip(made, other, strict=True))

    def _between(self, encoder: Encoder, one: Scheduled, other: Scheduled) -> Scheduled:
        ends = sorted({last for scheduled in (one, other) for last, _ in scheduled.until})
        until = tuple((last, self._mixed(encoder, one.at(last), other.at(last))) for last in ends)
        return Scheduled(until, one.weight + (other.weight - one.weight) * self.fraction)

    def _mixed(self, encoder: Encoder, one: Conditioning, other: Conditioning) -> Conditioning:
        tokens, empty = max(len(one.states), len(other.states)), encoder.empty().states
        ends = [torch.cat([each.states, *[empty] * ((tokens - len(each.states)) // len(empty))]) for each in (one, other)]
        mixed = along_the_arc if self.way == "slerp" else torch.lerp
        pooled = None if one.pooled is None or other.pooled is None else mixed(one.pooled, other.pooled, self.fraction)
        return replace(one, states=mixed(ends[0], ends[1], self.fraction), pooled=pooled, embeddings=one.embeddings + other.embeddings)


def along_the_arc(one: Tensor, other: Tensor, fraction: float) -> Tensor:
    """From `one` (fraction 0) to `other` (1), each vector (last dimension) on the arc between both (Shoemake 1985); straight where they
    are all but parallel."""
    cosine = torch.nn.functional.cosine_similarity(one.float(), other.float(), dim=-1).clamp(-1, 1)[..., None]
    angle = torch.acos(cosine)
    sine = torch.sin(angle)
    arc = (torch.sin((1 - fraction) * angle) * one + torch.sin(fraction * angle) * other) / sine.clamp(min=1e-6)
    return torch.where(sine > 1e-3, arc, torch.lerp(one.float(), other.float(), fraction)).to(one.dtype)


def interpolate(base: GenerationRequest, study: Interpolation, control: Control, make: Make) -> Iterator[Event]:
    """Records each picture as a PNG, and "frames.json" after it; Finished last."""
    frames: list[dict[str, float | str | None]] = []
    last: Image.Image | None = None
    interrupted = False
    for number in range(study.pictures):
        fraction = number / (study.pictures - 1)
        blend = Blend(study.prompt, fraction, study.way) if study.prompt else Study()
        with closing(make(frame_request(base, study, fraction), control, blend)) as events:  # type: ignore[type-var]
            for event in events:
                if isinstance(event, Pictures):
                    image = event.pictures[0].image
                    name = f"frame-{number:03d}.png"
                    frames.append({"fraction": fraction, "picture": name, "change": relative_distance(last, image) if last else None})
                    last = image
                    yield Record(name, png(image))
                    yield Record("frames.json", json.dumps({"pictures": study.pictures, "frames": frames}).encode())
                elif isinstance(event, Finished):
                    interrupted = event.interrupted
                elif isinstance(event, Progress):
                    yield replace(event, batch=number + 1, batches=study.pictures)
                else:
                    yield event
        if interrupted:
            break
    yield Finished(interrupted=interrupted)


def frame_request(base: GenerationRequest, study: Interpolation, fraction: float) -> GenerationRequest:
    """The request of one picture on the way, as far as seeds go: in between it is a variation, whose noise lies on the arc."""
    if study.seed == -1 or fraction == 0:
        return base
    if fraction == 1:
        return replace(base, seed=study.seed)
    return replace(base, variation_seed=study.seed, variation_strength=fraction)
