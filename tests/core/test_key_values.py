"""Lines of "key: value" items: what is joined is scanned back; values are read or a sentence says why not."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from webui.core.key_values import Values, is_digits, items, joined, short

KEYS = st.from_regex(r"[A-Za-z][A-Za-z0-9 /-]{0,20}[a-z0-9]", fullmatch=True)
VALUES = st.text(max_size=40) | st.text('",:[]{}\\ \nx', max_size=20)


@settings(max_examples=500, deadline=None)
@given(st.lists(st.tuples(KEYS, VALUES), max_size=8))
def test_what_is_joined_is_scanned_back(pairs):
    line = joined(pairs)
    assert "\n" not in line
    assert list(items(line)) == pairs


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("ab: 1,cd:2 , ef : 3", [("ab", "1"), ("cd", "2"), ("ef", "3")]),
        ('ab: "x, y" z, cd: 2', [("ab", '"x'), ("cd", "2")]),
        ('ab: "bad \\q", cd: 2', [("ab", '"bad \\q"'), ("cd", "2")]),
        ("ab: [1, [2, 3]], cd: {4, 5}", [("ab", "[1, [2, 3]]"), ("cd", "{4, 5}")]),
        ('ab: ["]", 1], cd: 2', [("ab", '["]", 1]'), ("cd", "2")]),
        ("ab: [1] more, cd: 2", [("ab", "[1] more"), ("cd", "2")]),
        ("(ab: 1), 5: 2, x y z, cd: 3", [("cd", "3")]),
        ("", []),
    ],
)
def test_items_are_found_in_lines_of_other_programs(line, found):
    assert list(items(line)) == found


def test_numbers_out_of_range_leave_a_sentence_and_the_default():
    values = Values({"A": "7", "B": "0.5", "C": "x", "D": "99", "E": "nan", "F": "1e9", "G": "-3", "H": "٣", "I": "9" * 30})
    assert (values.whole("A", 1, 0, 9), values.number("B", 1.0, 0, 1), values.whole("none", 4, 0, 9)) == (7, 0.5, 4)
    assert values.problems == []
    assert [values.whole(key, 1, 0, 9) for key in "CDGHI"] == [1] * 5
    assert [values.number(key, 0.25, 0, 1) for key in "EF"] == [0.25] * 2
    assert values.problems[0] == "C x is not used: it should be a whole number from 0 to 9"
    assert len(values.problems) == 7


def test_a_size_is_taken_whole_or_not_at_all():
    assert Values({"Size-1": "64", "Size-2": "99"}).size("Size", (8, 16), 99) == (64, 99)
    assert Values({"Size-1": "64", "Size-2": "100"}).size("Size", (8, 16), 99) == (8, 16)


def test_choices_are_taken_or_told():
    values = Values({"A": "red", "B": "blue"})
    assert (values.choice("A", ("red",), "x"), values.choice("B", ("red",), "x"), values.choice("C", ("red",), "x")) == ("red", "x", "x")
    assert values.problems == ["B blue is not used: it should be one of red"]


def test_what_nobody_asked_for_is_told_but_the_silent():
    values = Values({"Version": "1", "ENSD": "31337", "Long": "x" * 1000, "Steps": "2"})
    values.text("Steps")
    left = [f"Long: {short('x' * 1000)} is not used: Easel does not know it"]
    assert values.unused(("Version",)) == ["ENSD: 31337 is not used: Easel does not know it", *left]


def test_digits_are_ascii_digits():
    assert is_digits("012")
    assert not any(map(is_digits, ["", "-1", "1.0", "٣", "²"]))
