"""Classifier-free guidance (arXiv:2207.12598): what the network answers with the prompt, pushed away from its answer without."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from webui.core.guidance_options import GuidanceOptions
from webui.engine.conditioning import Scheduled
from webui.engine.text_encoding import Conditioning

CONTEXTS = 4  # kept ready: as many as there are in [a|b] where prompt and negative prompt take a call each


@dataclass(frozen=True, eq=False)
class Context:
    """What the network is told about each of its latents, a row for each: states (batch, tokens, width), and for SDXL pooled (batch, width)
    and sizes (batch, 5 or 6)."""

    states: Tensor
    pooled: Tensor | None = None
    sizes: Tensor | None = None

    def of(self, rows: slice) -> "Context":
        """What is told about these latents; views, no copies."""
        return Context(*(None if told is None else told[rows] for told in (self.states, self.pooled, self.sizes)))

    def tells_the_same(self, other: "Context") -> bool:
        """Whether all numbers are equal, in whatever tensors they lie."""
        pairs = ((self.states, other.states), (self.pooled, other.pooled), (self.sizes, other.sizes))
        return all(ours is theirs or (ours is not None and theirs is not None and torch.equal(ours, theirs)) for ours, theirs in pairs)


Network = Callable[[Tensor, float, Context], Tensor]
"""(x, t, context) -> output. x: (batch, 4, h, w) of unit variance; t: timestep."""
Predict = Callable[[Tensor, float, int], Tensor]
"""(x, t, call) -> guided output."""


Rule = Callable[[int, float], bool]
"""(call, t) -> whether the negative prompt is left out."""


def never(call: int, t: float) -> bool:
    return False


def always(call: int, t: float) -> bool:
    return True


def left_out(options: GuidanceOptions, calls: int, low: float) -> Rule:
    """The field's two ways to save calls: early ones (of so many), and every other one, or all, below the timestep `low`."""
    if not options.skip_early and not options.ngms:
        return never

    def rule(call: int, t: float) -> bool:
        early = bool(options.skip_early) and call / calls <= options.skip_early
        return early or (t < low and (options.ngms_all_steps or call % 2 == 1))

    return rule


@dataclass(frozen=True)
class Guidance:
    """How an answer is put together.

    scale: CFG scale. rescale: 0 .. 1, how far the answer's spread is brought back to that of the prompt's (arXiv:2305.08891, 3.4).
    alone: when the negative prompt is left out; what the prompt's first part answers then stands in its place. alone_scale: the CFG scale
    of these calls. padding: the empty prompt, by which the shorter of both prompts is made longer. last_token: the negative prompt is, by
    its last token, or it is cut off. perturbed: how strongly answers are pushed away from those without sense for form (arXiv:2403.17377).
    """

    scale: float
    rescale: float = 0.0
    alone: Rule = never
    alone_scale: float = 1.0
    padding: Conditioning | None = None
    last_token: bool = False
    perturbed: float = 0.0


def guided(
    network: Network,
    conds: Sequence[Scheduled],
    uncond: Scheduled,
    guidance: Guidance,
    batch: int,
    unguided_too: bool = False,
    perturbed: Network | None = None,
) -> Predict:
    """uncond + scale * sum of weight * (cond - uncond), for `batch` latents at once; each prompt as it is at the call.

    The negative prompt runs at every scale, 1 too, as the field does. Prompts of as many tokens share one call; a negative prompt of
    another length takes a call of its own, since padding would change the picture. Parts of a prompt always share one. unguided_too: the
    answer is stacked with the one without the prompt, (2, batch, 4, h, w). perturbed: the network without sense for form, which is asked
    once more with the prompt; None: guidance does without.
    """

    @lru_cache(maxsize=CONTEXTS)
    def contexts(alone: bool, without: Conditioning, *chosen: Conditioning) -> list[Context]:
        """For the call of all of them, or one for the parts and one for the negative prompt; it comes last, if at all."""
        *parts, last = _fitted([*_of_one_length(chosen), without], guidance)
        if alone:
            return [_context(parts, batch)]
        if last.states.shape == parts[0].states.shape:
            return [_context([*parts, last], batch)]
        return [_context(parts, batch), _context([last], batch)]

    def predict(x: Tensor, t: float, call: int) -> Tensor:
        alone = guidance.alone(call, t)
        asked = contexts(alone, uncond.at(call), *(cond.at(call) for cond in conds))
        answers = [answer for context in asked for answer in _ask(network, x, t, context)]
        without = answers[0 if alone else -1]
        scale = guidance.alone_scale if alone else guidance.scale
        parts, weights, pushed = answers[: len(conds)], [cond.weight for cond in conds], None
        if perturbed is not None:
            (context,) = contexts(True, uncond.at(call), *(cond.at(call) for cond in conds))
            formless = _ask(perturbed, x, t, context)
            pushed = _sum([part - other for part, other in zip(parts, formless, strict=True)], weights) * guidance.perturbed
        result = _combined(parts, without, weights, scale, guidance.rescale, pushed)
        return torch.stack([result, without]) if unguided_too else result

    return predict


