"""A training run from a recipe and a data set to a model folder that `vea package` can pack.

RUN/recipe.json      what was asked for, and what the data set held
RUN/logs/metrics.csv loss and accuracy after each epoch; before a resumption, RUN/logs-1/...
RUN/last.ckpt        to resume from (only this program reads it)
RUN/best.ckpt        likewise, of the best epoch, where the recipe keeps that
RUN/model/           the archive, unpacked
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pytorch_lightning as lightning
import torch

from handler.archive.writing import write_model_folder
from handler.stimuli.selector import StimuliSelector
from handler.values import emotions
from handler.values.archive_config import ArchiveConfig
from train.datasets.reading import read_dataset
from train.datasets.remarks import remarks
from train.datasets.table import DatasetTable
from train.fitting.builders import build_network, build_selector, selector_files
from train.fitting.calibration import Calibration, calibrate
from train.fitting.data import (
    StimuliDataset,
    default_workers,
    refuse_unreadable,
    training_loader,
    validation_loader,
)
from train.fitting.module import FIGURES, EmotionModule
from train.fitting.run_folder import check_run_folder, prepare
from train.fitting.soft_labels import soft_targets
from train.fitting.start import Start
from train.fitting.trainer import BEST, LAST, build_trainer, is_first_process, quietly
from train.recipes.recipe import Recipe
from train.stimuli.cache import SelectorFiles, StimuliCache, build_cache
from train.weights import trained_digests

Progress = Callable[[str, int, int], None]
_MODEL = "model"


@dataclass(frozen=True)
class FitResult:
    """Result of a run.

    Attributes:
        model: Path of the model folder.
        val_accuracy: Accuracy of the kept weights on the validation split, 0 to 1.
        val_polarity_accuracy: Polarity accuracy of the kept weights on the validation split, 0 to
            1.
        calibration: Calibration of the branches, computed after that; None where the recipe wants
            none.
    """

    model: Path
    val_accuracy: float
    val_polarity_accuracy: float
    calibration: Calibration | None


def fit(
    recipe: Recipe,
    data: Path,
    run: Path,
    *,
    cache_root: Path,
    labels: Path | None = None,
    soft_labels: Sequence[Path] = (),
    resume: bool = False,
    force: bool = False,
    workers: int | None = None,
    progress_bar: bool = True,
    on_progress: Progress = lambda what, done, total: None,
    on_remarks: Callable[[list[str]], None] = lambda remarks: None,
) -> FitResult:
    """Train.

    Args:
        recipe: Recipe of the model.
        data: Data set in any layout that `read_dataset` knows.
        run: Folder that the run writes.
        cache_root: Folder of the stimuli caches.
        labels: File that says what classes mean that are numbers; see `read_dataset`.
        soft_labels: Files of the teachers' predictions for distillation, one a model; see
            `train.fitting.soft_labels`.
        resume: Whether to resume from ``RUN/last.ckpt`` where it exists.
        force: Whether another run in the folder may be replaced.
        workers: Number of processes that select stimuli, and of processes that load batches; by
            default one that selects, and as many that load as `default_workers` says.
        progress_bar: Whether Lightning's progress bar is shown.
        on_progress: Callback while photos are hashed and stimuli selected.
        on_remarks: Callback with remarks on the data set, before stimuli are selected.

    Raises:
        DatasetError, RecipeError, WeightsMissing, CacheError, RunError: See their messages.
    """
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)  # it advertises
    lightning.seed_everything(recipe.seed, workers=True, verbose=False)
    if is_first_process():
        check_run_folder(run, recipe.to_dict(), products=[_MODEL], resume=resume, force=force)
    dataset = read_dataset(
        data,
        emotions.wheel(recipe.network.wheel),
        labels=labels,
        on_progress=lambda done, total: on_progress("photos", done, total),
    )
    if is_first_process():
        on_remarks(remarks(dataset, splits=("train", "val")))
    rows = {split: dataset.split(split) for split in ("train", "val")}
    targets = _labels(rows["train"], dataset, soft_labels, recipe.training.soft_label_share)
    files = selector_files(recipe)
    selector = build_selector(recipe, files)
    network = build_network(recipe, selector)
    start = Start(network, recipe.initial)
    caches = {
        split: _cache(split, rows[split], recipe, selector, files, cache_root, workers, on_progress)
        for split in rows
    }
    config = recipe.training
    training = StimuliDataset(
        caches["train"],
        rows["train"]["path"],
        targets,
        selector.config,
        training=config,
        seed=recipe.seed,
    )
    validating = StimuliDataset(
        caches["val"], rows["val"]["path"], rows["val"]["label"].tolist(), selector.config
    )
    # Before an earlier run's checkpoints are removed, and not after hours of training.
    refuse_unreadable(training, "training")
    refuse_unreadable(validating, "validation")
    facts = _facts(recipe, dataset, rows, caches)
    if begun_from := trained_digests(recipe.initial):
        facts["begun_from"] = begun_from
    if soft_labels:
        facts["soft_labels"] = [hashlib.sha256(f.read_bytes()).hexdigest() for f in soft_labels]
    checkpoint = run / LAST if resume and (run / LAST).exists() else None
    if is_first_process():
        prepare(run, facts, products=[_MODEL], resuming=checkpoint is not None, force=force)

    loading = default_workers(config) if workers is None else workers
    loader = training_loader(training, config, seed=recipe.seed, workers=loading)
    validation = validation_loader(validating, batch_size=config.batch_size, workers=loading)
    module = EmotionModule(network, config, steps_per_epoch=len(loader), seed=recipe.seed)
    trainer = build_trainer(config, run, progress_bar=progress_bar)
    loader.batches.steps_done = lambda: trainer.global_step
    with quietly():
        trainer.fit(module, loader, validation, ckpt_path=checkpoint, weights_only=True)

    kept = torch.load(
        run / (BEST if config.keep == "best" else LAST), weights_only=True, map_location="cpu"
    )
    module.load_state_dict(kept["state_dict"])
    start.blend_into(module.network, config.start_share)
    figures = kept[FIGURES]
    module.to(trainer.strategy.root_device)  # which the trainer leaves in the end
    calibration = calibrate(module.network, validation) if config.calibrate else None
    module.cpu()
    result = FitResult(
        run / _MODEL, figures["val_accuracy"], figures["val_polarity_accuracy"], calibration
    )
    if is_first_process():
        card = {**facts, "kept": {"weights": config.keep, "epoch": kept["epoch"] + 1, **figures}}
        if calibration is not None:
            card["calibration"] = asdict(calibration)
        write_model_folder(
            result.model,
            config=ArchiveConfig(f"vea-{recipe.name}", "0", recipe.network, selector.config),
            network=module.network,
            selector=selector,
            landmarks=files.landmarks,
            face_detector=files.face_detector,
            card={"training": card},
        )
    return result


def _labels(
    rows: pd.DataFrame, dataset: DatasetTable, soft_labels: Sequence[Path], weight: float
) -> Sequence[int] | torch.Tensor:
    labels: list[int] = rows["label"].tolist()
    if not soft_labels:
        return labels
    return soft_targets(rows, soft_labels, dataset.wheel, root=dataset.root, weight=weight)


def _cache(
    split: str,
    rows: pd.DataFrame,
    recipe: Recipe,
    selector: StimuliSelector,
    files: SelectorFiles,
    root: Path,
    workers: int | None,
    on_progress: Progress,
) -> StimuliCache:
    return build_cache(
        rows,
        selector,
        root,
        files=files,
        colour=recipe.training.colour,
        workers=max(workers or 1, 1),
        on_progress=lambda done, total: on_progress(f"stimuli {split}", done, total),
    )


def _facts(
    recipe: Recipe,
    dataset: DatasetTable,
    rows: dict[str, pd.DataFrame],
    caches: dict[str, StimuliCache],
) -> dict[str, Any]:
    counts = dataset.table["split"].value_counts().to_dict()
    photos = hashlib.sha256()
    for split, table in rows.items():
        labelled = zip(table["sha256"], table["label"], strict=True)
        for row, (key, label) in enumerate(labelled):
            if row not in caches[split].refused:
                photos.update(f"{split} {key} {label}\n".encode())
    return {
        "recipe": recipe.to_dict(),
        "images": {name: int(count) for name, count in sorted(counts.items())},
        "photos": photos.hexdigest(),
        "placeholders_skipped": dataset.placeholders,
        "unreadable_skipped": {split: len(cache.refused) for split, cache in caches.items()},
    }
