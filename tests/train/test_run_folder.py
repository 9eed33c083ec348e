"""The folder of a run: what another run may take from it, resume in it, or replace in it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd
import pytest
import torch

from handler.archive.loading import load_archive
from tests.train.tiny_training import QUICK, logged, shortened
from train.fitting.fit import fit
from train.fitting.module import EmotionModule
from train.fitting.run_folder import RunError, read_recipe
from train.recipes.recipe import Recipe

pytestmark = pytest.mark.integration


def test_a_run_says_its_recipe(data: Path, cache_root: Path, tmp_path: Path) -> None:
    recipe = shortened(QUICK, epochs=2)
    fit(recipe, data, tmp_path, cache_root=cache_root, progress_bar=False)
    assert read_recipe(tmp_path) == recipe
    (tmp_path / "recipe.json").write_text('{"recipe": {"name": "tiny", "speed": 3}}')
    for folder in (tmp_path, tmp_path / "absent"):
        with pytest.raises(RunError, match=r"recipe\.json does not have the recipe of a training"):
            read_recipe(folder)


def test_another_recipe_or_other_photos_cannot_go_on_with_a_run(
    data: Path, cache_root: Path, tmp_path: Path
) -> None:
    def resuming(recipe: Recipe, photos: Path) -> None:
        fit(
            recipe, photos, tmp_path / "run", cache_root=cache_root, progress_bar=False, resume=True
        )

    resuming(QUICK, data)  # there is nothing to go on with: it begins
    with pytest.raises(RunError, match="another recipe: leave out --resume"):
        resuming(shortened(QUICK, lr=0.1), data)
    fewer = tmp_path / "data"
    shutil.copytree(data, fewer)
    next((fewer / "train").rglob("*.png")).unlink()
    with pytest.raises(RunError, match="other photos: leave out --resume"):
        resuming(QUICK, fewer)
    resuming(shortened(QUICK, checkpoint_every=3, devices=1), data)
    (tmp_path / "run" / "recipe.json").unlink()
    with pytest.raises(RunError, match="does not say how"):
        resuming(QUICK, data)


def test_a_run_that_starts_over_leaves_nothing_of_the_last_one_to_go_on_from(
    data: Path, cache_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fit(shortened(QUICK, keep="best"), data, tmp_path, cache_root=cache_root, progress_bar=False)

    def interrupted(*args: object) -> None:
        raise RuntimeError("the power went out")

    monkeypatch.setattr(EmotionModule, "training_step", interrupted)
    with pytest.raises(RuntimeError, match="power"):
        fit(QUICK, data, tmp_path, cache_root=cache_root, progress_bar=False, force=True)
    assert list(tmp_path.glob("*.ckpt")) == []
    assert not (tmp_path / "model").exists(), "it would lie beside another recipe"


def test_the_work_of_another_run_is_replaced_on_demand_only(
    data: Path, cache_root: Path, tmp_path: Path
) -> None:
    other, fewer = shortened(QUICK, lr=0.1), shutil.copytree(data, tmp_path / "data")
    next((fewer / "train").rglob("*.png")).unlink()
    run = tmp_path / "run"

    def train(recipe: Recipe, photos: Path = data, *, force: bool = False) -> str:
        result = fit(recipe, photos, run, cache_root=cache_root, progress_bar=False, force=force)
        return load_archive(result.model).digest

    first = train(QUICK)
    with pytest.raises(RunError, match=r"holds the model of a run with another recipe: .*--force"):
        train(other)
    with pytest.raises(RunError, match=r"holds the model of a run with other photos: .*--force"):
        train(QUICK, fewer)
    assert load_archive(run / "model").digest == first
    assert train(QUICK) == first, "the same run again replaces nothing"
    assert train(other, force=True) != first


def test_a_folder_that_cannot_be_made_is_told_before_the_data_set_is_read(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match=r"cannot write to the run's folder .*: Not a directory"):
        fit(QUICK, tmp_path / "absent", tmp_path / "file" / "run", cache_root=tmp_path)


@pytest.mark.parametrize("name", ["last.ckpt", "best.ckpt"])
@pytest.mark.parametrize("damage", [b"", b"no checkpoint", None])
def test_a_damaged_checkpoint_is_told_before_the_data_set_is_read(
    data: Path, cache_root: Path, tmp_path: Path, name: str, damage: bytes | None
) -> None:
    recipe = shortened(QUICK, keep="best")
    fit(recipe, data, tmp_path / "run", cache_root=cache_root, progress_bar=False)
    checkpoint = tmp_path / "run" / name
    content = checkpoint.read_bytes()
    checkpoint.write_bytes(content[: len(content) // 2] if damage is None else damage)
    with pytest.raises(RunError, match=rf"{name} is missing or damaged: leave out --resume"):
        fit(recipe, tmp_path / "absent", tmp_path / "run", cache_root=cache_root, resume=True)


def test_the_logs_before_a_resumption_are_set_aside(
    data: Path, cache_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = shortened(QUICK, epochs=3)
    step = EmotionModule.training_step

    def interrupted(module: EmotionModule, *args: object) -> torch.Tensor:
        if module.current_epoch == 2:
            raise RuntimeError("the power went out")
        return step(module, *args)

    monkeypatch.setattr(EmotionModule, "training_step", interrupted)
    with pytest.raises(RuntimeError, match="power"):
        fit(recipe, data, tmp_path, cache_root=cache_root, progress_bar=False)
    monkeypatch.setattr(EmotionModule, "training_step", step)
    fit(recipe, data, tmp_path, cache_root=cache_root, progress_bar=False, resume=True)
    before = pd.read_csv(tmp_path / "logs-1" / "metrics.csv")["val_loss"].dropna()
    assert len(before) == 2
    assert len(logged(tmp_path)["val_loss"].dropna()) == 1


def test_resuming_a_finished_run_gives_its_result_again(
    data: Path, cache_root: Path, tmp_path: Path
) -> None:
    first = fit(QUICK, data, tmp_path, cache_root=cache_root, progress_bar=False)
    digest = load_archive(first.model).digest
    again = fit(QUICK, data, tmp_path, cache_root=cache_root, progress_bar=False, resume=True)
    assert again == first
    assert load_archive(again.model).digest == digest
