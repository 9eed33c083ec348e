"""The rows of the threat model and the tests that are marked with their ids belong together."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
PAGE = REPOSITORY / "docs" / "operations" / "threat-model.md"
COLLECT = """
import pytest

class Ids:
    def pytest_collection_finish(self, session):
        for item in session.items:
            for mark in item.iter_markers("threat"):
                print("threat", item.nodeid.split("[")[0], *mark.args)

# A file that cannot be imported is the business of the tests in it.
options = ["--collect-only", "-qq", "-m", "threat", "--continue-on-collection-errors"]
pytest.main([*options, "tests"], plugins=[Ids()])
"""


@pytest.fixture(scope="module")
def marked() -> dict[str, set[str]]:
    """Tests by the id that they are marked with."""
    found = subprocess.run(
        [sys.executable, "-c", COLLECT], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    assert found.returncode == 0, found.stdout + found.stderr
    tests: dict[str, set[str]] = {}
    for line in found.stdout.splitlines():
        if line.startswith("threat "):
            _, test, *ids = line.split()
            for threat in ids:
                tests.setdefault(threat, set()).add(test)
    return tests


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
