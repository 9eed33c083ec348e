"""The rows of the threat model and the tests that are marked with their ids belong together."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
PAGE = REPOSITORY / "docs" / "operations" / "threat-model.md"
TESTS = REPOSITORY / "tests"


@pytest.fixture(scope="module")
def marked() -> dict[str, set[str]]:
    """Tests by the id that they are marked with.

    Read from the source: to import every module of tests takes longer than all other tests here.
    """
    tests: dict[str, set[str]] = {}
    for path in TESTS.rglob("test_*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                for threat in ids_of(node):
                    tests.setdefault(threat, set()).add(f"{path.relative_to(TESTS)}::{node.name}")
    return tests


def ids_of(test: ast.FunctionDef) -> list[str]:
    """The arguments of a test's ``threat`` marks."""
    marks = [
        decorator
        for decorator in test.decorator_list
        if isinstance(decorator, ast.Call) and ast.unparse(decorator.func) == "pytest.mark.threat"
    ]
    return [ast.literal_eval(argument) for mark in marks for argument in mark.args]


def rows() -> list[str]:
    """The ids of the table."""
    return re.findall(r"(?m)^\| (T\d+) \|", PAGE.read_text())


def test_every_row_has_an_id_of_its_own() -> None:
    table = [line for line in PAGE.read_text().splitlines() if line.startswith("| ")]
    assert len(rows()) == len(table) - 1 >= 12  # one line of headings
    assert len(set(rows())) == len(rows())


def test_every_row_is_shown_by_a_test(marked: dict[str, set[str]]) -> None:
    assert [row for row in rows() if not marked.get(row)] == []


def test_every_id_of_a_test_is_in_the_table(marked: dict[str, set[str]]) -> None:
    assert {threat: tests for threat, tests in marked.items() if threat not in rows()} == {}
