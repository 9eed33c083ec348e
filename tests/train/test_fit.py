"""A training run on sixteen generated pictures: what it writes, freezes, and goes on from."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import pytorch_lightning as lightning
import torch

from handler.archive.loading import load_archive
from handler.organism.expression_net import ExpressionNet
from handler.predictor import Predictor
from handler.stimuli.selector import StimuliSelector
from tests.train.tiny_training import QUICK, RECIPE, logged, shortened
from train.datasets.table import DatasetError
from train.evaluation.evaluate import evaluate, write_predictions
from train.fitting.builders import build_parts
from train.fitting.fit import fit
from train.fitting.module import frozen_stages
from train.fitting.run_folder import RunError
from train.recipes.reading import RecipeError
from train.recipes.recipe import load_recipe
from train.stimuli.cache import CacheError
from train.weights.home import Header, write_weights

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, data: Path, cache_root: Path) -> Path:
    """One finished run of the whole network."""
    folder = tmp_path_factory.mktemp("run")
    fit(RECIPE, data, folder, cache_root=cache_root, progress_bar=False)
    return folder


def test_a_run_writes_a_model_that_predicts(run: Path, data: Path) -> None:
    predictor = Predictor.load(run / "model")
    files = sorted((data / "val").rglob("*.png"))
    answers = predictor.predict([file.read_bytes() for file in files])
    assert len(answers) == 6
    assert all(sum(a.probabilities.values()) == pytest.approx(1, abs=1e-6) for a in answers)
    assert predictor.model.name == "vea-tiny"


def test_a_run_says_what_it_was_made_of(run: Path) -> None:
    facts = json.loads((run / "recipe.json").read_text())
    assert facts["images"] == {"train": 10, "val": 6}
    assert facts["recipe"]["training"]["epochs"] == 1
    assert facts["unreadable_skipped"] == {"train": 0, "val": 0}
    training = load_archive(run / "model").card["training"]
    assert set(training.pop("calibration")) >= {"factors", "accuracy_cross_validated"}
    kept = training.pop("kept")
    assert (kept["weights"], kept["epoch"]) == ("last", 1)
    assert kept["val_accuracy"] == pytest.approx(logged(run)["val_accuracy"].dropna().item())
    assert training == facts
    assert (run / "last.ckpt").is_file()


def test_losses_and_accuracies_of_each_epoch_are_logged(run: Path) -> None:
    metrics = logged(run)
    for name in ("train_loss_epoch", "val_loss", "val_accuracy", "val_polarity_accuracy"):
        values = metrics[name].dropna()
        assert len(values) == 1
        assert np.isfinite(values).all()


def test_the_network_learns_to_tell_light_from_dark(
    data: Path, cache_root: Path, tmp_path: Path
) -> None:
    recipe = shortened(QUICK, epochs=30, lr=0.02)
    result = fit(recipe, data, tmp_path, cache_root=cache_root, progress_bar=False)
    losses = logged(tmp_path)["train_loss_epoch"].dropna().tolist()
    assert losses[-1] < losses[0] / 2
    assert result.val_polarity_accuracy >= result.val_accuracy > 0.5
    assert result.model == tmp_path / "model"


def test_frozen_stages_keep_their_weights_and_their_statistics(run: Path) -> None:
    lightning.seed_everything(RECIPE.seed, workers=True, verbose=False)
    _, network = build_parts(RECIPE)
    frozen = frozen_stages(network.global_net.backbone, 2)
    of_frozen = {id(value) for part in frozen for value in part.state_dict(keep_vars=True).values()}
    before = network.state_dict(keep_vars=True)
    after = load_archive(run / "model").network.state_dict()
    moved, kept = [], []
    for name, value in before.items():
        same = torch.equal(value.detach().half().float(), after[name].half().float())
        (kept if same else moved).append(name)
        if id(value) in of_frozen:
            assert same, name
    assert any("running_mean" in name for name in kept)
    assert any("global_net" in name and "running_mean" in name for name in moved)
    assert any("global_net" in name and "conv_pw" in name for name in moved)
    assert any(name.startswith("semantic_net") for name in moved)
    assert any(name.startswith("response") for name in moved)


@pytest.mark.parametrize("epochs", [1, 2, 3])
@pytest.mark.parametrize("batch_size", [2, 10])
def test_a_run_of_few_steps_ends_well(
    data: Path, cache_root: Path, tmp_path: Path, epochs: int, batch_size: int
) -> None:
    recipe = shortened(QUICK, epochs=epochs, batch_size=batch_size)
    fit(recipe, data, tmp_path, cache_root=cache_root, progress_bar=False)
    assert len(logged(tmp_path)["val_loss"].dropna()) == epochs


def test_a_second_run_in_the_same_folder_leaves_its_own_checkpoint(
    data: Path, cache_root: Path, tmp_path: Path
) -> None:
    fit(QUICK, data, tmp_path, cache_root=cache_root, progress_bar=False)
    recipe = shortened(QUICK, epochs=2)
    fit(recipe, data, tmp_path, cache_root=cache_root, progress_bar=False, force=True)
    assert [file.name for file in tmp_path.glob("*.ckpt")] == ["last.ckpt"]
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["global_step"] == 4


def test_the_same_seed_gives_the_same_model(data: Path, cache_root: Path, tmp_path: Path) -> None:
    digests = set()
    for name in ("one", "two"):
        result = fit(QUICK, data, tmp_path / name, cache_root=cache_root, progress_bar=False)
        digests.add(load_archive(result.model).digest)
    other = replace(QUICK, seed=2)
    result = fit(other, data, tmp_path / "other", cache_root=cache_root, progress_bar=False)
    assert len(digests) == 1
    assert load_archive(result.model).digest not in digests


def test_a_data_set_without_validation_photos_is_refused_before_any_work(
    photo, tmp_path: Path
) -> None:
    folder = tmp_path / "data" / "train" / "awe"
    folder.mkdir(parents=True)
    photo(1).save(folder / "only.png")  # nothing to set aside
    with pytest.raises(DatasetError, match="no split 'val'"):
        fit(QUICK, tmp_path / "data", tmp_path / "run", cache_root=tmp_path / "c")
    assert not (tmp_path / "c").exists()


@pytest.mark.parametrize(("split", "said"), [("train", "training"), ("val", "validation")])
def test_a_split_without_a_readable_photo_is_refused_before_an_earlier_run_is_touched(
    data: Path, cache_root: Path, tmp_path: Path, split: str, said: str
) -> None:
    broken = shutil.copytree(data, tmp_path / "data")
    for number, file in enumerate((broken / split).rglob("*.png")):
        file.write_bytes(f"no picture {number}".encode())
    run = tmp_path / "run"
    run.mkdir()
    (run / "last.ckpt").write_text("hours of work")
    with pytest.raises(CacheError, match=f"no photo of the {said} split could be read") as one:
        fit(QUICK, broken, run, cache_root=cache_root, progress_bar=False, force=True)
    assert "vea data check DIR --decode" in str(one.value)
    assert [file.name for file in run.iterdir()] == ["last.ckpt"]


def test_progress_names_the_split(data: Path, tmp_path: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    fit(
        QUICK,
        data,
        tmp_path / "run",
        cache_root=tmp_path / "cache",
        progress_bar=False,
        on_progress=lambda *step: seen.append(step),
    )
    assert ("stimuli train", 10, 10) in seen
    assert ("stimuli val", 6, 6) in seen


def test_objects_of_another_size_than_the_network_expects_are_refused() -> None:
    recipe = replace(RECIPE, network=replace(RECIPE.network, object_features=2048))
    with pytest.raises(RecipeError, match=r"object_features is 2048.*1280"):
        build_parts(recipe)


def test_an_object_setting_that_there_is_not_is_refused_in_one_line() -> None:
    objects = {**RECIPE.selector.objects, "counts": 3}
    recipe = replace(RECIPE, selector=replace(RECIPE.selector, objects=objects))
    with pytest.raises(RecipeError, match="counts"):
        build_parts(recipe)


def test_runs_share_the_stimuli_of_a_selector(
    data: Path, cache_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fit(QUICK, data, tmp_path / "one", cache_root=cache_root, progress_bar=False)

    def refuse(*args: object) -> None:
        raise AssertionError("everything was selected for the first run")

    monkeypatch.setattr(StimuliSelector, "select", refuse)
    other = replace(shortened(QUICK, lr=1e-3, batch_size=4, flip=False), name="other")
    fit(other, data, tmp_path / "two", cache_root=cache_root, progress_bar=False)


def test_the_archive_says_what_the_weights_of_its_objects_dictate(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def completed(config: dict[str, object], name: str) -> dict[str, object]:
        assert name == "random"
        return {"count": 3} | {key: value for key, value in config.items() if key != "count"}

    monkeypatch.setattr("train.fitting.builders.object_settings", completed)
    result = fit(QUICK, data, tmp_path / "run", cache_root=tmp_path / "c", progress_bar=False)
    assert load_archive(result.model).config.selector.objects["count"] == 3


def test_parts_start_with_the_weights_that_the_recipe_names(tmp_path: Path) -> None:
    net = ExpressionNet(width=2)
    header = Header(kind="face_resnet", settings={"width": 2}, source="a test", sha256="0" * 64)
    place = write_weights(tmp_path / "faces.safetensors", header, net.faces.state_dict())
    _, network = build_parts(replace(QUICK, init={"expression": str(place)}))
    started = network.expression_net.faces.state_dict()
    assert all(torch.equal(started[name], value) for name, value in net.faces.state_dict().items())


def test_decoding_the_photos_in_every_epoch_gives_the_same_model(
    data: Path, cache_root: Path, tmp_path: Path
) -> None:
    made = [
        fit(
            shortened(RECIPE, colour=colour),
            data,
            tmp_path / str(colour),
            cache_root=cache_root,
            progress_bar=False,
            workers=0,
        )
        for colour in (True, False)
    ]
    one, other = (load_archive(result.model).network.state_dict() for result in made)
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_the_papers_way_of_training_runs_from_end_to_end(
    data: Path, cache_root: Path, tmp_path: Path
) -> None:
    paper = load_recipe("paper").training
    training = replace(paper, epochs=2, batch_size=5, crop=48)
    selector = replace(RECIPE.selector, fit="crop", size=48, resize=56)
    recipe = replace(RECIPE, selector=selector, training=training)
    result = fit(recipe, data, tmp_path, cache_root=cache_root, progress_bar=False, workers=2)
    assert result.calibration is None
    assert "calibration" not in load_archive(result.model).card["training"]
    losses = logged(tmp_path)["train_loss_epoch"].dropna()
    assert np.isfinite(losses).all()
    assert (tmp_path / "best.ckpt").is_file()


def test_the_best_epoch_is_kept_with_its_figures(
    data: Path, cache_root: Path, tmp_path: Path
) -> None:
    recipe = shortened(QUICK, epochs=12, lr=0.02, batch_size=2, keep="best", calibrate=False)
    result = fit(recipe, data, tmp_path, cache_root=cache_root, progress_bar=False)
    accuracies = logged(tmp_path)["val_accuracy"].dropna().tolist()
    best = 1 + accuracies.index(max(accuracies))
    assert 1 < best < 12, "else the comparison shows nothing"
    assert result.val_accuracy == pytest.approx(max(accuracies))
    assert load_archive(result.model).card["training"]["kept"]["epoch"] == best
    kept = torch.load(tmp_path / "best.ckpt", weights_only=True)["state_dict"]
    last = torch.load(tmp_path / "last.ckpt", weights_only=True)["state_dict"]
    name = "response.classifier.bias"
    model = load_archive(result.model).network.state_dict()[name]
    assert torch.allclose(model, kept[f"network.{name}"], atol=1e-3)
    assert not torch.allclose(model, last[f"network.{name}"], atol=1e-3)
    predictor = Predictor.load(result.model)
    files = sorted((data / "val").rglob("*.png"))
    answers = predictor.predict([file.read_bytes() for file in files])
    hits = [a.emotion == f.parent.name for a, f in zip(answers, files, strict=True)]
    assert sum(hits) / len(hits) == pytest.approx(result.val_accuracy)


def test_training_ends_early_when_validation_gets_no_better(
    data: Path, cache_root: Path, tmp_path: Path
) -> None:
    recipe = shortened(QUICK, epochs=30, lr=0.0, early_stopping=2)
    fit(recipe, data, tmp_path, cache_root=cache_root, progress_bar=False)
    assert len(logged(tmp_path)["val_accuracy"].dropna()) == 3
    fit(recipe, data, tmp_path, cache_root=cache_root, progress_bar=False, resume=True)
    assert not (tmp_path / "logs" / "metrics.csv").exists(), "a run that has ended stays ended"


def test_averaged_weights_are_the_ones_that_are_kept(
    data: Path, cache_root: Path, tmp_path: Path
) -> None:
    recipe = shortened(QUICK, epochs=3, ema=0.9, calibrate=False, lr=0.01)
    result = fit(recipe, data, tmp_path, cache_root=cache_root, progress_bar=False)
    checkpoint = torch.load(tmp_path / "last.ckpt", weights_only=True)
    name = "response.classifier.bias"
    model = load_archive(result.model).network.state_dict()[name]
    averaged = checkpoint["state_dict"][f"network.{name}"]
    current = checkpoint["current_model_state"][f"network.{name}"]
    assert torch.allclose(model, averaged, atol=1e-3)
    assert not torch.allclose(current, averaged, atol=1e-3)


def test_half_precision_trains(data: Path, cache_root: Path, tmp_path: Path) -> None:
    recipe = shortened(RECIPE, precision="bf16-mixed")
    result = fit(recipe, data, tmp_path, cache_root=cache_root, progress_bar=False)
    assert np.isfinite(logged(tmp_path)["train_loss_epoch"].dropna()).all()
    assert all(v.isfinite().all() for v in load_archive(result.model).network.state_dict().values())


def test_a_run_learns_what_another_model_says_of_the_photos(
    run: Path, data: Path, cache_root: Path, tmp_path: Path
) -> None:
    spoken = tmp_path / "spoken.parquet"
    write_predictions(evaluate(Predictor.load(run / "model"), data, split="train").table, spoken)

    def learn(to: str, *files: Path, resume: bool = False) -> dict[str, torch.Tensor]:
        fit(
            QUICK,
            data,
            tmp_path / to,
            cache_root=cache_root,
            soft_labels=files,
            resume=resume,
            progress_bar=False,
        )
        return load_archive(tmp_path / to / "model").network.state_dict()

    plain, softened = learn("plain"), learn("softened", spoken)
    assert any(not torch.equal(plain[name], softened[name]) for name in plain)
    facts = json.loads((tmp_path / "softened" / "recipe.json").read_text())
    assert facts["soft_labels"] == [hashlib.sha256(spoken.read_bytes()).hexdigest()]
    with pytest.raises(RunError, match="other soft labels"):
        learn("softened", resume=True)
