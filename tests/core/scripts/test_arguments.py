from typing import Any

import pytest

from webui.core.errors import BadRequest
from webui.core.scripts.arguments import Argument, by_position, read_arguments

TABLE = (
    Argument(name="kind", label="Kind", default="Steps", choices=("Nothing", "Steps")),
    Argument(name="on", label="On", default=True),
    Argument(name="count", label="Count", default=4, minimum=1, maximum=32),
    Argument(name="part", label="Part", default=0.5, minimum=0, maximum=1),
    Argument(name="names", label="Names", default=["a"]),
    Argument(name="text", label="Text", default=""),
)


def test_what_is_missing_or_null_has_its_default() -> None:
    defaults = {"kind": "Steps", "on": True, "count": 4, "part": 0.5, "names": ["a"], "text": ""}
    assert by_position("A script", TABLE, []) == defaults
    assert by_position("A script", TABLE, [None, None]) == defaults
    assert read_arguments(TABLE, {}) == defaults


@pytest.mark.parametrize("kind", ["nothing", 0, 0.0, "0"])
def test_a_choice_is_named_in_any_case_or_by_its_number(kind: Any) -> None:
    assert by_position("A script", TABLE, [kind])["kind"] == "Nothing"


def test_values_come_as_clients_send_them() -> None:
    told = by_position("A script", TABLE, [1, "False", "7", 1, "", 5])
    assert told == {"kind": "Steps", "on": False, "count": 7, "part": 1.0, "names": [], "text": "5"}


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ([7], "Kind '7'.*0 \\(Nothing\\)"),
        ([1, "perhaps"], "neither true nor false"),
        ([1, 1, 33], "1 to 32"),
        ([1, 1, "many"], "1 to 32"),
        ([1, 1, 4, float("nan")], "0 to 1"),
        ([1, 1, 4, 0, 5], "list of texts"),
        ([1, 1, 4, 0, [[]]], "list of texts"),
        ([1, 1, 4, 0, [], {}], "should be a text"),
        ([1] * 7, "takes 6 script_args; 7"),
    ],
)
def test_wrong_values_are_told(given: list[Any], sentence: str) -> None:
    with pytest.raises(BadRequest, match=sentence):
        by_position("A script", TABLE, given)
