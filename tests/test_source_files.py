"""The form of source files: docstrings whose entries stand alone, and a length that can be read."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# Every package of the project.
CONVERTED = ("docs", "handler", "jobs", "model_store", "train", "vea")
_SECTION = re.compile(r"( *)(Args|Attributes|Raises):$")
_ENTRY = re.compile(r"[\w*][\w, .*]*?: +(?P<text>.*)")
# A first word in lower case is the name of a type or a program (float32, torch-model-archiver), or
# it begins a fragment.
_FRAGMENT = re.compile(r"[a-z]+ |[a-z]+[.,;:]|(Of|That|Likewise|How|Where|Whose|Who|What|It) ")


def fragments(source: str) -> Iterator[str]:
    """Entries that do not stand alone, with the line they are on."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(
            node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
        ) or not ast.get_docstring(node, clean=False):
            continue
        first = node.body[0]
        depth = None
        for number, line in enumerate(source.splitlines()[first.lineno - 1 : first.end_lineno]):
            section = _SECTION.match(line)
            if section:
                depth = len(section[1]) + 4
            elif line.strip() and depth is not None:
                indent = len(line) - len(line.lstrip())
                entry = _ENTRY.match(line.strip())
                if indent < depth:
                    depth = None
                elif indent == depth and entry and _FRAGMENT.match(entry["text"]):
                    yield f"line {first.lineno + number}: {line.strip()}"


def modules() -> list[Path]:
    places = [ROOT / place for place in CONVERTED]
    return sorted(
        file for place in places for file in ([place] if place.is_file() else place.rglob("*.py"))
    )


@pytest.mark.parametrize("module", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_entries_of_docstrings_stand_alone(module: Path) -> None:
    assert not list(fragments(module.read_text()))


@pytest.mark.parametrize("module", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_no_source_file_is_longer_than_300_lines(module: Path) -> None:
    assert len(module.read_text().splitlines()) <= 300


def test_the_check_finds_fragments_and_nothing_else() -> None:
    source = '''
class Run:
    """A run.

    Attributes:
        run_id: of the run.
        seed: Seed of the order, and
            of the crops.
        model: likewise.
        sizes: float32 values.

    A line: of text.
    """

    def end(self, code: int) -> None:
        """End it.

        Args:
            code: Exit code.

        Raises:
            OSError: it fails.
        """
'''
    found = [line.partition(": ")[2] for line in fragments(source)]
    assert found == ["run_id: of the run.", "model: likewise.", "OSError: it fails."]
