"""`vea evaluate` and `vea cross-validate`, as a person or a program uses them."""

import errno
import json
import shutil

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from typer.testing import CliRunner

from handler.values.errors import VeaError
from vea.main import build_app

pytestmark = pytest.mark.integration

RECIPE = """
name: tiny
init: random
selector: {size: 64, objects: {source: grid, backbone: resnet18, size: 64, count: 4}}
network:
  global_backbone: null
  object_features: 512
  semantic: {hidden: 8, attention: 8, steps: 2}
  expression_width: null
training: {epochs: 1, batch_size: 4, crop: 64}
"""


def vea(*arguments):
    return CliRunner().invoke(build_app(), [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def data(tmp_path_factory, photo):
    """Six light pictures of awe, six dark ones of fear, three of anger, one file that is none."""
    root = tmp_path_factory.mktemp("data")
    number = 0
    for emotion, level, count in (("awe", 200, 6), ("fear", 20, 6), ("anger", 90, 3)):
        (root / emotion).mkdir()
        for i in range(count):
            pixels = np.asarray(photo(number, (80, 64))) // 6 + level
            Image.fromarray(pixels).save(root / emotion / f"{i}.png")
            number += 1
    (root / "awe" / "broken.jpg").write_bytes(b"\xff\xd8\xff not a photo")
    return root


def test_evaluate_prints_a_summary_and_writes_what_is_asked_for(data, tiny_model, tmp_path):
    figures, predictions, report = tmp_path / "a.json", tmp_path / "p.csv", tmp_path / "report"
    shown = vea(
        *("evaluate", tiny_model, "--data", data),
        *("--json", figures, "--predictions", predictions, "--report", report),
    )
    assert shown.exit_code == 0, shown.exception
    for said in ("awe", "accuracy", "polarity", "easy", "hard", "calibration error", "refused: 1"):
        assert said in shown.stdout
    assert "…" not in shown.stdout, "the tables fit on a terminal of 80 columns"
    document = json.loads(figures.read_text())
    assert document["images"] == 15
    assert document["accuracy"] is not None
    assert len(pd.read_csv(predictions)) == 16
    assert {f.suffix for f in report.iterdir()} == {".json", ".csv", ".png"}


def test_commands_tell_what_a_data_set_says_and_they_do_not_use(data, tiny_model, tmp_path):
    told = shutil.copytree(data, tmp_path / "told")
    shutil.copytree(told / "awe", told / "awe" / "train")
    (told / "notes.txt").write_text("x")
    recipe = tmp_path / "tiny.yaml"
    recipe.write_text(RECIPE)
    for words in (
        ("evaluate", tiny_model, "--data", told, "--split", "all"),
        (
            *("train", "--recipe", recipe, "--data", told, "--run", tmp_path / "run"),
            *("--cache", tmp_path / "cache", "--workers", 0),
        ),
    ):
        shown = vea(*words)
        assert shown.exit_code == 0, shown.exception
        for said in (
            "note: the folders of 7 images name the split train, and none names another",
            "no images in the",
        ):
            assert said in shown.stderr, words
    assert "note: no images in the split val of amusement" in shown.stderr


def test_evaluate_tells_that_a_model_may_have_been_trained_on_what_is_measured(data, tiny_model):
    told = "a model that was trained on this data set has seen some of them"
    assert told in vea("evaluate", tiny_model, "--data", data).stderr
    assert told not in vea("evaluate", tiny_model, "--data", data, "--split", "test").stderr


def test_evaluate_shows_its_figures_even_if_they_cannot_be_written(
    data, tiny_model, tmp_path, monkeypatch
):
    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device", str(tmp_path / "p.csv"))

    monkeypatch.setattr("train.evaluation.evaluate.write_predictions", full)
    shown = vea("evaluate", tiny_model, "--data", data, "--predictions", tmp_path / "p.csv")
    assert "accuracy" in shown.stdout


def test_evaluate_refuses_a_file_it_could_not_write_before_it_works(data, tiny_model, tmp_path):
    shown = vea("evaluate", tiny_model, "--data", data, "--predictions", tmp_path / "p.xlsx")
    assert isinstance(shown.exception, VeaError)
    assert "expected a .parquet or .csv file" in str(shown.exception)
    assert not shown.stdout


def test_cross_validate_prints_means_and_writes_the_folds(data, tmp_path):
    recipe = tmp_path / "tiny.yaml"
    recipe.write_text(RECIPE)
    run = tmp_path / "run"
    shown = vea(
        *("cross-validate", "--recipe", recipe, "--data", data, "--folds", 3, "--least", 4),
        *("--run", run, "--cache", tmp_path / "cache", "--workers", 0),
    )
    assert shown.exit_code == 0, shown.exception
    for said in ("awe", "fear", "mean rate", "±", "anger (3)", "refused: 1"):
        assert said in shown.stdout
    document = json.loads((run / "cross_validation.json").read_text())
    assert document["protocol"] == "one-vs-all"
    assert document["folds"] == 3
    assert document["overall"]["mean_rate"]["mean"] > 0.8, "light and dark are easy to tell"
    others = ("cross-validate", "--recipe", recipe, "--data", data, "--run", run)
    refused = vea(*others, "--folds", 2, "--least", 4, "--cache", tmp_path / "cache")
    assert "cross_validation.json of a run with another protocol" in str(refused.exception)
    refused = vea(*others, "--folds", 3, "--least", 4, "--set", "training.epochs=2")
    assert "another recipe" in str(refused.exception)
    assert json.loads((run / "cross_validation.json").read_text()) == document
    folds = pd.read_csv(run / "folds.csv")
    assert set(folds["fold"]) == {0, 1, 2}
    assert set(folds["emotion"]) == {"awe", "fear"}
    assert "awe/0.png" in set(folds["image"])


def test_cross_validate_says_at_once_what_it_cannot_do(data, tmp_path):
    recipe = tmp_path / "tiny.yaml"
    recipe.write_text(RECIPE)
    shown = vea(
        *("cross-validate", "--recipe", recipe, "--data", data, "--run", tmp_path / "run"),
        *("--cache", tmp_path / "cache"),
    )
    assert isinstance(shown.exception, VeaError)
    assert "fewer than two emotions have 10 different photos" in str(shown.exception)
    assert not (tmp_path / "cache").exists(), "told before anything is selected"


def test_a_file_for_figures_that_cannot_be_written_is_told_before_the_work(
    tiny_model, data, tmp_path
):
    lost = tmp_path / "nowhere" / "figures.json"
    shown = vea("evaluate", tiny_model, "--data", data, "--json", lost)
    assert shown.exit_code != 0
    assert f"cannot write {lost}: there is no folder {lost.parent}" in str(shown.exception)


def test_evaluate_by_group_prints_and_writes_the_groups(data, tiny_model, tmp_path):
    groups, figures = tmp_path / "groups.csv", tmp_path / "a.json"
    lines = [f"{emotion}/{i}.png,[{i % 2}]" for emotion in ("awe", "fear") for i in range(6)]
    groups.write_text("\n".join(["image,half", *lines]) + "\n")
    shown = vea(
        *("evaluate", tiny_model, "--data", data, "--json", figures),
        *("--by", "half", "--groups", groups),
    )
    assert shown.exit_code == 0, shown.exception
    assert "[0]" in shown.stdout
    assert "too few for a conclusion" in shown.stdout
    document = json.loads(figures.read_text())["groups"]
    assert document["column"] == "half"
    assert {name: values["images"] for name, values in document["values"].items()} == {
        "[0]": 6,
        "[1]": 6,
        "(no group)": 3,
    }


def test_a_column_without_its_table_is_refused_before_the_work(data, tiny_model):
    refused = vea("evaluate", tiny_model, "--data", data, "--by", "half")
    assert refused.exit_code == 2
