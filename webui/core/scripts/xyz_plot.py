"""X/Y/Z plot: one request with up to three of its fields varied, as a sheet of columns (X), rows (Y) and planes (Z)."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

from webui.core.errors import BadRequest, EaselError
from webui.core.request import GenerationRequest
from webui.core.scripts.arguments import Argument
from webui.core.scripts.axes import NOTHING, Axis, find_axis, wire_labels
from webui.core.scripts.plan import MAX_STEPS, Draw, Label, Line, Plan, Sheet, Step
from webui.core.scripts.values import MAX_VALUES

TITLE = "X/Y/Z plot"
NAMES = ("X", "Y", "Z")


def arguments(tab: str) -> tuple[Argument, ...]:
    """Those of A1111's script, in its order."""
    labels = wire_labels(tab)
    axes = []
    for name, first in zip(NAMES, (labels[1], labels[0], labels[0]), strict=True):
        low = name.lower()
        axes += [
            Argument(name=f"{low}_type", label=f"{name} type", default=first, choices=labels),
            Argument(name=f"{low}_values", label=f"{name} values", default=""),
            Argument(name=f"{low}_values_dropdown", label=f"{name} values", default=[]),
        ]
    return (
        *axes,
        Argument(name="draw_legend", label="Draw legend", default=True),
        Argument(name="include_lone_images", label="Include Sub Images", default=False),
        Argument(name="include_sub_grids", label="Include Sub Grids", default=False),
        Argument(name="no_fixed_seeds", label="Keep -1 for seeds", default=False),
        Argument(name="vary_seeds_x", label="Vary seeds for X", default=False),
        Argument(name="vary_seeds_y", label="Vary seeds for Y", default=False),
        Argument(name="vary_seeds_z", label="Vary seeds for Z", default=False),
        Argument(name="margin_size", label="Grid margins (px)", default=0, minimum=0, maximum=500, step=2),
        Argument(name="csv_mode", label="Use text inputs instead of dropdowns", default=False),
    )


@dataclass(frozen=True)
class Chosen:
    """One axis with its values. typed: as they were given; varies: whether each of them gets seeds of its own."""

    name: str
    axis: Axis
    values: Sequence[Any]
    typed: str
    varies: bool

    @property
    def labels(self) -> tuple[Label, ...]:
        if self.axis is NOTHING:
            return ((),)
        return tuple((Line(self.axis.title(value)),) for value in self.values)

    def facts(self, fixed: bool) -> list[tuple[str, str]]:
        """For the sheet's infotext; fixed: seeds that were drawn are told."""
        if self.axis is NOTHING:
            return []
        told = [(f"{self.name} Type", self.axis.label), (f"{self.name} Values", self.typed)]
        if self.axis.draws and fixed:
            told.append((f"Fixed {self.name} Values", ", ".join(map(str, self.values))))
        return told


def plan(request: GenerationRequest, told: Mapping[str, Any], draw: Draw) -> Plan:
    """Every combination of the values. Raises BadRequest. draw: makes the seeds that stay open, unless they shall stay so."""
    open_seeds = bool(told["no_fixed_seeds"])
    if not open_seeds:
        request = with_seeds(request, draw)
    x, y, z = (_chosen(name, request, told, draw, open_seeds) for name in NAMES)
    count = len(x.values) * len(y.values) * len(z.values)
    if count > MAX_STEPS:
        size = f"{len(x.values)} x {len(y.values)} x {len(z.values)}"
        raise BadRequest(f"the plot would have {size} = {count} cells; at most {MAX_STEPS} are made: use fewer values")
    strides = (1, _reach(x), _reach(x) * _reach(y))  # of the seed along each axis
    steps = []
    for iz, iy, ix in product(range(len(z.values)), range(len(y.values)), range(len(x.values))):
        places = ((x, ix), (y, iy), (z, iz))
        name = ", ".join(axis.axis.title(axis.values[i]) for axis, i in places if axis.axis is not NOTHING)
        cell = _cell(request, places, name)
        more = sum(i * stride for (axis, i), stride in zip(places, strides, strict=True) if axis.varies)
        steps.append(Step(name, replace(cell, seed=cell.seed + more) if cell.seed >= 0 else cell))
    return Plan(tuple(steps), _sheet(x, y, z, told, not open_seeds))


def with_seeds(request: GenerationRequest, draw: Draw) -> GenerationRequest:
    """The request with no seed left open."""
    seed = draw() if request.seed == -1 else request.seed
    return replace(request, seed=seed, variation_seed=draw() if request.variation_seed == -1 else request.variation_seed)


def _chosen(name: str, request: GenerationRequest, told: Mapping[str, Any], draw: Draw, open_seeds: bool) -> Chosen:
    """An axis as the arguments say it. Of the two ways to give values the list counts where the axis has one, unless the text is wanted."""
    low = name.lower()
    axis = find_axis(told[f"{low}_type"], "img2img" if request.init else "txt2img")
    listed, typed = told[f"{low}_values_dropdown"], told[f"{low}_values"]
    if axis.choices is not None and listed and not told["csv_mode"]:
        typed = csv_line(listed)
    try:
        found = list(axis.read(typed))
    except BadRequest as error:
        raise BadRequest(f"{name} values ({axis.label}): {error}") from None
    if not found:
        raise BadRequest(f"{name} values ({axis.label}) are empty; type some, or choose Nothing for this axis")
    if len(found) > MAX_VALUES:
        raise BadRequest(f"{name} has {len(found)} values; at most {MAX_VALUES} are taken: use fewer")
    if axis.draws and not open_seeds:
        found = [draw() if value == -1 else value for value in found]
    return Chosen(name, axis, found, typed, bool(told[f"vary_seeds_{low}"]))


def csv_line(values: Sequence[str]) -> str:
    """Values as they are typed: those with a comma or a quotation mark in quotes."""
    quoted = ['"' + value.replace('"', '""') + '"' if any(char in value for char in ',"\n') else value for value in values]
    return ", ".join(quoted)


def _reach(axis: Chosen) -> int:
    """How many seeds an axis takes."""
    return len(axis.values) if axis.varies else 1


def _cell(request: GenerationRequest, places: Sequence[tuple[Chosen, int]], name: str) -> GenerationRequest:
    for axis, i in places:
        try:
            request = axis.axis.apply(request, axis.values[i], axis.values)
        except EaselError as error:
            raise BadRequest(f"{name}: {error}") from None
    return request


def _sheet(x: Chosen, y: Chosen, z: Chosen, told: Mapping[str, Any], fixed: bool) -> Sheet:
    return Sheet(
        columns=x.labels,
        rows=y.labels,
        planes=z.labels,
        cells=tuple(range(math.prod(len(axis.values) for axis in (x, y, z)))),
        legend=told["draw_legend"],
        margin=told["margin_size"],
        parts=told["include_sub_grids"] and len(z.values) > 1,
        lone=told["include_lone_images"],
        facts=(("Script", TITLE), *(fact for axis in (x, y, z) for fact in axis.facts(fixed))),
    )
