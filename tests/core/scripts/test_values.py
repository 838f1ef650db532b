from contextlib import suppress
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from webui.core.errors import BadRequest
from webui.core.scripts import values
from webui.core.scripts.xyz_plot import csv_line

WHOLE = st.integers(-500, 500)


@pytest.mark.parametrize(
    ("typed", "read"),
    [  # as A1111's help has them
        ("1-5", [1, 2, 3, 4, 5]),
        ("1-5 (+2)", [1, 3, 5]),
        ("10-5 (-3)", [10, 7]),
        ("1-10 [5]", [1, 3, 5, 7, 10]),
        ("1, 3-5,9", [1, 3, 4, 5, 9]),
        ("-2--1", [-2, -1]),
        ("5-3", [5, 4, 3]),
        ("20.0, ", [20]),
    ],
)
def test_whole_numbers(typed: str, read: list[int]) -> None:
    assert values.wholes(typed) == read


@pytest.mark.parametrize(
    ("typed", "read"),
    [
        ("1-3 (+0.5)", [1, 1.5, 2, 2.5, 3]),
        ("0.0-1.0 [6]", [0, 0.2, 0.4, 0.6, 0.8, 1]),
        ("0-1[4]", [0, 0.3333, 0.6667, 1]),
        ("7", [7]),
        ("1e-3", [0.001]),
        ("1-2 (+.3)", [1, 1.3, 1.6, 1.9]),
    ],
)
def test_decimals(typed: str, read: list[float]) -> None:
    assert values.decimals(typed) == read


@given(WHOLE, WHOLE, st.integers(1, 60))
def test_a_range_with_a_step_is_pythons_with_its_end(start: int, end: int, step: int) -> None:
    step = step if start <= end else -step
    assert values.wholes(f"{start}-{end}({step:+d})") == list(range(start, end + (1 if step > 0 else -1), step))


@given(WHOLE, WHOLE, st.integers(2, 60))
def test_a_range_with_a_count_has_so_many_values_between_its_ends(start: int, end: int, count: int) -> None:
    read = values.decimals(f"{start}-{end} [{count}]")
    assert len(read) == count
    assert (read[0], read[-1]) == (start, end)
    assert all(abs((later - earlier) - (end - start) / (count - 1)) < 2e-4 for earlier, later in pairwise(read))


@given(st.lists(WHOLE, min_size=1, max_size=20))
def test_numbers_that_are_typed_singly_come_back(numbers: list[int]) -> None:
    assert values.wholes(", ".join(map(str, numbers))) == numbers


@given(st.lists(st.floats(-1e6, 1e6).map(lambda number: round(number, 5)), min_size=1, max_size=20))
def test_decimals_that_are_typed_singly_come_back(numbers: list[float]) -> None:
    assert values.decimals(", ".join(map(str, numbers))) == numbers


@given(st.text(max_size=60))
def test_any_text_is_read_or_refused_with_a_sentence(typed: str) -> None:
    for read in (values.wholes, values.decimals, values.sizes, values.truths, values.texts):
        with suppress(BadRequest):
            assert len(read(typed)) <= values.MAX_VALUES * 60


@pytest.mark.parametrize(
    "typed", ["1-5(0)", "5-1 (+1)", "1-99999999999999", "0-1(+0.0000001)", "1-5[0]", "1.5", "a", "1-", "nan", "inf", "1.5-3"]
)
def test_ranges_without_values_or_with_too_many_are_refused(typed: str) -> None:
    with pytest.raises(BadRequest):
        values.wholes(typed)


WORD = st.text(st.characters(exclude_characters="\r\n\0", exclude_categories=["Cs"]), min_size=1).map(str.strip).filter(bool)


@given(st.lists(WORD, min_size=1, max_size=10))
def test_texts_written_as_csv_come_back(words: list[str]) -> None:
    assert values.texts(csv_line(words)) == words


def test_quotes_keep_commas_together() -> None:
    assert values.texts('red, "a, b", "say ""hi""", ') == ["red", "a, b", 'say "hi"', ""]


def test_sizes_and_truths() -> None:
    assert values.sizes("512x768, 64 x 64") == [(512, 768), (64, 64)]
    assert values.truths("true, False") == [True, False]
