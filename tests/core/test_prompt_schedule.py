"""Prompt editing, alternation and AND: the text of every network call, as the field has it."""

from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.clock import at_most
from webui.core.errors import BadRequest
from webui.core.prompt import MAX_DEPTH
from webui.core.prompt_schedule import MAX_PARTS, NUMBER, parse_prompt, parse_schedule

CALLS = 10


def schedule(text, calls=CALLS, first_pass=None):
    return [tuple(until) for until in parse_schedule(text, calls, first_pass)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a cat", [(10, "a cat")]),
        ("", [(10, "")]),
        ("[red:blue:4] cat", [(4, "red cat"), (10, "blue cat")]),
        ("[red:blue:0.4] cat", [(4, "red cat"), (10, "blue cat")]),
        ("[red:blue:.45] cat", [(4, "red cat"), (10, "blue cat")]),
        ("a [cat:3]", [(3, "a "), (10, "a cat")]),
        ("a [cat: 3 ]", [(3, "a "), (10, "a cat")]),
        ("a [cat::3]", [(3, "a cat"), (10, "a ")]),
        ("a [red : blue :3] cat", [(3, "a red  cat"), (10, "a  blue  cat")]),
        ("[a:b:1]", [(1, "a"), (10, "b")]),
        ("[a:b:1.0]", [(10, "a")]),
        ("[a:b:1e0]", [(1, "a"), (10, "b")]),
        ("[a:b:0]", [(10, "b")]),
        ("[a:b:-3]", [(10, "b")]),
        ("[a:b:25]", [(10, "a")]),
        ("[a:b:1.5]", [(10, "a")]),
        ("[a:b:" + "9" * 400 + "]", [(10, "a")]),
        ("[a:[b:c:6]:2]", [(2, "a"), (6, "b"), (10, "c")]),
        ("[[a:b:2]:c:6]", [(2, "a"), (6, "b"), (10, "c")]),
        ("[a:b:2] [c:d:6]", [(2, "a c"), (6, "b c"), (10, "b d")]),
        ("[(red:1.3):(blue:0.8):5]", [(5, "(red:1.3)"), (10, "(blue:0.8)")]),
        ("([red:blue:5] cat:1.2)", [(5, "(red cat:1.2)"), (10, "(blue cat:1.2)")]),
        ("[[[cat]]:5]", [(5, ""), (10, "[[cat]]")]),
        (r"[\[a\:b:c:5]", [(5, r"\[a\:b"), (10, "c")]),
    ],
)
def test_prompt_editing(text, expected):
    assert schedule(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[red|blue] cat", ["red cat", "blue cat"]),
        ("[fe|]male", ["female", "male"]),
        ("[|fe]male", ["male", "female"]),
        ("[fe||]male", ["female", "male", "male"]),
        ("[red|(blue:1.2)|[green]]", ["red", "(blue:1.2)", "[green]"]),
        ("[a|b][c|d|e]", ["ac", "bd", "ae", "bc", "ad", "be"]),
        ("[[a|b]|c]", ["a", "c"]),
        ("[a|b:c]", ["[a|b:c]"]),
    ],
)
def test_alternation_changes_with_every_call_from_the_second_on(text, expected):
    ends = parse_schedule(text, CALLS)
    if len(expected) > 1:
        assert [end for end, _ in ends] == list(range(1, CALLS + 1))
    assert [found for _, found in ends] == [expected[i % len(expected)] for i in range(len(ends))]


def test_alternation_within_editing():
    assert schedule("[[a|b]:c:3]", 5) == [(1, "a"), (2, "b"), (3, "a"), (4, "c"), (5, "c")]


