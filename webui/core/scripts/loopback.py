"""Loopback: pictures made of one another, each the init image of the next."""

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from webui.core.errors import BadRequest
from webui.core.request import GenerationRequest, InitImage
from webui.core.scripts.arguments import Argument
from webui.core.scripts.plan import MAX_STEPS, PREVIOUS, Draw, Plan, Sheet, Step
from webui.core.scripts.xyz_plot import with_seeds

TITLE = "Loopback"
CURVES: Mapping[str, Callable[[float], float]] = {  # part of the way, 0 .. 1 -> part of the change of strength
    "Aggressive": lambda part: math.sin(part * math.pi / 2),
    "Linear": lambda part: part,
    "Lazy": lambda part: 1 - math.cos(part * math.pi / 2),
}


def arguments(tab: str) -> tuple[Argument, ...]:
    """Those of A1111's script, in its order."""
    return (
        Argument(name="loops", label="Loops", default=4, minimum=1, maximum=32, step=1),
        Argument(name="final_denoising_strength", label="Final denoising strength", default=0.5, minimum=0, maximum=1, step=0.01),
        Argument(name="denoising_curve", label="Denoising strength curve", default="Linear", choices=tuple(CURVES)),
        Argument(name="append_interrogation", label="Append interrogated prompt at each iteration", default="None", choices=("None",)),
    )


def plan(request: GenerationRequest, told: Mapping[str, Any], draw: Draw) -> Plan:
    """`loops` pictures for each batch, which begins with the init image again; seeds count on. Raises BadRequest."""
    if request.init is None:
        raise BadRequest("loopback begins with a picture: use it in img2img")
    loops, batches = told["loops"], request.batch_count
    if loops * batches > MAX_STEPS:
        raise BadRequest(f"{loops} loops for each of {batches} batches are {loops * batches} pictures; at most {MAX_STEPS} are made")
    request = replace(with_seeds(request, draw), batch_size=1, batch_count=1)
    steps = []
    for number in range(loops * batches):
        batch, loop = divmod(number, loops)
        init = _init(request.init, loop, strength(request.init.denoising_strength, told, loop)) if request.init else None
        name = f"loop {loop + 1} of {loops}" + (f", batch {batch + 1}" if batches > 1 else "")
        steps.append(Step(name, replace(request, seed=request.seed + number, init=init)))
    shown = range(len(steps)) if batches == 1 else range(loops - 1, len(steps), loops)  # of several batches what came of each
    sheet = Sheet(columns=((),) * len(shown), cells=tuple(shown), legend=False, facts=(("Script", TITLE),)) if len(shown) > 1 else None
    return Plan(tuple(steps), sheet)


def strength(first: float, told: Mapping[str, Any], loop: int) -> float:
    """The denoising strength of a loop (0, 1, ..): from `first` to the final one along the curve."""
    if told["loops"] == 1:
        return first
    part = CURVES[told["denoising_curve"]](loop / (told["loops"] - 1))
    final: float = told["final_denoising_strength"]
    return round(first + (final - first) * part, 6)


def _init(init: InitImage, loop: int, strength: float) -> InitImage:
    """The picture before; what is masked begins with what was made there, whatever it began with at first."""
    if loop == 0:
        return replace(init, denoising_strength=strength)
    inpaint = replace(init.inpaint, content="original") if init.inpaint else None
    return replace(init, denoising_strength=strength, image=PREVIOUS, inpaint=inpaint)
