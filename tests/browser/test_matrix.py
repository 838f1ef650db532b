"""README.md of this folder is kept true: every number from 1 to 40 has its row, and every test that a row names exists."""

import ast
import re
from pathlib import Path

TESTS = Path(__file__).parents[1]
TABLE = (Path(__file__).parent / "README.md").read_text("utf-8")
ROWS = [[cell.strip() for cell in line.strip("|").split("|")] for line in TABLE.splitlines() if re.match(r"\| \d+ \|", line)]


def test_every_number_from_1_to_40_has_one_row() -> None:
    assert [int(row[0]) for row in ROWS] == list(range(1, 41))


def test_every_test_that_a_row_names_exists() -> None:
    for number, what, tests in ROWS:
        named = re.findall(r"`([\w/]+\.py)::(test_\w+)`", tests)
        assert what, number
        assert len(named) == tests.count("`") // 2 > 0, number
        for path, name in named:
            functions = {node.name for node in ast.parse((TESTS / path).read_text("utf-8")).body if isinstance(node, ast.FunctionDef)}
            assert name in functions, (number, path, name)
