"""Pre-training of Expression-Net on FER2013: learning, the kept trunk, augmentation of faces."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file

from handler.organism.expression_net import FaceResNet
from train.datasets.layouts.fer2013 import EXPRESSIONS, read_fer2013
from train.expression.augment import augment
from train.expression.evaluate import evaluate_expression
from train.expression.fit import TRUNK, fit_expression
from train.expression.module import ExpressionModule
from train.expression.recipe import ExpressionRecipe, load_expression_recipe
from train.fitting.run_folder import RunError
from train.recipes.reading import RecipeError
from train.recipes.recipe import load_recipe

STILL = ExpressionRecipe(crop=48, rotation=0.0, zoom=0.0, contrast=0.0, flip=False)
# Eight channels: narrower 1x1 convolutions hang or crash in oneDNN where there is AVX2 alone.
SMALL = ExpressionRecipe(
    width=8, epochs=8, batch_size=16, lr=0.03, rotation=3.0, label_smoothing=0.0, dropout=0.0
)


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """FER2013 as folders, where a bright bar's height tells the expression."""
    root = tmp_path_factory.mktemp("fer2013")
    rng = np.random.default_rng(0)
    for usage, each in (("Training", 32), ("PublicTest", 4)):
        for place, expression in enumerate(EXPRESSIONS):
            folder = root / usage / expression
            folder.mkdir(parents=True)
            for number in range(each):
                face = rng.integers(0, 60, (48, 48), dtype=np.uint8)
                face[5 + 6 * place : 9 + 6 * place] += 180
                Image.fromarray(face).save(folder / f"{number}.png")
    return root