@pytest.mark.parametrize(
    "text",
    [
        "a [cat",
        "a cat]",
        "[a:b]",
        "[a:b:c]",
        "[a:b:c:3]",
        "[a:b:0x3]",
        "[a:b:1.2.3]",
        "(a:b:c)",
        "[a (b:c:3]",
        "[a [b:c] d:3]",
        "(a [b) c:3]",
        "a | b",
        "a | [b:c:3]",  # a | out of place: all of the prompt is text
        "[a|b [c:d:3]",
        "[a:b:3] \\",  # as is a last backslash
        ":) (: [: :]",
    ],
)
def test_what_is_no_complete_form_is_text(text):
    assert schedule(text) == [(CALLS, text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("((a][:b:c [d:3]", [(3, "((a][:b:c "), (10, "((a][:b:c d")]),
        ("[a:b:3])", [(3, "a)"), (10, "b)")]),
        ("[a:b:3]:)", [(10, "[a:b:3]:)")]),
        ("[a:b:3]) )", [(3, "a) )"), (10, "b) )")]),
        ("[[a:b:2] c:3]((x", [(2, "[a c:3]((x"), (10, "[b c:3]((x")]),
        ("([a:b:3])[", [(10, "([a:b:3])[")]),
        ("(([a:b:3]))", [(3, "((a))"), (10, "((b))")]),
    ],
)
def test_complete_forms_beside_unbalanced_brackets_count_but_for_those_right_before_two(text, expected):
    """As the field's parser has it, which was tried on thousands of prompts."""
    assert schedule(text) == expected


@pytest.mark.parametrize(
    ("text", "first", "second"),
    [
        ("[a:b:0.5]", [(5, "a"), (10, "b")], [(8, "b")]),
        ("[a:b:1.5]", [(10, "a")], [(4, "a"), (8, "b")]),
        ("[a:b:4]", [(4, "a"), (10, "b")], [(8, "b")]),
        ("[a:b:14]", [(10, "a")], [(4, "a"), (8, "b")]),
        ("[a:b:2.0]", [(10, "a")], [(8, "a")]),
        ("[a:b:10]", [(10, "a")], [(8, "b")]),
    ],
)
def test_the_second_pass_of_hires_fix_counts_on_from_the_first(text, first, second):
    assert schedule(text, 10) == first
    assert schedule(text, 8, first_pass=10) == second


@pytest.mark.parametrize(
    ("when", "last"),
    [("0.5", 5), ("4", 4), ("4.0", 4), ("1.5", 1), ("1", 1)],
)
def test_old_timelines_take_numbers_below_one_for_shares_and_both_passes_alike(when, last):
    for calls, first_pass in ((10, None), (8, 10)):
        assert [tuple(until) for until in parse_schedule(f"[a:b:{when}]", calls, first_pass, old=True)] == [(last, "a"), (10, "b")]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a cat", [("a cat", 1.0)]),
        ("a cat AND a dog", [("a cat", 1.0), (" a dog", 1.0)]),
        ("a cat :1.2 AND a dog:0.5", [("a cat", 1.2), (" a dog", 0.5)]),
        ("a cat AND rain :-0.7", [("a cat", 1.0), (" rain", -0.7)]),
        ("a cat: 1. ", [("a cat", 1.0)]),
        ("a:1 :2", [("a:1", 2.0)]),
        ("(a cat:1.2)", [("(a cat:1.2)", 1.0)]),
        ("a cat:", [("a cat:", 1.0)]),
        ("a cat :1.2.3", [("a cat :1.2.3", 1.0)]),
        ("SAND ANDY AND_ and", [("SAND ANDY AND_ and", 1.0)]),
        ("a AND ", [("a", 1.0), ("", 1.0)]),
        ("cat:1.5", [("cat", 1.5)]),
    ],
)
def test_and_joins_weighted_parts(text, expected):
    assert [(part.schedule[0].text, part.weight) for part in parse_prompt(text, CALLS)] == expected


def test_parts_have_schedules_of_their_own():
    parts = parse_prompt("[a:b:2] :0.5 AND c", CALLS)
    assert [part.schedule for part in parts] == [((2, "a"), (10, "b")), ((10, " c"),)]


def test_too_many_parts_are_refused():
    assert len(parse_prompt(" AND ".join("a" * MAX_PARTS), CALLS)) == MAX_PARTS
    with pytest.raises(BadRequest, match="33 parts"):
        parse_prompt(" AND ".join("a" * (MAX_PARTS + 1)), CALLS)


