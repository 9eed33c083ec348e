"""`vea ablate`, from photos to a table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from click.testing import Result
from typer.testing import CliRunner

from handler.values.errors import VeaError
from vea.main import build_app

RECIPE = """
name: tiny
init: random
selector: {size: 32, objects: {source: grid, backbone: resnet18, size: 64, count: 10}}
network:
  global_backbone: resnet18
  object_features: 512
  semantic: {hidden: 8, attention: 8, steps: 3}
  expression_width: 2
training: {crop: 32}
"""


def vea(*arguments: object) -> Result:
    return CliRunner().invoke(build_app(), [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, photo: Any) -> Path:
    """Six photos for training, three for evaluation."""
    root = tmp_path_factory.mktemp("data")
    for number in range(9):
        folder = root / ("train" if number < 6 else "val") / ("awe" if number % 2 else "fear")
        folder.mkdir(parents=True, exist_ok=True)
        photo(number, (40, 40)).save(folder / f"{number}.png")
    return root


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(RECIPE)
    return path


@pytest.mark.integration
def test_a_study_leaves_a_table_a_csv_and_a_chart_and_is_not_done_twice(
    data: Path, recipe: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    asked = (
        *("ablate", "steps", "--data", data, "--recipe", recipe, "--run", run),
        *("--cache", tmp_path / "cache", "--seeds", 1, "--set", "ablation.epochs=1"),
    )
    shown = vea(*asked, "--only", "1 current")
    assert shown.exit_code == 0, shown.exception
    assert "1 current" in shown.stdout
    assert "3 previous" in shown.stdout
    assert {p.name for p in (run / "steps").iterdir()} == {"table.md", "table.csv", "plot.png"}
    assert pd.read_csv(run / "steps" / "table.csv")["row"].tolist() == ["3 previous", "1 current"]
    times = {p: p.stat().st_mtime_ns for p in (run / "trainings").iterdir()}
    assert len(times) == 2
    assert vea(*asked, "--only", "2 current").exit_code == 0
    assert all(p.stat().st_mtime_ns == time for p, time in times.items())
    assert len(pd.read_csv(run / "steps" / "table.csv")) == 3, "what was there is in the table too"


def test_a_study_can_be_trained_on_a_part_of_the_photos(
    data: Path, recipe: Path, tmp_path: Path
) -> None:
    shown = vea(
        *("ablate", "branches", "--data", data, "--recipe", recipe, "--run", tmp_path / "run"),
        *("--cache", tmp_path / "cache", "--seeds", 1, "--only", "E"),
        *("--set", "ablation.epochs=1", "--set", "ablation.photos=4"),
    )
    assert shown.exit_code == 0, shown.exception
    table = (tmp_path / "run" / "branches" / "table.md").read_text()
    assert "4 for training, 3 of the split val" in table


def test_an_unknown_row_is_told_before_any_work(data: Path, recipe: Path, tmp_path: Path) -> None:
    shown = vea(
        *("ablate", "branches", "--data", data, "--recipe", recipe, "--only", "G+X"),
        *("--cache", tmp_path / "cache", "--run", tmp_path / "run"),
    )
    assert isinstance(shown.exception, VeaError)
    assert "has no row 'G+X'" in str(shown.exception)
    assert not (tmp_path / "cache").exists()


def test_the_help_says_that_backbones_are_frozen_and_shows_an_example() -> None:
    shown = vea("ablate", "--help")
    assert shown.exit_code == 0
    assert "FROZEN" in shown.stdout
    assert "vea ablate branches --data FI" in shown.stdout