@pytest.fixture(scope="module")
def trained(faces: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("run")
    fit_expression(SMALL, faces, run, progress_bar=False)
    return run


@pytest.mark.integration
def test_the_trunk_learns_to_tell_expressions(trained: Path) -> None:
    evaluation = json.loads((trained / "evaluation.json").read_text())
    assert evaluation["faces"] == 4 * len(EXPRESSIONS)
    assert evaluation["accuracy"]["whole"]["value"] > 0.8
    assert set(evaluation["accuracy"]) == {"whole", "mirrored", "ten_crop"}
    rows = np.array(evaluation["confusion_matrix"]["rows_true_columns_predicted"])
    assert rows.sum(axis=1).tolist() == [4] * len(EXPRESSIONS)


@pytest.mark.integration
def test_what_is_kept_is_the_trunk_alone_and_says_what_it_is(trained: Path) -> None:
    file = trained / "face-resnet.safetensors"
    with safe_open(file, "pt") as opened:
        described = json.loads(opened.metadata()["vea"])
    assert described["kind"] == "face_resnet"
    assert described["settings"] == {"width": SMALL.width}
    trunk = FaceResNet(SMALL.width)
    trunk.load_state_dict(load_file(file))  # strict: no more and no less


@pytest.mark.integration
def test_the_schooled_trunk_is_the_one_that_was_measured(trained: Path, faces: Path) -> None:
    state = torch.load(trained / "last.ckpt", weights_only=True)["state_dict"]
    module = ExpressionModule(SMALL).eval()
    module.load_state_dict(state)
    module.net.faces.load_state_dict(load_file(trained / "face-resnet.safetensors"))
    pixels, labels = read_fer2013(faces).split("PublicTest")
    with torch.no_grad():
        answers = module(torch.from_numpy(pixels).unsqueeze(1)).argmax(1)
    measured = json.loads((trained / "evaluation.json").read_text())["accuracy"]["whole"]
    assert float((answers == torch.from_numpy(labels)).float().mean()) == pytest.approx(
        measured["value"]
    )


@pytest.mark.integration
def test_statistics_of_the_norms_are_those_of_whole_faces(trained: Path, faces: Path) -> None:
    stem = load_file(trained / "face-resnet.safetensors")
    pixels, _ = read_fer2013(faces).split("Training")
    whole = torch.from_numpy(pixels).unsqueeze(1) / 255.0
    seen = torch.nn.functional.conv2d(whole, stem["0.0.weight"], padding=1)
    torch.testing.assert_close(stem["0.1.running_mean"], seen.mean((0, 2, 3)), rtol=1e-3, atol=1e-4)


@pytest.mark.integration
def test_a_finished_run_that_is_resumed_only_measures(trained: Path, faces: Path) -> None:
    before = (trained / "face-resnet.safetensors").read_bytes()
    fit_expression(SMALL, faces, trained, resume=True, progress_bar=False)
    assert (trained / "face-resnet.safetensors").read_bytes() == before


@pytest.mark.integration
def test_a_run_stopped_between_epochs_ends_as_one_that_was_not(
    trained: Path, faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Stopped(Exception):
        pass

    def stop(module: ExpressionModule) -> None:
        if module.current_epoch == 3:
            raise Stopped

    with monkeypatch.context() as patched:
        patched.setattr(ExpressionModule, "on_train_epoch_start", stop)
        with pytest.raises(Stopped):
            fit_expression(SMALL, faces, tmp_path, progress_bar=False)
    assert not (tmp_path / "face-resnet.safetensors").exists()
    fit_expression(SMALL, faces, tmp_path, resume=True, progress_bar=False)
    assert (tmp_path / "logs-1" / "metrics.csv").exists(), "the epochs before are still told"
    ended, other = (load_file(run / "face-resnet.safetensors") for run in (tmp_path, trained))
    assert all(torch.equal(value, other[name]) for name, value in ended.items())


@pytest.fixture
def copied(trained: Path, tmp_path: Path) -> Path:
    """A finished run to do something with."""
    return shutil.copytree(trained, tmp_path / "run")


@pytest.mark.integration
def test_another_recipe_or_other_faces_cannot_go_on_with_a_run(
    copied: Path, faces: Path, tmp_path: Path
) -> None:
    longer = replace(SMALL, epochs=9)
    with pytest.raises(RunError, match="begun with another recipe: leave out --resume"):
        fit_expression(longer, faces, copied, resume=True, progress_bar=False)
    others = shutil.copytree(faces, tmp_path / "others")
    one, other = others / "Training" / "happy" / "0.png", others / "Training" / "sad" / "0.png"
    other.write_bytes(one.read_bytes())
    with pytest.raises(RunError, match="begun with other faces: leave out --resume"):
        fit_expression(SMALL, others, copied, resume=True, progress_bar=False)
    (copied / "recipe.json").unlink()
    with pytest.raises(RunError, match="does not say how"):
        fit_expression(SMALL, faces, copied, resume=True, progress_bar=False)


@pytest.mark.integration
def test_a_run_that_starts_over_leaves_nothing_of_the_last_one_to_go_on_from(
    copied: Path, faces: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*args: object) -> None:
        raise RuntimeError("the power went out")

    monkeypatch.setattr(ExpressionModule, "training_step", interrupted)
    with pytest.raises(RuntimeError, match="power"):
        fit_expression(replace(SMALL, epochs=9), faces, copied, progress_bar=False, force=True)
    assert list(copied.glob("*.ckpt")) == []
    assert not (copied / TRUNK).exists()
    assert not (copied / "evaluation.json").exists()


@pytest.mark.integration
def test_a_trunk_of_another_recipe_is_replaced_on_demand_only(copied: Path, faces: Path) -> None:
    with pytest.raises(RunError, match=r"run with another recipe: .*--force"):
        fit_expression(replace(SMALL, epochs=9), faces, copied, progress_bar=False)
    assert (copied / TRUNK).exists()


def test_the_recipe_that_travels_with_the_program_is_read_and_overridden() -> None:
    recipe = load_expression_recipe("expression", ["width=8", "epochs=1"])
    assert (recipe.name, recipe.width, recipe.epochs) == ("expression", 8, 1)


def test_the_full_recipe_is_the_network_of_the_papers_authors() -> None:
    recipe = load_expression_recipe("expression-full")
    assert (recipe.name, recipe.width, recipe.epochs) == ("expression-full", 64, 100)


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("precision=foo", "precision is 'foo': expected one of '32', '32-true', 'bf16-mixed'"),
        ("width=6", "width is 6: expected a whole number of at least 8"),
        ("seed=5000000000", "seed is 5000000000"),
        ("dropout=1", "dropout is 1: expected a number of at least 0 and less than 1"),
    ],
)
def test_a_value_out_of_its_range_is_told_by_its_name(override: str, said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        load_expression_recipe("expression", [override])


def test_a_precision_that_yaml_reads_as_a_number_is_taken() -> None:
    assert load_expression_recipe("expression", ["precision=32"]).precision == "32"


def test_a_recipe_of_another_kind_is_refused() -> None:
    with pytest.raises(RecipeError, match="'lite' is of kind 'None': expected 'expression'"):
        load_expression_recipe("lite")
    with pytest.raises(RecipeError, match="of kind 'expression': expected 'emotion'"):
        load_recipe("expression")


def test_without_changes_a_face_stays_as_it_is() -> None:
    face = torch.randint(0, 256, (2, 1, 48, 48), dtype=torch.uint8)
    same = augment(face, STILL, torch.Generator().manual_seed(0))
    torch.testing.assert_close(same, face.float(), atol=1e-2, rtol=0)


def test_half_of_the_faces_are_mirrored() -> None:
    recipe = ExpressionRecipe(crop=48, rotation=0.0, zoom=0.0, contrast=0.0, flip=True)
    face = torch.randint(0, 256, (1, 1, 48, 48), dtype=torch.uint8).expand(200, -1, -1, -1)
    seen = augment(face, recipe, torch.Generator().manual_seed(0))
    mirrored = (seen - face.flip(-1).float()).abs().amax(dim=(1, 2, 3)) < 1e-2
    assert 60 < int(mirrored.sum()) < 140


def test_the_same_seed_changes_faces_the_same_way() -> None:
    face = torch.randint(0, 256, (4, 1, 48, 48), dtype=torch.uint8)
    seen = [augment(face, SMALL, torch.Generator().manual_seed(3)) for _ in range(2)]
    other = augment(face, SMALL, torch.Generator().manual_seed(4))
    assert torch.equal(seen[0], seen[1])
    assert not torch.equal(seen[0], other)
    assert seen[0].shape == (4, 1, SMALL.crop, SMALL.crop)
    assert seen[0].min() >= 0
    assert seen[0].max() <= 255


def test_the_measurement_counts_right_answers() -> None:
    module = ExpressionModule(SMALL).eval()
    with torch.no_grad():
        module.classifier[1].weight.zero_()
        module.classifier[1].bias.copy_(torch.eye(len(EXPRESSIONS))[3])  # always the fourth
    labels = torch.tensor([3, 3, 3, 0])
    test = torch.utils.data.TensorDataset(torch.zeros(4, 1, 48, 48, dtype=torch.uint8), labels)
    measured = evaluate_expression(module, test)
    assert measured["accuracy"]["whole"]["value"] == 0.75
    low, high = measured["accuracy"]["whole"]["interval_95"]
    assert low < 0.75 < high


@pytest.mark.parametrize(
    ("setting", "value"),
    [("width", 0), ("epochs", "ten"), ("crop", 50), ("dropout", 1.0), ("lr", -1), ("zoom", "x")],
)
def test_a_wrong_setting_is_named(setting: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"^{setting} is"):
        ExpressionRecipe(**{setting: value})  # type: ignore[arg-type]
