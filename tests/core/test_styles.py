import csv
import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from webui.core.errors import BadRequest
from webui.core.styles import Style, checked, read_styles, with_styles, write_styles


@pytest.mark.parametrize(
    ("prompt", "pieces", "expected"),
    [
        ("a cat", [], "a cat"),
        ("a cat", ["red"], "a cat, red"),
        ("a cat ", [" red "], "a cat, red"),
        ("", ["red"], "red"),
        ("a cat", [""], "a cat"),
        ("a cat", ["photo of {prompt}, sharp"], "photo of a cat, sharp"),
        ("a cat", ["{prompt} and {prompt}", "red"], "a cat and a cat, red"),
        ("", ["{prompt}!"], "!"),
    ],
)
def test_styles_go_around_the_prompt_or_behind_it(prompt, pieces, expected):
    assert with_styles(prompt, pieces) == expected


@pytest.mark.parametrize(
    ("prompt", "pieces"), [("a", ["{prompt}{prompt}"] * 60), ("a" * 90_000, ["{prompt} {prompt}"]), ("a" * 90_000, ["b" * 20_000])]
)
def test_prompts_that_styles_make_too_long_are_refused_before_they_are_made(prompt, pieces):
    with pytest.raises(BadRequest, match="100000 characters"):
        with_styles(prompt, pieces)


def test_a_file_of_the_field_is_read():
    text = '\ufeffname,prompt,negative_prompt\r\nNone,,\r\nink,"ink, {prompt}",colour\r\nold\r\nlines,"two\nlines",\r\n'
    assert read_styles(text) == [Style("ink", "ink, {prompt}", "colour"), Style("old"), Style("lines", "two\nlines")]


def test_columns_come_in_any_order_and_under_their_old_name():
    assert read_styles("text,more,name\nred,x,r\n") == [Style("r", "red")]


def test_of_one_name_the_last_row_counts():
    assert read_styles("name,prompt,negative_prompt\na,1,\na,2,\n") == [Style("a", "2")]


@pytest.mark.parametrize("text", ["", "\0", "x", '"', "name\n\n,,\n", 'name,prompt\na,"' + "b" * 200_000, "prompt\nx\n"])
def test_damaged_files_hold_few_styles_and_do_no_harm(text):
    assert len(read_styles(text)) <= 1


NAMES = st.text(st.characters(exclude_categories=["Cs", "Cc", "Z"], exclude_characters="\ufeff"), min_size=1, max_size=20)
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=60)


@settings(max_examples=500, deadline=None)
@given(st.lists(st.builds(Style, NAMES.filter(lambda name: name != "None"), TEXTS, TEXTS), max_size=5, unique_by=lambda style: style.name))
def test_what_pythons_writer_writes_is_read_back(styles):
    file = io.StringIO(newline="")
    rows = [(style.name, style.prompt, style.negative_prompt) for style in styles]
    csv.writer(file).writerows([("name", "prompt", "negative_prompt"), *rows])
    assert read_styles(file.getvalue()) == styles


TEXT = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0\r\ufffd\ufeff"), max_size=30)


@given(st.lists(st.tuples(st.text("abc ,;\"'é汉", min_size=1, max_size=8), TEXT, TEXT), max_size=5, unique_by=lambda row: row[0].strip()))
@settings(max_examples=100, deadline=None)
def test_what_is_written_is_read_again(rows):
    styles = [Style(name.strip(), prompt, negative) for name, prompt, negative in rows if name.strip()]
    assert read_styles(write_styles(styles), whole=True) == styles


def test_a_file_that_cannot_be_read_to_its_end_is_not_to_be_written_anew():
    text = 'name,prompt,negative_prompt\nink,a,\noil,"' + "x" * 200_000
    assert [style.name for style in read_styles(text)] == ["ink"]
    with pytest.raises(BadRequest, match="cannot be read to its end"):
        read_styles(text, whole=True)


@pytest.mark.parametrize(
    "style", [Style("None"), Style("  "), Style("a\nb"), Style("x" * 201), Style("a", "x" * 100_001), Style("a", "\0")]
)
def test_a_style_that_no_file_can_hold_is_refused(style):
    with pytest.raises(BadRequest):
        checked(style)
