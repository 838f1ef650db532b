"""Learning rates that change on the way, as A1111's users write them: "0.005:100, 1e-5" is 0.005 for 100 steps, then 1e-5 to the end."""

import math

from webui.core.errors import BadRequest

Plan = tuple[tuple[float, int], ...]  # (rate, last step that has it) in the order of the steps, which begin at 1
TO_THE_END = -1  # in the place of the last step
MOST_RATES = 100


def read_plan(text: str) -> Plan:
    """The plan that `text` tells; of a number alone one rate to the end. Raises BadRequest."""
    told = [each.strip() for each in text.split(",") if each.strip()]
    if not 1 <= len(told) <= MOST_RATES:
        raise BadRequest(f"the learning rate has {len(told)} parts; write 1 to {MOST_RATES}, like 0.005:100, 1e-5")
    plan = tuple(_part(each) for each in told)
    check_plan(plan)
    return plan


def _part(text: str) -> tuple[float, int]:
    rate, colon, step = text.partition(":")
    try:
        return float(rate), int(step) if colon else TO_THE_END
    except ValueError:
        raise BadRequest(f"{text[:50]!r} in the learning rate is no number; write it like 0.005:100, 1e-5") from None


def check_plan(plan: Plan) -> None:
    """Raises BadRequest."""
    last = 0
    for rate, step in plan:
        if not 0 <= rate <= 100:  # NaN fails too
            raise BadRequest(f"learning rate {rate} is out of range: use 0 to 100")
        if last == TO_THE_END or (step <= last and step != TO_THE_END):
            raise BadRequest(f"learning rate {rate:g} comes too late: steps have to rise, like in 0.005:100, 1e-5")
        last = step


def last_step(plan: Plan) -> float:
    """The step after which a plan has no more rates; infinity where it goes on to the end."""
    return plan[-1][1] if plan[-1][1] != TO_THE_END else math.inf


def rate_at(plan: Plan, step: int) -> float:
    """The rate of a step, from 1."""
    return next(rate for rate, last in plan if last == TO_THE_END or step <= last)
