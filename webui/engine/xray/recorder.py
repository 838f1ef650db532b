"""The recorder: looks on while a picture is made, and tells of each step what went in, what came out and what was attended to.

It only reads what passes by, so that the picture is the same bit for bit. What it keeps is the step at work; all else has left as records.
"""

import io
import json
import math
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from webui.core.event import Record
from webui.core.request import GenerationRequest
from webui.core.xray import Recording
from webui.engine.conditioning import Scheduled
from webui.engine.denoiser import Denoise
from webui.engine.guidance import Context, Network, asks_one_by_one
from webui.engine.model import DiffusionModel
from webui.engine.patches.attention_maps import AttentionMaps, cross_attentions
from webui.engine.schedules import NoiseSchedule, Plan
from webui.engine.study import Asked, Study
from webui.engine.xray.panels import channels, panels, webp
from webui.engine.xray.tokens import Told, told_texts

BUDGET = 256_000_000  # bytes of latents and maps; steps beyond it have numbers alone
MEAN = "all layers"  # the mean over the layers, at the latents' size
LEVELS = 50  # points of the noise schedule that are told


@dataclass
class Call:
    """One call of the denoiser. x, denoised: (channels, h, w); parts, without: the network's answers, in its own terms; None where another
    network than the pass's own answered, or where the negative prompt was left out."""

    call: int
    sigma: float
    x: Tensor
    t: float
    denoised: Tensor | None = None
    parts: Tensor | None = None
    without: Tensor | None = None
    seconds: float = 0.0
    maps: dict[str, Tensor] = field(default_factory=dict)


@dataclass
class Pass:
    """One run of the sampler: hires fix and outpainting have several."""

    model: DiffusionModel
    schedule: NoiseSchedule
    plan: Plan
    texts: list[list[tuple[int, int]]]  # of each part: up to which call, number among the recorder's texts
    weights: list[float]


