from dataclasses import replace
from typing import Any

import pytest

from webui.core.errors import BadRequest
from webui.core.request import GenerationRequest
from webui.core.scripts.plan import Line, Plan
from webui.core.scripts.prompt_matrix import split_parts
from webui.core.scripts.table import find_script

BASE = GenerationRequest(prompt="a cat | red|in snow |at night", seed=10, variation_seed=1, batch_count=3, batch_size=2)


def matrix(base: GenerationRequest = BASE, **arguments: Any) -> Plan:
    return find_script("Prompt matrix").plan(base, arguments, lambda: 77)


def prompts(plan: Plan) -> list[str]:
    return [step.request.prompt for step in plan.steps]


def test_every_combination_is_made_the_first_part_varying_fastest() -> None:
    assert prompts(matrix())[:4] == ["a cat", "a cat, red", "a cat, in snow", "a cat, red, in snow"]
    assert len(set(prompts(matrix()))) == 8
    assert {(step.request.batch_count, step.request.batch_size, step.request.seed) for step in matrix().steps} == {(1, 1, 10)}


def test_parts_may_stand_at_the_start_or_be_joined_by_blanks() -> None:
    assert prompts(matrix(put_at_start=True))[3] == "red, in snow, a cat"
    assert prompts(matrix(variations_delimiter="space"))[3] == "a cat red in snow"


def test_pictures_may_have_seeds_of_their_own() -> None:
    assert [step.request.seed for step in matrix(different_seeds=True).steps] == list(range(10, 18))
    assert {step.request.seed for step in matrix(replace(BASE, seed=-1)).steps} == {77}


def test_the_negative_prompt_can_be_the_matrix() -> None:
    made = matrix(replace(BASE, negative_prompt="blur|text"), prompt_type="negative")
    assert [step.request.negative_prompt for step in made.steps] == ["blur", "blur, text"]
    assert set(prompts(made)) == {BASE.prompt}


def test_absent_parts_are_struck_out_of_the_labels() -> None:
    sheet = matrix().sheet
    assert sheet is not None
    assert sheet.columns[1] == (Line("red", True), Line("in snow", False))
    assert sheet.rows == ((Line("at night", False),), (Line("at night", True),))


@pytest.mark.parametrize(
    ("prompt", "parts"),
    [
        ("a|b", ["a", "b"]),
        ("[a|b] c|{x|y}|z", ["[a|b] c", "{x|y}", "z"]),
        (r"a\|b|c", [r"a\|b", "c"]),
        ("(a|b", ["(a", "b"]),
        ("[a|b", ["[a", "b"]),
        ("a]|b", ["a]", "b"]),
        ("", [""]),
    ],
)
def test_brackets_that_use_the_bar_themselves_keep_it(prompt: str, parts: list[str]) -> None:
    assert split_parts(prompt) == parts


def test_too_many_parts_are_refused() -> None:
    with pytest.raises(BadRequest, match="fewer parts"):
        matrix(replace(BASE, prompt="a" + "|b" * 60))
