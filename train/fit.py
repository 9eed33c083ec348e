"""A training run from a recipe and a data set to a model folder that `vea package` can pack.

RUN/recipe.json      what was asked for, and what the data set held
RUN/metrics.csv      loss and accuracy after each epoch
RUN/last.ckpt        to go on from (only this program reads it)
RUN/model/           the archive, unpacked
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
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
from train.data import training_loader, validation_loader
from train.datasets.folders import DatasetTable, read_folders
from train.module import EmotionModule
from train.recipe import Recipe
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
    """

    model: Path
    val_accuracy: float
    val_polarity_accuracy: float


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
        DatasetError, WeightsMissing: as their messages say.
    """
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

    module = EmotionModule(network, recipe.training)
    callbacks: list[Any] = [ModelCheckpoint(dirpath=run, filename="last", save_last=False)]
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
    trainer.fit(
        module,
        training_loader(
            caches["train"], train_rows["label"].tolist(), recipe.training, seed=recipe.seed
        ),
        validation_loader(
            caches["val"], val_rows["label"].tolist(), batch_size=recipe.training.batch_size
        ),
        ckpt_path=str(checkpoint) if resume and checkpoint.exists() else None,
        weights_only=False,
    )
    metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
    write_model_folder(
        run / "model",
        config=ArchiveConfig(f"vea-{recipe.name}", "0", recipe.network, recipe.selector),
        network=module.network.cpu(),
        selector=selector,
        landmarks=landmark_file(),
        card={"training": facts},
    )
    return FitResult(run / "model", metrics["val_accuracy"], metrics["val_polarity_accuracy"])


def build_parts(recipe: Recipe) -> tuple[StimuliSelector, StimuliAwareNetwork]:
    """Selector and network as the recipe starts them."""
    selector = StimuliSelector(
        recipe.selector, landmarks=landmark_file(), face_threads=torch.get_num_threads()
    )
    network = StimuliAwareNetwork(recipe.network)
    if recipe.init == "imagenet":
        _load_frozen(selector)
        if network.global_net is not None:
            load_imagenet(network.global_net.backbone)
    return selector, network


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
