"""A training run from a recipe and a data set to a model folder that `vea package` can pack.

RUN/recipe.json      what was asked for, and what the data set held
RUN/logs/metrics.csv loss and accuracy after each epoch; before a resumption, RUN/logs-1/...
RUN/last.ckpt        to go on from (only this program reads it)
RUN/model/           the archive, unpacked
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pytorch_lightning as lightning
import torch
from pytorch_lightning.callbacks import ModelCheckpoint, TQDMProgressBar
from pytorch_lightning.loggers import CSVLogger

from handler import emotions
from handler.archive import ArchiveConfig, write_model_folder
from handler.network import StimuliAwareNetwork
from handler.stimuli.objects.grid import GridObjects
from handler.stimuli.selector import StimuliSelector
from train.calibration import Calibration, calibrate
from train.data import training_loader, validation_loader
from train.datasets.folders import DatasetTable, read_folders
from train.module import EmotionModule
from train.recipe import Recipe, RecipeError
from train.stimuli_cache import StimuliCache, build_cache
from train.weights import landmark_file, load_imagenet

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class FitResult:
    """What a run came to.

    Attributes:
        model: the model folder.
        val_accuracy: after the last epoch, on the validation split, 0 to 1.
        val_polarity_accuracy: likewise.
        calibration: of the branches, which came after that.
    """

    model: Path
    val_accuracy: float
    val_polarity_accuracy: float
    calibration: Calibration


def fit(
    recipe: Recipe,
    data: Path,
    run: Path,
    *,
    cache_root: Path,
    resume: bool = False,
    progress_bar: bool = True,
    on_progress: Progress = lambda what, done, total: None,
) -> FitResult:
    """Train.

    Args:
        recipe: what to make.
        data: folder of emotion-named folders.
        run: where the run writes.
        cache_root: where stimuli caches are kept.
        resume: go on from ``RUN/last.ckpt`` if there is one.
        progress_bar: show Lightning's.
        on_progress: called while stimuli are selected.

    Raises:
        DatasetError, RecipeError, WeightsMissing: as their messages say.
    """
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)  # it advertises
    lightning.seed_everything(recipe.seed, workers=True, verbose=False)
    dataset = read_folders(data, emotions.wheel(recipe.network.wheel))
    selector, network = build_parts(recipe)
    train_rows, val_rows = dataset.split("train"), dataset.split("val")
    caches = {
        "train": _cache("train", train_rows, selector, cache_root, on_progress),
        "val": _cache("val", val_rows, selector, cache_root, on_progress),
    }
    run.mkdir(parents=True, exist_ok=True)
    facts = _facts(recipe, dataset, {name: len(c.refused) for name, c in caches.items()})
    (run / "recipe.json").write_text(json.dumps(facts, indent=2) + "\n")

    if resume:
        _keep_logs(run)
    module = EmotionModule(network, recipe.training)
    callbacks: list[Any] = [
        # One file, replaced: a second run must not leave the first one's state to go on from.
        ModelCheckpoint(dirpath=run, filename="last", save_last=False, enable_version_counter=False)
    ]
    if progress_bar:
        callbacks.append(TQDMProgressBar(refresh_rate=10))
    trainer = lightning.Trainer(
        max_epochs=recipe.training.epochs,
        callbacks=callbacks,
        logger=CSVLogger(run, name="", version="logs"),
        enable_progress_bar=progress_bar,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        log_every_n_steps=20,
    )
    checkpoint = run / "last.ckpt"
    validation = validation_loader(
        caches["val"], val_rows["label"].tolist(), batch_size=recipe.training.batch_size
    )
    trainer.fit(
        module,
        training_loader(
            caches["train"], train_rows["label"].tolist(), recipe.training, seed=recipe.seed
        ),
        validation,
        ckpt_path=str(checkpoint) if resume and checkpoint.exists() else None,
        weights_only=False,
    )
    if "val_accuracy" not in trainer.callback_metrics:  # resumed after its last epoch
        trainer.validate(module, validation, verbose=False)
    calibration = calibrate(module.network.cpu(), validation)
    metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
    write_model_folder(
        run / "model",
        config=ArchiveConfig(f"vea-{recipe.name}", "0", recipe.network, recipe.selector),
        network=module.network,
        selector=selector,
        landmarks=landmark_file(),
        card={"training": {**facts, "calibration": asdict(calibration)}},
    )
    return FitResult(
        run / "model", metrics["val_accuracy"], metrics["val_polarity_accuracy"], calibration
    )


def build_parts(recipe: Recipe) -> tuple[StimuliSelector, StimuliAwareNetwork]:
    """Selector and network as the recipe starts them.

    Raises:
        RecipeError: the object source and the network do not fit together.
        WeightsMissing: there are no initial weights for them.
    """
    selector = StimuliSelector(
        recipe.selector, landmarks=landmark_file(), face_threads=torch.get_num_threads()
    )
    expected, offered = recipe.network.object_features, selector.objects.feature_size
    if recipe.network.semantic is not None and expected != offered:
        raise RecipeError(
            f"object_features is {expected}: the recipe's object source yields {offered}"
        )
    network = StimuliAwareNetwork(recipe.network)
    if recipe.init == "imagenet":
        _load_frozen(selector)
        if network.global_net is not None:
            load_imagenet(network.global_net.backbone)
    return selector, network


def _keep_logs(run: Path) -> None:
    """Set the logs of the run so far aside: the logger would empty their folder."""
    logs = run / "logs"
    if logs.is_dir():
        number = 1 + sum(1 for _ in run.glob("logs-*"))
        logs.rename(run / f"logs-{number}")


def _load_frozen(selector: StimuliSelector) -> None:
    if isinstance(selector.objects, GridObjects):
        load_imagenet(selector.objects.backbone)


def _cache(
    name: str, rows: pd.DataFrame, selector: StimuliSelector, root: Path, on_progress: Progress
) -> StimuliCache:
    def report(done: int, total: int) -> None:
        on_progress(f"stimuli {name}", done, total)

    return build_cache(rows, selector, root, on_progress=report)


def _facts(recipe: Recipe, dataset: DatasetTable, refused: dict[str, int]) -> dict[str, Any]:
    counts = dataset.table["split"].value_counts().to_dict()
    return {
        "recipe": recipe.to_dict(),
        "images": {name: int(count) for name, count in sorted(counts.items())},
        "placeholders_skipped": dataset.placeholders,
        "unreadable_skipped": refused,
    }
