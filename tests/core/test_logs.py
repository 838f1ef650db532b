"""No message can forge a line of the log or steer the terminal that shows it."""

import logging

import pytest

from webui.core.logs import PlainFormatter, shown


def line(message: str, *values: object) -> str:
    return PlainFormatter("%(levelname)s %(name)s: %(message)s").format(logging.LogRecord("easel", 30, "x", 1, message, values, None))


@pytest.mark.parametrize("char", ["\n", "\r", "\x1b", "\0", "\x7f", "\x9b", "\u2028", "\u202e", "\t"])
def test_a_control_character_is_shown_as_an_escape(char: str) -> None:
    text = line("job %s failed", f"a{char}ERROR root: forged")
    assert char not in text
    assert text == f"WARNING easel: job a{char.encode('unicode_escape').decode()}ERROR root: forged failed"


def test_words_in_every_script_stay_as_they_are() -> None:
    assert shown("猫 näïve \\n 🦊") == "猫 näïve \\n 🦊"


def test_tracebacks_keep_their_lines_and_no_other_controls() -> None:
    try:
        raise ValueError("evil\x1b[31m\rtext")
    except ValueError as error:
        record = logging.LogRecord("easel", 40, "x", 1, "failed", (), (type(error), error, error.__traceback__))
    text = PlainFormatter("%(message)s").format(record)
    assert text.startswith("failed\nTraceback")
    assert "\x1b" not in text
    assert "\r" not in text
    assert "evil\\x1b[31m\\rtext" in text