class Recorder(Study):
    """Of a job's first picture, whatever else is made beside it and after it. After each step ask for its records; at the end for those of
    the whole."""

    def __init__(self, recording: Recording, with_maps: bool = True) -> None:
        """with_maps False: attention is not recorded, whatever the recording asks for."""
        self._recording = recording
        self._maps = AttentionMaps(recording.layers) if recording.attention and with_maps else None
        self._texts: list[Told] = []
        self._asked: tuple[list[list[tuple[int, int]]], list[float]] = ([], [])  # texts and weights of the next pass
        self._passes: list[Pass] = []
        self._calls: list[Call] = []  # of the step at work
        self._call: Call | None = None  # that is being answered
        self._batch = 1  # pictures that are made at once
        self._looks = True  # the batch at work is the first one
        self._sum: Tensor | None = None  # of the MEAN maps of this pass's steps, where the prompt stays the same
        self._summed = 0  # steps
        self._bytes = 0
        self._steps = 0
        self.seconds = 0.0  # that recording took

    # where it stands

    def singles(self, request: GenerationRequest, numbers: range) -> list[GenerationRequest]:
        self._batch, self._looks = len(numbers), numbers.start == 0
        return super().singles(request, numbers)

    def conds(self, asked: Asked, made: tuple[Scheduled, ...]) -> tuple[Scheduled, ...]:
        if not self._looks:
            return made
        parts = []
        for until in told_texts(asked, made):
            parts.append([(call, len(self._texts) + i) for i, (call, _) in enumerate(until)])
            self._texts += [told for _, told in until]
        self._asked = (parts, [cond.weight for cond in made])
        return made

    @contextmanager
    def at_work(self, model: DiffusionModel, schedule: NoiseSchedule, plan: Plan) -> Iterator[None]:
        if not self._looks:
            yield
            return
        self._passes.append(Pass(model, schedule, plan, *self._asked))
        self._sum, self._summed = None, 0
        with ExitStack() as stack:
            if self._maps:
                stack.enter_context(self._maps.recording(model.unet))
            yield

    def denoise(self, denoise: Denoise) -> Denoise:
        def looked_at(x: Tensor, sigma: Tensor, call: int) -> Tensor:
            self._call = Call(call, float(sigma), x[0], self._passes[-1].schedule.t(sigma))
            answer = denoise(x, sigma, call)
            self._call.denoised = answer[0] if answer.ndim == x.ndim else answer[0, 0]
            self._calls.append(self._call)
            self._call = None
            return answer

        return looked_at if self._looks else denoise

    def network(self, network: Network) -> Network:
        def looked_at(x: Tensor, t: float, context: Context) -> Tensor:
            call = self._call
            assert call is not None
            first = call.parts is None
            # rows of the parts, of each picture after picture; those behind them are without the prompt
            rows = len(self._passes[-1].weights) * self._batch if first else 0
            recorded = self._maps.seconds if self._maps else 0.0
            if self._maps:
                every = 1 if asks_one_by_one(x.device) else self._batch  # row that the layers see
                self._maps.expect(self._groups(call.call, context.states.shape[1]) if first and not self._calls else None, every)
            begun = _now(x)
            answer = network(x, t, context)
            call.seconds += _now(x) - begun - (self._maps.seconds - recorded if self._maps else 0.0)
            call.t = t
            if first:
                call.parts = answer[: rows : self._batch]
                call.maps = self._maps.take() if self._maps else {}
            if len(x) > rows:
                call.without = answer[rows]
            return answer

        return looked_at if self._looks else network

    # what it tells

    @property
    def looks(self) -> bool:
        """Whether its picture is among those that are being made, or were made last."""
        return self._looks

    @property
    def passes(self) -> int:
        """How many runs of the sampler have told a step."""
        return len(self._passes) if self._steps else 0

    def step(self, number: int) -> list[Record]:
        """The records of step `number`, from 1, which is done."""
        if not self._calls:
            return []
        begun = time.perf_counter()
        call, calls, self._calls = self._calls[0], self._calls, []
        seen = _Seen.of(call, self._passes[-1])
        told = {"step": number, "pass": len(self._passes) - 1, "calls": len(calls), "seconds": sum(each.seconds for each in calls)}
        told |= seen.numbers() | {"texts": self._texts_at(call.call)}
        kept = (not self._recording.steps or number in self._recording.steps) and self._bytes < BUDGET
        records = self._pictures(number, call, seen, told) if kept else []
        self._bytes += sum(len(record.data) for record in records)
        self._steps = number
        self.seconds += time.perf_counter() - begun
        return [*records, _json(f"step-{number:03d}.json", {**told, "kept": kept})]

    def whole(self) -> list[Record]:
        """What holds for all steps so far: texts, layers, noise levels, what recording cost."""
        if not self._passes:
            return []
        last = self._passes[-1]
        layers = [name for name in cross_attentions(last.model.unet) if not self._recording.layers or name in self._recording.layers]
        told = {
            "texts": [text.to_json(last.model.tokenizer) for text in self._texts],
            "layers": [MEAN, *layers] if self._maps else [],
            "passes": [_told_pass(each) for each in self._passes],
            "recording": {"seconds": self.seconds + (self._maps.seconds if self._maps else 0.0), "bytes": self._bytes},
        }
        records = [_json("whole.json", told)]
        if self._sum is not None:
            records += _map_records("all", {MEAN: self._sum / self._summed}, {"texts": self._texts_at(None)})
        return records

    def _pictures(self, number: int, call: Call, seen: "_Seen", told: dict[str, Any]) -> list[Record]:
        name, family = f"{number:03d}", self._passes[-1].model.family
        tensors = {"noisy": seen.x, "noise": seen.noise, "denoised": seen.denoised}
        if seen.guidance is not None:
            tensors["guidance"] = seen.guidance
        records = [
            Record(f"panels-{name}.webp", webp(panels(seen.x, seen.noise, seen.denoised, seen.guidance, call.sigma, family))),
            Record(f"channels-{name}.webp", webp(channels(seen.x, seen.denoised), lossless=True)),
        ]
        maps = _shaped(call.maps, seen.x.shape[1:])
        if maps:
            maps = {MEAN: _mean(maps, seen.x.shape[1:]), **maps}
            if told["texts"] == self._texts_at(None):
                self._sum = maps[MEAN] if self._sum is None else self._sum + maps[MEAN]
                self._summed += 1
            records += _map_records(name, maps, {"texts": told["texts"]})
        arrays = {
            key: value.half().cpu().numpy() for key, value in [*tensors.items(), *((f"maps/{key}", map) for key, map in maps.items())]
        }
        return [*records, Record(f"arrays-{name}.npz", _npz(arrays))]

    def _groups(self, call: int, tokens: int) -> Tensor:
        """(parts, tokens, kept): what of each part's tokens each map is of; parts with fewer tokens have empty maps at the end."""
        groups = [self._texts[i].groups(tokens) for i in self._texts_at(call)]
        most = max(group.shape[1] for group in groups)
        return torch.stack([functional.pad(group, (0, most - group.shape[1])) for group in groups])

    def _texts_at(self, call: int | None) -> list[int]:
        """The number of each part's text at a call of the present pass; None: of all calls, where it does not change."""
        parts = self._passes[-1].texts if self._passes else []
        if call is None:
            return [until[0][1] for until in parts if len(until) == 1]
        return [next((number for last, number in until if call <= last), until[0][1]) for until in parts]


