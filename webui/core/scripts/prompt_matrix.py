"""Prompt matrix: a prompt `always|perhaps|perhaps too`, drawn with every combination of its optional parts."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from webui.core.errors import BadRequest
from webui.core.request import GenerationRequest
from webui.core.scripts.arguments import Argument
from webui.core.scripts.plan import MAX_STEPS, Draw, Label, Line, Plan, Sheet, Step
from webui.core.scripts.xyz_plot import with_seeds

TITLE = "Prompt matrix"
DELIMITERS = {"comma": ", ", "space": " "}
CLOSING = {"[": "]", "{": "}"}


def arguments(tab: str) -> tuple[Argument, ...]:
    """Those of A1111's script, in its order."""
    return (
        Argument(name="put_at_start", label="Put variable parts at start of prompt", default=False),
        Argument(name="different_seeds", label="Use different seed for each picture", default=False),
        Argument(name="prompt_type", label="Select prompt", default="positive", choices=("positive", "negative")),
        Argument(name="variations_delimiter", label="Select joining char", default="comma", choices=tuple(DELIMITERS)),
        Argument(name="margin_size", label="Grid margins (px)", default=0, minimum=0, maximum=500, step=2),
    )


def plan(request: GenerationRequest, told: Mapping[str, Any], draw: Draw) -> Plan:
    """A picture for each set of optional parts; with n of them 2**n pictures. Raises BadRequest."""
    request = replace(with_seeds(request, draw), batch_size=1, batch_count=1)
    field = "prompt" if told["prompt_type"] == "positive" else "negative_prompt"
    always, *parts = (part.strip() for part in split_parts(getattr(request, field)))
    if 1 << min(len(parts), 60) > MAX_STEPS:
        raise BadRequest(f"{len(parts)} optional parts make 2^{len(parts)} pictures; at most {MAX_STEPS} are made: use fewer parts")
    steps = []
    for number in range(1 << len(parts)):
        taken = [part for i, part in enumerate(parts) if number >> i & 1]
        words = [*taken, always] if told["put_at_start"] else [always, *taken]
        text = DELIMITERS[told["variations_delimiter"]].join(word for word in words if word)
        seed = request.seed + number if told["different_seeds"] else request.seed
        changes: dict[str, Any] = {field: text, "seed": seed}
        steps.append(Step(" | ".join(taken) or always, replace(request, **changes)))
    across = len(parts) - len(parts) // 2  # the parts that vary from column to column; the others vary from row to row
    sheet = Sheet(
        columns=tuple(_labels(parts[:across])),
        rows=tuple(_labels(parts[across:])),
        cells=tuple(range(len(steps))),
        margin=told["margin_size"],
        facts=(("Script", TITLE),),
    )
    return Plan(tuple(steps), sheet)


def split_parts(prompt: str) -> list[str]:
    """The prompt at its `|`, those within [..] and {..} excepted, which mean something else there."""
    parts, start, open_brackets, at = [], 0, "", 0
    while at < len(prompt):
        char = prompt[at]
        if char == "\\":
            at += 1
        elif char in CLOSING and CLOSING[char] in prompt[at:]:
            open_brackets += CLOSING[char]
        elif open_brackets.endswith(char) and open_brackets:
            open_brackets = open_brackets[:-1]
        elif char == "|" and not open_brackets:
            parts.append(prompt[start:at])
            start = at + 1
        at += 1
    return [*parts, prompt[start:]]


def _labels(parts: list[str]) -> Iterator[Label]:
    """A label for each set of `parts`: all of them, the absent ones struck out."""
    for number in range(1 << len(parts)):
        yield tuple(Line(part, bool(number >> i & 1)) for i, part in enumerate(parts))
