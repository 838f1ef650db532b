"""Prompts from file or textbox: a request for each line, which is a prompt or `--prompt "..." --steps 30`."""

import shlex
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from webui.core.choices import SAMPLERS
from webui.core.errors import BadRequest
from webui.core.key_values import short
from webui.core.request import GenerationRequest
from webui.core.scripts.arguments import Argument
from webui.core.scripts.plan import MAX_STEPS, Draw, Plan, Step
from webui.core.scripts.xyz_plot import with_seeds

TITLE = "Prompts from file or textbox"


def arguments(tab: str) -> tuple[Argument, ...]:
    """Those of A1111's script, in its order."""
    return (
        Argument(name="checkbox_iterate", label="Iterate seed every line", default=False),
        Argument(name="checkbox_iterate_batch", label="Use same random seed for all lines", default=False),
        Argument(name="prompt_position", label="Insert prompts at the", default="start", choices=("start", "end")),
        Argument(name="prompt_txt", label="List of prompt inputs", default="", lines=4),
    )


def plan(request: GenerationRequest, told: Mapping[str, Any], draw: Draw) -> Plan:
    """A request for each line that is not empty. Raises BadRequest, naming the line."""
    lines = [
        (number, line.strip()) for number, line in enumerate(told["prompt_txt"].removeprefix("\ufeff").splitlines(), 1) if line.strip()
    ]
    if not 1 <= len(lines) <= MAX_STEPS:
        raise BadRequest(f"there are {len(lines)} lines with prompts; write 1 to {MAX_STEPS}")
    if told["checkbox_iterate"] or told["checkbox_iterate_batch"]:
        request = with_seeds(request, draw)
    steps = []
    for number, line in lines:
        try:
            made = _of_line(request, line, told["prompt_position"])
        except BadRequest as error:
            raise BadRequest(f"line {number}: {error}") from None
        steps.append(Step(f"line {number}", made))
        if told["checkbox_iterate"]:
            request = replace(request, seed=request.seed + request.batch_size * request.batch_count)
    return Plan(tuple(steps))


def _of_line(request: GenerationRequest, line: str, position: str) -> GenerationRequest:
    """`request` with what the line says; its prompts are put before or behind the request's."""
    said = parse_line(line)
    for field in ("prompt", "negative_prompt"):
        if field in said:
            texts = (said[field], getattr(request, field))
            said[field] = " ".join(filter(None, texts if position == "start" else reversed(texts)))
    return replace(request, **said)


def parse_line(line: str) -> dict[str, Any]:
    """The request fields that a line sets: a prompt, or options. Raises BadRequest."""
    if "--" not in line:
        return {"prompt": line}
    try:
        words = shlex.split(line)
    except ValueError as error:
        raise BadRequest(f'its quotation marks do not match ({error}); close them, or write \\" for one that is part of a text') from None
    said: dict[str, Any] = {}
    while words:
        option = words.pop(0)
        name = option.removeprefix("--")
        if not option.startswith("--") or name not in OPTIONS:
            raise BadRequest(f"{short(option)!r} is no option; use one of: {', '.join(f'--{each}' for each in OPTIONS)}")
        if not words:
            raise BadRequest(f"--{name} has no value; write one behind it")
        value = words.pop(0)
        while name in ("prompt", "negative_prompt") and words and not words[0].startswith("--"):
            value += f" {words.pop(0)}"
        said |= OPTIONS[name](name, value)
    return said


Option = Callable[[str, str], dict[str, Any]]  # name, value -> request fields


def _text(field: str) -> Option:
    return lambda name, value: {field: value}


def _number(field: str, kind: type[int] | type[float], least: float = float("-inf")) -> Option:
    def read(name: str, value: str) -> dict[str, Any]:
        try:
            return {field: max(kind(value), kind(least) if least > float("-inf") else kind(value))}
        except (ValueError, OverflowError):
            raise BadRequest(f"--{name} {short(value)!r} is not a {'whole ' if kind is int else ''}number") from None

    return read


def _sampler_index(name: str, value: str) -> dict[str, Any]:
    if not value.isdecimal() or len(value) > 4 or int(value) >= len(SAMPLERS):
        raise BadRequest(f"--{name} {short(value)!r} is not known; use 0 to {len(SAMPLERS) - 1}, or --sampler_name")
    return {"sampler": list(SAMPLERS)[int(value)]}


def _truth(name: str, value: str) -> bool:
    if value.casefold() not in ("true", "false"):
        raise BadRequest(f"--{name} {short(value)!r} is neither true nor false")
    return value.casefold() == "true"


def _switch(name: str, value: str) -> dict[str, Any]:
    """A switch for what Easel has not: it may be off."""
    if _truth(name, value):
        raise BadRequest(f"--{name} is not supported by this version of Easel; leave it out")
    return {}


def _tiling(name: str, value: str) -> dict[str, Any]:
    return {"tiling": "Both" if _truth(name, value) else "Off"}


def _styles(name: str, value: str) -> dict[str, Any]:
    """Names with commas between them, in the place of those that are chosen beside the script."""
    return {"styles": tuple(filter(None, (style.strip() for style in value.split(","))))}


def _idle(name: str, value: str) -> dict[str, Any]:
    """Changes no picture: where files go is the server's affair."""
    return {}


OPTIONS: dict[str, Option] = {
    "sd_model": lambda name, value: {"checkpoint": value, "checkpoint_hash": ""},
    "outpath_samples": _idle,
    "outpath_grids": _idle,
    "prompt_for_display": _idle,
    "prompt": _text("prompt"),
    "negative_prompt": _text("negative_prompt"),
    "styles": _styles,
    "seed": _number("seed", int),
    "subseed_strength": _number("variation_strength", float),
    "subseed": _number("variation_seed", int),
    "seed_resize_from_h": _number("seed_resize_height", int, 0),
    "seed_resize_from_w": _number("seed_resize_width", int, 0),
    "sampler_index": _sampler_index,
    "sampler_name": _text("sampler"),
    "batch_size": _number("batch_size", int),
    "n_iter": _number("batch_count", int),
    "steps": _number("steps", int),
    "cfg_scale": _number("cfg_scale", float),
    "width": _number("width", int),
    "height": _number("height", int),
    "restore_faces": _switch,
    "tiling": _tiling,
    "do_not_save_samples": _idle,
    "do_not_save_grid": _idle,
}