@dataclass(frozen=True)
class _Seen:
    """A step's latents in one scale, x = denoised + sigma * noise, all (channels, h, w) float32. guidance: by how much the prompt's noise
    differs from that without it; cosine: of the angle between these two; both None where there was no answer without the prompt."""

    sigma: float
    t: float
    x: Tensor
    noise: Tensor
    denoised: Tensor
    guidance: Tensor | None
    cosine: float | None

    @classmethod
    def of(cls, call: Call, run: Pass) -> "_Seen":
        assert call.denoised is not None
        x, denoised = call.x.float(), call.denoised.float()
        noise = (x - denoised) / max(call.sigma, 1e-8)
        guidance = cosine = None
        if call.parts is not None and call.without is not None:
            v = run.model.family.prediction_type == "v_prediction"
            difference = sum(weight * (part - call.without) for weight, part in zip(run.weights, call.parts, strict=True))
            without, with_prompt = (_noise(answer, x, call.sigma, v) for answer in (call.without, call.without + difference))
            guidance = with_prompt - without
            cosine = float(functional.cosine_similarity(with_prompt.flatten(), without.flatten(), dim=0))
        return cls(call.sigma, call.t, x, noise, denoised, guidance, cosine)

    def numbers(self) -> dict[str, Any]:
        """The step's numbers; norms are the lengths of the latents as vectors; channels: [mean, standard deviation, least, most] each."""
        given = {"noisy": self.x, "noise": self.noise, "denoised": self.denoised, "guidance": self.guidance}
        return {
            "sigma": self.sigma,
            "t": self.t,
            "size": list(self.x.shape[1:]),
            "norms": {name: None if value is None else _number(torch.linalg.vector_norm(value)) for name, value in given.items()},
            "cosine": self.cosine,
            "channels": {
                name: [_statistics(channel) for channel in value] for name, value in (("noisy", self.x), ("denoised", self.denoised))
            },
        }


def _noise(answer: Tensor, x: Tensor, sigma: float, v: bool) -> Tensor:
    """A network's answer as noise. Of v the clean picture is x / (1 + sigma^2) - v * sigma / sqrt(1 + sigma^2) (arXiv:2202.00512, D)."""
    return answer / math.hypot(1, sigma) + x * (sigma / (1 + sigma**2)) if v else answer


def _statistics(channel: Tensor) -> list[float | None]:
    return [_number(value) for value in (channel.mean(), channel.std(), channel.min(), channel.max())]


def _number(value: Tensor) -> float | None:
    """JSON knows no infinity."""
    return float(value) if bool(value.isfinite()) else None


def _now(x: Tensor) -> float:
    if x.device.type == "cuda":
        torch.cuda.synchronize(x.device)
    return time.perf_counter()


def _shaped(maps: dict[str, Tensor], size: Sequence[int]) -> dict[str, Tensor]:
    """Layer -> (kept of all parts, h, w), where the number of pixels is that of a layer of these latents."""
    shaped = {}
    for name, weights in maps.items():
        height, width = size
        while height * width > weights.shape[2]:
            height, width = (height + 1) // 2, (width + 1) // 2
        if height * width == weights.shape[2]:
            shaped[name] = weights.reshape(-1, height, width)
    return shaped


def _mean(maps: dict[str, Tensor], size: Sequence[int]) -> Tensor:
    """The mean over the layers at the latents' size."""
    grown = [functional.interpolate(each[None].float(), size=tuple(size), mode="bilinear")[0] for each in maps.values()]
    return torch.stack(grown).mean(dim=0)


def _map_records(name: str, maps: dict[str, Tensor], told: dict[str, Any]) -> list[Record]:
    """The maps as bytes, each 0 .. 255 of its own peak, layer after layer; and in JSON what lies where."""
    layers, parts, start = [], [], 0
    for layer, weights in maps.items():
        values = weights.float()
        peaks = values.amax(dim=(1, 2))
        parts.append((values / peaks.clamp(min=1e-12)[:, None, None] * 255).round().to(torch.uint8).numpy().tobytes())
        layers.append({"layer": layer, "start": start, "shape": list(values.shape), "peaks": peaks.tolist()})
        start += len(parts[-1])
    return [Record(f"maps-{name}.bin", b"".join(parts)), _json(f"maps-{name}.json", {**told, "layers": layers})]


def _told_pass(run: Pass) -> dict[str, Any]:
    """Noise levels of the run, and of the model's whole schedule, as [training timestep, sigma]."""
    sigmas = [sigma for sigma in run.plan.sigmas.tolist() if sigma > 0]
    ts = torch.linspace(0, 999, LEVELS)
    return {
        "sigmas": run.plan.sigmas.tolist(),
        "timesteps": [run.schedule.t(torch.tensor(sigma)) for sigma in sigmas],
        "schedule": [[float(t), float(sigma)] for t, sigma in zip(ts, run.schedule.sigma(ts), strict=True)],
        "weights": run.weights,
        "prediction": run.model.family.prediction_type,
    }


def _json(name: str, told: Any) -> Record:
    return Record(name, json.dumps(told, allow_nan=False).encode())


def _npz(arrays: dict[str, Any]) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()
