"""Plans of learning rates: read as they are written, refused with a sentence where they make no sense."""

import pytest

from webui.core.errors import BadRequest
from webui.core.learning_rate import Plan, last_step, rate_at, read_plan


@pytest.mark.parametrize(
    ("text", "plan"),
    [
        ("0.005", ((0.005, -1),)),
        ("0.005:100, 1e-3:1000", ((0.005, 100), (0.001, 1000))),
        (" 5e-3 : 100 ,1e-5, ", ((0.005, 100), (1e-5, -1))),
        ("1:10, 0.5:-1", ((1.0, 10), (0.5, -1))),
    ],
)
def test_plans_are_read_as_they_are_written(text: str, plan: Plan) -> None:
    assert read_plan(text) == plan


@pytest.mark.parametrize(
    "text", ["", ",", "fast", "0.1:", "0.1:x", "0.1:2:3", "nan", "-1", "101", "1:10, 2:10", "1, 2", "1:0", "1:1," * 101]
)
def test_others_are_refused_with_a_sentence(text: str) -> None:
    with pytest.raises(BadRequest, match="learning rate"):
        read_plan(text)


def test_each_step_has_the_first_rate_that_reaches_it() -> None:
    plan = read_plan("3:2, 2:3, 1")
    assert [rate_at(plan, step) for step in range(1, 6)] == [3, 3, 2, 1, 1]
    assert last_step(plan) == float("inf")
    assert last_step(plan[:2]) == 3
