"""A training run on sixteen generated pictures: what it writes, freezes, and goes on from."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import pytorch_lightning as lightning
import torch
from PIL import Image

from handler.archive import load_archive
from handler.network import NetworkConfig
from handler.organism.semantic_net import SemanticConfig
from handler.predictor import Predictor
from handler.stimuli.selector import SelectorConfig
from handler.stimuli.stimuli import Faces, Objects, Stimuli
from train.datasets.folders import DatasetError
from train.fit import build_parts, fit
from train.losses import HierarchicalCrossEntropy
from train.module import EmotionModule, frozen_stages
from train.recipe import Recipe, RecipeError, TrainingConfig

LITE = "tf_efficientnet_lite0"
RECIPE = Recipe(
    name="tiny",
    init="random",
    selector=SelectorConfig(
        size=64, objects={"source": "grid", "backbone": LITE, "size": 64, "count": 4}
    ),
    network=NetworkConfig(
        global_backbone=LITE,
        object_features=1280,
        semantic=SemanticConfig(hidden=8, attention=8, steps=2),
        expression_width=2,
    ),
    training=TrainingConfig(epochs=1, batch_size=5, crop=64, freeze_stages=2),
)
# Without a backbone to train: seconds become tenths of seconds.
QUICK = replace(RECIPE, network=replace(RECIPE.network, global_backbone=None))


def shortened(recipe: Recipe, **training: object) -> Recipe:
    return replace(recipe, training=replace(recipe.training, **training))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, photo) -> Path:
    """Ten pictures to train on, six to validate on; dark ones are fear, light ones awe."""
    root = tmp_path_factory.mktemp("data")
    for split, count in (("train", 5), ("val", 3)):
        for emotion, level in (("awe", 200), ("fear", 20)):
            folder = root / split / emotion
            folder.mkdir(parents=True)
            for i in range(count):
                pixels = np.asarray(photo(len(list(root.rglob("*.png"))), (80, 64))) // 6 + level
                Image.fromarray(pixels).save(folder / f"{i}.png")
    return root


@pytest.fixture(scope="module")
def cache_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, data: Path, cache_root: Path) -> Path:
    """One finished run of the whole network."""
    folder = tmp_path_factory.mktemp("run")
    fit(RECIPE, data, folder, cache_root=cache_root, progress_bar=False)
    return folder


def logged(run: Path) -> pd.DataFrame:
    return pd.read_csv(run / "logs" / "metrics.csv")


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


@pytest.mark.parametrize("seed", [1, 2])
def test_the_optimiser_lists_parameters_in_the_order_of_the_network(seed: int) -> None:
    # A checkpoint knows moments by position: in another order they would be another layer's.
    torch.manual_seed(seed)
    _, network = build_parts(shortened(RECIPE, freeze_stages=2))
    module = EmotionModule(network, RECIPE.training)
    position = {id(p): place for place, p in enumerate(network.parameters())}
    groups = module.parameter_groups()
    listed = [[position[id(p)] for p in group["params"]] for group in groups]
    assert all(places == sorted(places) for places in listed)
    trained = [position[id(p)] for p in network.parameters() if p.requires_grad]
    assert sorted(places for group in listed for places in group) == trained
    assert [group["lr"] for group in groups] == [
        RECIPE.training.lr_backbone,
        RECIPE.training.lr,
    ]


@pytest.mark.parametrize("backbone", [LITE, "resnet18"])
def test_freezing_no_stage_trains_everything(backbone: str) -> None:
    recipe = replace(RECIPE, network=replace(RECIPE.network, global_backbone=backbone))
    _, network = build_parts(recipe)
    assert frozen_stages(network.global_net.backbone, 0) == []
    EmotionModule(network, replace(RECIPE.training, freeze_stages=0))
    assert all(p.requires_grad for p in network.parameters())


@pytest.mark.parametrize(("backbone", "stages"), [(LITE, 8), ("resnet18", 5)])
def test_more_frozen_stages_than_there_are_is_refused(backbone: str, stages: int) -> None:
    recipe = replace(RECIPE, network=replace(RECIPE.network, global_backbone=backbone))
    _, network = build_parts(recipe)
    with pytest.raises(RecipeError, match=f"freeze_stages is {stages}: .* has {stages - 1}"):
        frozen_stages(network.global_net.backbone, stages)


def test_objects_of_another_size_than_the_network_expects_are_refused() -> None:
    recipe = replace(RECIPE, network=replace(RECIPE.network, object_features=2048))
    with pytest.raises(RecipeError, match=r"object_features is 2048.*1280"):
        build_parts(recipe)


def test_the_branch_weight_adds_the_loss_of_each_branch_that_has_its_stimulus() -> None:
    _, network = build_parts(QUICK)
    network = network.train()
    for part in network.modules():
        if isinstance(part, torch.nn.Dropout):
            part.p = 0.0
    faces = torch.tensor([1, 0, 1])
    seen = Stimuli(
        colour=torch.zeros(3, 3, 8, 8, dtype=torch.uint8),
        objects=Objects(
            features=torch.randn(3, 4, 1280),
            boxes=torch.zeros(3, 4, 4),
            scores=torch.zeros(3, 4),
            labels=torch.zeros(3, 4, dtype=torch.int64),
            mask=torch.ones(3, 4, dtype=torch.bool),
        ),
        faces=Faces(
            crops=torch.randint(0, 256, (3, 1, 48, 48), dtype=torch.uint8),
            boxes=torch.zeros(3, 4),
            scores=torch.zeros(3),
            counts=faces,
        ),
    )
    target = torch.tensor([0, 3, 6])

    def loss(weight: float) -> float:
        module = EmotionModule(network, TrainingConfig(branch_weight=weight))
        module.log = lambda *args, **kwargs: None  # there is no trainer to log to
        return float(module.training_step((seen, target), 0))

    (semantic, _), (expression, _) = network(seen).alone
    measure = HierarchicalCrossEntropy(network.wheel)
    here = faces.bool()
    extra = measure(semantic, target) + measure(expression[here], target[here])
    assert loss(0.5) - loss(0.0) == pytest.approx(0.5 * float(extra), rel=1e-4)


@pytest.mark.parametrize("epochs", [1, 2, 3])
@pytest.mark.parametrize("batch_size", [2, 10])
def test_a_run_of_few_steps_ends_well(
    data: Path, cache_root: Path, tmp_path: Path, epochs: int, batch_size: int
) -> None:
    recipe = shortened(QUICK, epochs=epochs, batch_size=batch_size)
    fit(recipe, data, tmp_path, cache_root=cache_root, progress_bar=False)
    assert len(logged(tmp_path)["val_loss"].dropna()) == epochs


def test_an_interrupted_run_goes_on_where_it_stopped(
    data: Path, cache_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = shortened(QUICK, epochs=3)
    entered: list[int] = []
    start = EmotionModule.on_train_epoch_start

    def interrupted(module: EmotionModule) -> None:
        if module.current_epoch == 2:
            raise RuntimeError("the power went out")
        start(module)

    def watched(module: EmotionModule) -> None:
        entered.append(module.current_epoch)
        start(module)

    monkeypatch.setattr(EmotionModule, "on_train_epoch_start", interrupted)
    with pytest.raises(RuntimeError, match="power"):
        fit(recipe, data, tmp_path, cache_root=cache_root, progress_bar=False)
    monkeypatch.setattr(EmotionModule, "on_train_epoch_start", watched)
    fit(recipe, data, tmp_path, cache_root=cache_root, progress_bar=False, resume=True)
    assert entered == [2]
    checkpoint = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert checkpoint["global_step"] == 6  # two steps in each of three epochs
    before = pd.read_csv(tmp_path / "logs-1" / "metrics.csv")["val_loss"].dropna()
    assert len(before) == 2
    assert len(logged(tmp_path)["val_loss"].dropna()) == 1
    assert (tmp_path / "model" / "config.json").is_file()


def test_resuming_a_finished_run_gives_its_result_again(
    data: Path, cache_root: Path, tmp_path: Path
) -> None:
    first = fit(QUICK, data, tmp_path, cache_root=cache_root, progress_bar=False)
    again = fit(QUICK, data, tmp_path, cache_root=cache_root, progress_bar=False, resume=True)
    assert again.val_accuracy == pytest.approx(first.val_accuracy)
    assert again.val_polarity_accuracy == pytest.approx(first.val_polarity_accuracy)


def test_a_second_run_in_the_same_folder_leaves_its_own_checkpoint(
    data: Path, cache_root: Path, tmp_path: Path
) -> None:
    fit(QUICK, data, tmp_path, cache_root=cache_root, progress_bar=False)
    recipe = shortened(QUICK, epochs=2)
    fit(recipe, data, tmp_path, cache_root=cache_root, progress_bar=False)
    assert [file.name for file in tmp_path.glob("*.ckpt")] == ["last.ckpt"]
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["global_step"] == 4


def test_without_resume_a_run_starts_over(
    data: Path, cache_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fit(QUICK, data, tmp_path, cache_root=cache_root, progress_bar=False)
    entered: list[int] = []
    start = EmotionModule.on_train_epoch_start

    def watched(module: EmotionModule) -> None:
        entered.append(module.current_epoch)
        start(module)

    monkeypatch.setattr(EmotionModule, "on_train_epoch_start", watched)
    fit(QUICK, data, tmp_path, cache_root=cache_root, progress_bar=False)
    assert entered == [0]


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
    data: Path, tmp_path: Path
) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "train").symlink_to(data / "train")
    with pytest.raises(DatasetError, match="no split 'val'"):
        fit(QUICK, tmp_path / "data", tmp_path / "run", cache_root=tmp_path / "c")
    assert not (tmp_path / "c").exists()


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
