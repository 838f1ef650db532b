"""Attention syntax: weights as the field computes them, in linear time, with a sentence for what is absurd."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.clock import at_most
from webui.core.errors import BadRequest
from webui.core.prompt import BREAK, MAX_DEPTH, parse_attention, without_comments

SQUARE = 1 / 1.1


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("", [("", 1.0)]),
        ("a cat", [("a cat", 1.0)]),
        ("a (red) cat", [("a ", 1.0), ("red", 1.1), (" cat", 1.0)]),
        ("a [red] cat", [("a ", 1.0), ("red", SQUARE), (" cat", 1.0)]),
        ("((a))", [("a", 1.1 * 1.1)]),
        ("(a:1.2)", [("a", 1.2)]),
        ("(a: +.5 )", [("a", 0.5)]),
        ("(a:-1.5)", [("a", -1.5)]),
        ("((a:1.3) b)", [("a", 1.3 * 1.1), (" b", 1.1)]),
        ("[(a:1.5)]", [("a", 1.5 * SQUARE)]),
        ("(a:b:1.5)", [("a:b", 1.5)]),
        ("(a:1.2.3)", [("a:1.2.3", 1.1)]),
        ("(a:)", [("a:", 1.1)]),
        (r"\(a\) \[b\] \\", [("(a) [b] \\", 1.0)]),
        (r"\x", [("x", 1.0)]),
        ("a\\", [("a", 1.0)]),
        ("(a", [("a", 1.1)]),
        ("[a (b", [("a ", SQUARE), ("b", 1.1 * SQUARE)]),
        ("a)", [("a)", 1.0)]),
        ("a]:1.2)", [("a]:1.2)", 1.0)]),
        ("[a:1.2)", [("a:1.2)", SQUARE)]),
        ("([a)b]", [("a", 1.1 * SQUARE), ("b", SQUARE)]),
        ("a BREAK b", [("a", 1.0), BREAK, ("b", 1.0)]),
        ("BREAK\nBREAK", [("", 1.0), BREAK, ("", 1.0), BREAK, ("", 1.0)]),
        ("(a) BREAK", [("a", 1.1), ("", 1.0), BREAK, ("", 1.0)]),
        ("BREAKFAST aBREAK BREAK_ break", [("BREAKFAST aBREAK BREAK_ break", 1.0)]),
        ("(BREAK)", [("", 1.1), ("BREAK", -1.1), ("", 1.1)]),
    ],
)
def test_pieces_and_weights(text, pieces):
    found = parse_attention(text)
    assert [piece for piece, _ in found] == [piece for piece, _ in pieces]
    assert [weight for _, weight in found] == pytest.approx([weight for _, weight in pieces])


@settings(max_examples=2000, deadline=None)
@given(st.text(max_size=100))
def test_escaped_text_comes_back_whole(text):
    text = text.replace("BREAK", "")
    escaped = "".join("\\" + char if char in "\\()[]" else char for char in text)
    assert parse_attention(escaped) == [(text, 1.0)]


@settings(max_examples=2000, deadline=None)
@given(st.text(st.sampled_from("ab ():[]\\1.2-,") | st.characters(), max_size=60))
def test_neighbours_differ_in_weight_and_nothing_fails(text):
    pieces = parse_attention(text)
    assert all(one[1] != other[1] for one, other in pairwise(pieces))


@pytest.mark.parametrize("bracket", "([")
def test_brackets_nest_so_deep_and_no_deeper(bracket):
    assert len(parse_attention(bracket * MAX_DEPTH + "a")) == 1
    with pytest.raises(BadRequest, match="64 brackets"):
        parse_attention(bracket * (MAX_DEPTH + 1) + "a")


@pytest.mark.parametrize("text", ["(a:10001)", "(a:" + "9" * 400 + ")", "((a:1000):1000)"])
def test_absurd_weights_are_refused(text):
    with pytest.raises(BadRequest, match="at most 10000"):
        parse_attention(text)


@pytest.mark.parametrize(
    "text",
    [
        *(
            piece * (100_000 // len(piece))
            for piece in ("a", " ", "(a)", "[a]", "(a:1.1)", ":", ": ", "\\", ")", "BREAK ", "BREAK", ":1.", "\\(")
        ),
        ":" + " " * 100_000,
        "(" * 60 + "a)(" * 33_000,
        "(:" + "1" * 4_000 + "." * 90_000,
    ],
)
def test_a_hundred_kilobytes_are_parsed_within_a_second(text):
    with at_most(1):
        parse_attention(text)


@pytest.mark.parametrize(
    ("text", "rest"),
    [
        ("a cat", "a cat"),
        ("a cat # and a dog", "a cat "),
        ("# animals\na cat\n\n# more\n# and more\na dog", "a cat\n\na dog"),
        ("a #1\ncat", "a \ncat"),
        ("#", ""),
    ],
)
def test_comments_end_with_their_line(text, rest):
    assert without_comments(text) == rest