def test_an_absurd_weight_of_a_part_is_refused():
    with pytest.raises(BadRequest, match="at most 10000"):
        parse_prompt("a :10001", CALLS)


def test_brackets_nest_so_deep_and_no_deeper():
    assert len(schedule("[" * MAX_DEPTH + "a" + ":3]" * MAX_DEPTH)) == 2
    with pytest.raises(BadRequest, match="64 brackets"):
        schedule("[" * (MAX_DEPTH + 1) + "a")


@pytest.mark.parametrize("text", ["[a|b]" + "a" * 4000, "".join(f"[a:b:{step}]" for step in range(1000))])
def test_texts_that_are_too_long_for_so_many_changes_are_refused(text):
    with pytest.raises(BadRequest, match="changes 1000 times"):
        schedule(text, 1000)


@pytest.mark.parametrize(
    "text",
    [
        piece * (100_000 // len(piece))
        for piece in ("a", "[a|b]", "[a:b:.5]", "(", ")", "[a]", "[a)", ":", "|", "\\", "[a:", "(a:1)", "[:1]")
    ]
    + ["[" * 60 + "a)[" * 33_000, "[" * 64 + "a" * 99_000 + "]" * 64, "[a:" + "1" * 99_000 + "x]", "a:" + " " * 99_000, "AND " * 20],
)
def test_a_hundred_kilobytes_are_parsed_within_a_second(text):
    with at_most(1), suppress(BadRequest):  # of brackets within each other
        parse_prompt(text, 20)


NUMBERS = st.integers(-2, 14).map(str) | st.floats(0, 2).map(lambda number: f"{number:.2f}")
PLAIN = st.text("ab ,1", max_size=4)
TREES = st.recursive(
    PLAIN,
    lambda cell: st.one_of(
        st.tuples(st.just("join"), cell, cell),
        st.tuples(st.just("round"), cell),
        st.tuples(st.just("change"), cell, cell, NUMBERS),
        st.tuples(st.just("cycle"), st.lists(cell, min_size=2, max_size=3)),
    ),
    max_leaves=8,
)


def written(tree):
    match tree:
        case str():
            return tree
        case ("join", one, other):
            return written(one) + written(other)
        case ("round", inner):
            return f"({written(inner)})"
        case ("change", before, after, when):
            return f"[{written(before)}:{written(after)}:{when}]"
        case ("cycle", options):
            return f"[{'|'.join(map(written, options))}]"


def at_call(tree, call):
    """The text at the call, counted from 1, said in the simplest way."""
    match tree:
        case str():
            return tree
        case ("join", one, other):
            return at_call(one, call) + at_call(other, call)
        case ("round", inner):
            return f"({at_call(inner, call)})"
        case ("change", before, after, when):
            return at_call(before if call <= int(float(when) * CALLS if "." in when else int(when)) else after, call)
        case ("cycle", options):
            return at_call(options[(call - 1) % len(options)], call)


@settings(max_examples=2000, deadline=None)
@given(TREES)
def test_every_call_has_the_text_that_the_forms_say(tree):
    found = parse_schedule(written(tree), CALLS)
    for call in range(1, CALLS + 1):
        assert next(text for end, text in found if call <= end) == at_call(tree, call)


@settings(max_examples=2000, deadline=None)
@given(st.text(st.sampled_from("ab[]():|\\ 1.5") | st.characters(), max_size=40), st.integers(1, 12), st.none() | st.integers(1, 12))
def test_nothing_fails_and_calls_rise_to_the_last(text, calls, first_pass):
    found = parse_schedule(text, calls, first_pass)
    ends = [end for end, _ in found]
    assert ends == sorted(set(ends))
    assert (ends[0] >= 1, ends[-1]) == (True, calls)


@settings(max_examples=500, deadline=None)
@given(st.text(st.sampled_from("0123456789.eE+-"), max_size=6))
def test_numbers_are_those_that_python_reads(text):
    if NUMBER.fullmatch(text):
        float(text)