def asks_one_by_one(device: torch.device) -> bool:
    """Whether pictures of a batch are made by `one_by_one` there."""
    return device.type == "cpu"


def one_by_one(networks: Sequence[Network]) -> Network:
    """A network for batches: picture i, with all its prompts, goes through networks[i] (all may be the same).

    A CPU works out products of other sizes in another order, and a picture is not to depend on its batch by a single bit. x of the whole:
    (prompts * batch, channels, h, w), batch = len(networks), rows picture after picture for each prompt; of each network: (prompts, ...).
    """
    batch = len(networks)

    @lru_cache(maxsize=CONTEXTS)
    def told(context: Context) -> list[Context]:
        """For each picture; one object for all that are told the same, since text keys are remembered by it."""
        first, *rest = (context.of(slice(picture, None, batch)) for picture in range(batch))
        return [first, *(first if each.tells_the_same(first) else each for each in rest)]

    def network(x: Tensor, t: float, context: Context) -> Tensor:
        asked = zip(networks, told(context), strict=True)
        return torch.stack([one(x[picture::batch], t, its) for picture, (one, its) in enumerate(asked)], dim=1).flatten(0, 1)

    return network


def _ask(network: Network, x: Tensor, t: float, context: Context) -> Sequence[Tensor]:
    """The network's answer for each of the context's prompts."""
    prompts = len(context.states) // len(x)
    return network(torch.cat([x] * prompts) if prompts > 1 else x, t, context).chunk(prompts)


def _sum(parts: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    return torch.stack([part * weight for part, weight in zip(parts, weights, strict=True)]).sum(dim=0)


def _combined(
    parts: Sequence[Tensor], without: Tensor, weights: Sequence[float], scale: float, rescale: float, pushed: Tensor | None = None
) -> Tensor:
    """pushed: what else is added before the spread is brought back."""
    result = without if pushed is None else without + pushed
    for part, weight in zip(parts, weights, strict=True):
        result = torch.add(result, part - without, alpha=weight * scale)
    if not rescale:
        return result
    prompt = without
    for part, weight in zip(parts, weights, strict=True):
        prompt = torch.add(prompt, part - without, alpha=weight)
    spread = prompt.std(dim=(1, 2, 3), keepdim=True) / result.std(dim=(1, 2, 3), keepdim=True)
    return torch.lerp(result, result * spread, rescale)


def _of_one_length(parts: Sequence[Conditioning]) -> list[Conditioning]:
    """The parts of a prompt with as many tokens as the longest: the last state of the others is repeated, as the field does."""
    most = max(len(part.states) for part in parts)
    return [_lengthened(part, most) for part in parts]


def _lengthened(part: Conditioning, tokens: int) -> Conditioning:
    missing = tokens - len(part.states)
    return part.with_states(torch.cat([part.states, part.states[-1:].expand(missing, -1)])) if missing > 0 else part


def _fitted(prompts: Sequence[Conditioning], guidance: Guidance) -> list[Conditioning]:
    """The parts, of one length, and the negative prompt, made as long as each other where `guidance` wants it."""
    *parts, last = prompts
    length = len(parts[0].states)
    if guidance.last_token:
        last = _lengthened(last, length)
        return [*parts, last.with_states(last.states[:length]) if len(last.states) > length else last]
    if guidance.padding is None:
        return [*prompts]
    most, empty = max(length, len(last.states)), guidance.padding.states
    return [prompt.with_states(torch.cat([prompt.states, *[empty] * ((most - len(prompt.states)) // len(empty))])) for prompt in prompts]


def _context(conds: Sequence[Conditioning], batch: int) -> Context:
    """`batch` rows for the first prompt, then as many for the next."""

    def rows(parts: Sequence[Tensor | None]) -> Tensor | None:
        return None if parts[0] is None else torch.cat([part.expand(batch, *part.shape) for part in parts])

    return Context(rows([c.states for c in conds]), rows([c.pooled for c in conds]), rows([c.sizes for c in conds]))
