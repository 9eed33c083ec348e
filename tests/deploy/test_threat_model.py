"""The threat model names the tests that show its lines; they are there."""

from __future__ import annotations

import re
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
PAGE = (REPOSITORY / "docs" / "threat-model.md").read_text()
TESTS = {path.name: path.read_text() for path in (REPOSITORY / "tests").rglob("test_*.py")}


def cells() -> list[str]:
    """The last cell of each line of the table."""
    lines = [line for line in PAGE.splitlines() if line.startswith("|")]
    return [line.split("|")[-2] for line in lines[2:]]


def test_every_line_of_the_table_names_a_test() -> None:
    assert len(cells()) >= 12
    for cell in cells():
        assert "test_" in cell or re.search(r"\*[^*]+\*", cell), cell


def test_every_test_that_is_named_exists() -> None:
    for name in re.findall(r"`(test_\w+\.py)`", PAGE):
        assert name in TESTS, name
    every = " ".join(re.findall(r"(?m)^def (test_\w+)\(", "\n".join(TESTS.values())))
    for cell in cells():
        for words in re.findall(r"\*([^*]+)\*", cell):
            assert re.sub(r"[ -]", "_", words.lower()) in every, words
