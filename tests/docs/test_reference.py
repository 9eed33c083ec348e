"""The generated pages say what the code says."""

from __future__ import annotations

from pathlib import Path

from docs.generate.__main__ import outdated, pages
from docs.generate.performance import missing_figures


def test_the_generated_pages_are_current() -> None:
    assert outdated() == [], "run `make docs`"


def test_the_figures_of_the_page_of_performance_exist() -> None:
    assert missing_figures() == [], "run `make docs`"


def test_pages_that_were_edited_or_are_missing_are_noticed(tmp_path: Path) -> None:
    for name, text in pages().items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert outdated(tmp_path) == []
    (tmp_path / "reference" / "cli.md").write_text("edited")
    (tmp_path / "reference" / "recipe.md").unlink()
    assert outdated(tmp_path) == ["reference/cli.md", "reference/recipe.md"]
