import pytest

from webui.core.prompt_pieces import pieces


def told(prompt, by):
    return [tuple(piece) for piece in pieces(prompt, by)]


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("a, b, c", [("a", "b, c"), ("b", "a, c"), ("c", "a, b")]),
        ("a red circle", [("a red circle", "")]),
        ("a AND b:0.5", [("a", "b:0.5"), ("b:0.5", "a")]),
        ("a, b AND c, d", [("a", "b AND c, d"), ("b", "a AND c, d"), ("c", "a, b AND d"), ("d", "a, b AND c")]),
        ("a AND b AND c", [("a", "b AND c"), ("b", "a AND c"), ("c", "a AND b")]),
        ("(a, b:1.2), c", [("(a, b:1.2)", "c"), ("c", "(a, b:1.2)")]),
        ("a,, b\nc BREAK d", [("a", ", b\nc BREAK d"), ("b", "a,,c BREAK d"), ("c", "a,, b BREAK d"), ("d", "a,, b\nc")]),
        ("a, b<lora:x:1>", [("a", "b<lora:x:1>"), ("b", "a<lora:x:1>")]),
        ("", []),
        ("sAND, bANDd", [("sAND", "bANDd"), ("bANDd", "sAND")]),
    ],
)
def test_parts_stand_between_commas_lines_and_keywords(prompt, expected):
    assert told(prompt, "parts") == expected


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("a red circle", [("a", "red circle"), ("red", "a  circle"), ("circle", "a red")]),
        ("(red:1.2) sky", [("red", "(:1.2) sky"), ("sky", "(red:1.2)")]),
        ("a AND b", [("a", "AND b"), ("b", "a AND")]),
        ("half-timbered, 3d", [("half-timbered", ", 3d"), ("d", "half-timbered, 3")]),
        ("<lora:ink:1> 红 圆", [("红", "圆<lora:ink:1>"), ("圆", "红<lora:ink:1>")]),
    ],
)
def test_words_are_words(prompt, expected):
    assert told(prompt, "words") == expected
