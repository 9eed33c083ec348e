"""Cross-validation of the whole network of a recipe, trained for each fold as in the paper.

Each training is that of `vea train`, on a folder of links to the fold's training photos. The
held-out photos are scored through `Predictor` with the model folder that it writes. Stimuli are
selected once, as their cache identifies photos by content. The time is that of as many runs of
`vea train` on four fifths of the data set.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from handler.predictor import Predictor
from handler.values.emotions import Wheel
from handler.values.prediction import Prediction
from train.evaluation.evaluate import predict_files
from train.fitting.fit import fit
from train.recipes.recipe import Recipe

Floats = NDArray[np.float64]
Progress = Callable[[str, int, int], None]


class FittedNetwork:
    """A `TrainAndScore` that trains the recipe's network.

    Args:
        recipe: Recipe of the network; its wheel is replaced by that of the protocol, its devices by
            one.
        run: Folder of the files that exist during a training.
        cache_root: Folder of the stimuli caches.
        workers: Number of processes that select stimuli, and of processes that load batches.
        on_progress: Callback during the selection of stimuli.
    """

    def __init__(
        self,
        recipe: Recipe,
        run: Path,
        *,
        cache_root: Path,
        workers: int | None = None,
        on_progress: Progress = lambda what, done, total: None,
    ) -> None:
        self.recipe = recipe
        self.run = run
        self.cache_root = cache_root
        self.workers = workers
        self.on_progress = on_progress

    def __call__(self, train: pd.DataFrame, test: pd.DataFrame, wheel: Wheel) -> Floats:
        """Train a network on the training rows and score the test rows with it."""
        recipe = replace(
            self.recipe,
            network=replace(self.recipe.network, wheel=wheel.name),
            # With several, each has a process that begins at the command, and so in another folder.
            training=replace(self.recipe.training, devices=1),
        )
        self.run.mkdir(parents=True, exist_ok=True)
        # Forty models of a hundred megabytes each are of no use to anybody afterwards.
        with TemporaryDirectory(dir=self.run, prefix="training-") as folder:
            data = Path(folder, "data")
            link_photos(train, wheel, data)
            result = fit(
                recipe,
                data,
                Path(folder, "run"),
                cache_root=self.cache_root,
                workers=self.workers,
                progress_bar=False,
                on_progress=self.on_progress,
            )
            device = "cuda" if torch.cuda.is_available() else "cpu"
            predictor = Predictor.load(result.model, device=device)
            return _log_probabilities(predictor, test["path"].tolist(), wheel)


def link_photos(rows: pd.DataFrame, wheel: Wheel, data: Path) -> None:
    """A data set of emotion-named folders under ``data/train``, of links to the rows' photos.

    The data set has no validation split, so that reading it takes one from the training photos.
    """
    for number, (path, label) in enumerate(zip(rows["path"], rows["label"], strict=True)):
        folder = data / "train" / wheel.labels[label]
        folder.mkdir(parents=True, exist_ok=True)
        # Whatever its ending, or none, as lists may have it: the content says what a file holds.
        (folder / f"{number:06}.jpg").symlink_to(Path(path).resolve())


def _log_probabilities(predictor: Predictor, paths: list[str], wheel: Wheel) -> Floats:
    answers = np.full((len(paths), len(wheel)), np.nan)
    for row, answer in enumerate(predict_files(predictor, paths)):
        if isinstance(answer, Prediction):
            answers[row] = [answer.probabilities[label] for label in wheel.labels]
    return np.log(np.maximum(answers, np.finfo(np.float64).tiny))
