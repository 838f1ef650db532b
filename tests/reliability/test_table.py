"""docs/reliability.md is kept honest: every row is there, and every test that it names exists."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TABLE = (ROOT / "docs" / "reliability.md").read_text("utf-8")
ROWS = [[cell.strip() for cell in line.strip("|").split("|")] for line in TABLE.splitlines() if re.match(r"\| \d+ \|", line)]


def test_every_row_from_1_to_36_is_there_once() -> None:
    assert [int(row[0]) for row in ROWS] == list(range(1, 37))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_a_row_names_a_threat_tests_and_the_figure_that_was_reached(row: list[str]) -> None:
    _, threat, tests, figure = row
    assert threat
    assert figure
    named = re.findall(r"`([\w/]+\.py)(?:::(\w+))?`", tests)
    assert named
    for path, function in named:
        file = ROOT / "tests" / path
        assert file.is_file(), path
        tree = ast.parse(file.read_text("utf-8"))
        functions = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
        assert not function or function in functions, (path, function)


def test_every_module_of_this_folder_is_in_the_table() -> None:
    here = {f"reliability/{path.name}" for path in Path(__file__).parent.glob("test_*.py")} - {"reliability/test_table.py"}
    assert {path for path in here if path not in TABLE} == set()
