"""Weights of other programs, rewritten."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.clock import at_most
from webui.core.foreign.weights import attention, compel, escaped, novelai
from webui.core.prompt import parse_attention


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("a cat", "a cat"),
        ("{cat}", "(cat:1.05)"),
        ("{{cat}}, dog", "(cat:1.103), dog"),
        ("[cat]", "(cat:0.952)"),
        ("{a [b]}", "(a:1.05) b"),
        ("{never closed", "(never closed:1.05)"),
        ("closed} too often}", "closed too often"),
        ("cat (animal)", "cat \\(animal\\)"),
        ("1.5::cat::, dog", "(cat:1.5), dog"),
        ("a, 0.5::cat, mat::, {dog}", "a, (cat, mat:0.5), (dog:1.05)"),
        ("", ""),
    ],
)
def test_novelais_brackets_and_numbers(theirs: str, ours: str) -> None:
    assert novelai(theirs) == ours


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("a cat", "a cat"),
        ("(cat)1.3", "(cat:1.3)"),
        ("(a cat)++, dog", "(a cat:1.21), dog"),
        ("cat++ dog-", "(cat:1.21) (dog:0.9)"),
        ("(just grouped) dog", "just grouped dog"),
        ("((cat)1.2 dog)1.5", "(cat:1.8) (dog:1.5)"),
        ("up-to-date, well-known", "up-to-date, well-known"),
        ("a \\(b\\) [c]", "a \\(b\\) \\[c\\]"),
        ("(never closed", "never closed"),
        ("(cat)1.5.", "(cat:1.5)."),
        ("C++ code", "(C:1.21) code"),
        ("", ""),
    ],
)
def test_compels_signs_and_numbers(theirs: str, ours: str) -> None:
    assert compel(theirs) == ours


def test_what_was_rewritten_means_the_same_to_our_parser() -> None:
    pieces = parse_attention(novelai("{{red}} (fox), 0.5::blue::"))
    assert [tuple(piece) for piece in pieces] == [("red", 1.103), (" (fox), ", 1.0), ("blue", 0.5)]


@given(st.text(max_size=300))
def test_text_without_weights_is_only_escaped(text: str) -> None:
    assert "".join(piece for piece, _ in parse_attention(attention([(text, 1.0)]))) == "".join(
        piece for piece, _ in parse_attention(escaped(text))
    )


@given(st.text("ab {}[]():.1+-\\,\n", max_size=400))
def test_no_text_makes_them_fail(text: str) -> None:
    assert isinstance(novelai(text) + compel(text), str)


@pytest.mark.parametrize(
    "text",
    [
        "(" * 100_000,
        "{" * 100_000,
        "a+" * 50_000,
        "1.5::" * 20_000,
        "\\" * 100_000,
        "+" * 100_000,
        "a" + "+" * 99_998 + "b",
        "\\a" * 2_000_000,
    ],
)
def test_long_texts_take_linear_time(text: str) -> None:
    with at_most(20):  # quadratic ones take minutes
        novelai(text)
        compel(text)
