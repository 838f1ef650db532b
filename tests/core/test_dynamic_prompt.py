"""What a prompt leaves to chance: decided by a seed, once and for all, in linear time."""

from collections import Counter
from contextlib import suppress
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.clock import at_most
from webui.core.dynamic_prompt import leaves_to_chance, resolve
from webui.core.errors import BadRequest

FILES = {"animal": ["cat", "dog"], "deep": ["{big|small} __animal__"], "loop": ["__loop__"], "many": ["__many____many__"]}


def lines(name):
    if name not in FILES:
        raise BadRequest(f"no {name}")
    return FILES[name]


def outcomes(prompt, count=400):
    return Counter(resolve(prompt, Random(seed), lines) for seed in range(count))


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("{a|b}", {"a", "b"}),
        ("x {a|}y", {"x ay", "x y"}),
        ("{a|{b|c}}", {"a", "b", "c"}),
        ("{2$$a|b}", {"a, b", "b, a"}),
        ("{2$$a|b|c}", {"a, b", "b, a", "a, c", "c, a", "b, c", "c, b"}),
        ("{1-2$$a|b}", {"a", "b", "a, b", "b, a"}),
        ("{-1$$a|b}", {"", "a", "b"}),
        ("{1-$$a|b}", {"a", "b", "a, b", "b, a"}),
        ("{2$$ and $$a|b}", {"a and b", "b and a"}),
        ("{2$$$$a|b}", {"ab", "ba"}),
        ("{9$$a}", {"a"}),
        ("{0$$a|b}x", {"x"}),
        ("__animal__s", {"cats", "dogs"}),
        ("__deep__", {"big cat", "big dog", "small cat", "small dog"}),
        ("{__animal__|bird}", {"cat", "dog", "bird"}),
        ("{[a|b]|c}", {"[a|b]", "c"}),
        ("{[a|b}", {"[a", "b"}),
        ("{a (b:1.2)|<lora:c:1>}", {"a (b:1.2)", "<lora:c:1>"}),
    ],
)
def test_everything_that_may_come_comes(prompt, expected):
    assert set(outcomes(prompt)) == expected


def test_options_are_taken_equally_often():
    assert all(abs(count - 1000) < 100 for count in outcomes("{a|b|c}", 3000).values())


@pytest.mark.parametrize(
    "prompt",
    [
        *("a cat", "{{masterpiece}}", "{a", "a}", "a|b", "[a|b]", "___", "{", "}{", "2$$a", "{a [b|c] d}"),
        *(r"\{a|b\}", r"\__animal__", "a_b __ c__d"),
    ],
)
def test_what_leaves_nothing_to_chance_stays(prompt):
    assert set(outcomes(prompt, 5)) == {prompt}


@pytest.mark.parametrize("prompt", ["__loop__", "__many__", "{" * 33 + "a|b" + "}" * 33, "{a|b}" * 10_001, "__gone__"])
def test_circles_and_depths_are_refused(prompt):
    with pytest.raises(BadRequest):
        resolve(prompt, Random(0), lines)


def test_a_prompt_that_grows_too_long_is_refused():
    with pytest.raises(BadRequest, match="100000 characters"):
        resolve("__long__" * 200, Random(0), lambda name: ["x" * 1000])


def test_the_files_of_a_wildcard_are_read_once_for_a_prompt():
    asked = []
    resolve("__a__ __a__ __b__", Random(0), lambda name: asked.append(name) or ["x"])
    assert asked == ["a", "b"]


def test_what_joins_options_counts_for_the_length():
    with pytest.raises(BadRequest, match="100000 characters"):
        resolve("{3$$" + "x" * 60_000 + "$$a|b|c}", Random(0), lines)


@settings(max_examples=1000, deadline=None)
@given(st.text(st.sampled_from("ab{}|[]$2_\\ -"), max_size=40), st.integers(0, 9))
def test_what_is_decided_says_no_more_than_the_template_and_the_same_seed_says_the_same(prompt, seed):
    decided = resolve(prompt, Random(seed), lambda name: ["x"])
    assert decided == resolve(prompt, Random(seed), lambda name: ["x"])
    assert set(decided) <= {*prompt, *", x"}


@pytest.mark.parametrize("piece", ["a", "{a", "}", "{a|", "|", "__", "__a", "__animal_", "\\", "[", "{[", "$$", "{a}", "_a"])
def test_a_hundred_kilobytes_are_parsed_within_a_second(piece):
    with at_most(1), suppress(BadRequest):
        resolve(piece * (100_000 // len(piece)), Random(0), lines)


@pytest.mark.parametrize("prompt", ["{a|b}", "x {{ __y__ }}", "{2$$a}", "{" * 40])
def test_what_chance_would_change_leaves_something_to_it(prompt: str) -> None:
    assert leaves_to_chance(prompt)


@pytest.mark.parametrize("prompt", ["", "a {cat}, [red|blue]", "\\{x|y\\}", "snake_case", "a | b"])
def test_what_chance_would_not_change_leaves_nothing_to_it(prompt: str) -> None:
    assert not leaves_to_chance(prompt)
