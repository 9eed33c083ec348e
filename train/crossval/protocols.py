"""Cross-validation on small data sets (Sec. IV-C2: ArtPhoto and IAPSa).

Two protocols. ``multiclass`` asks which emotion a photo evokes, as on the large data sets.
``one-vs-all`` is what the paper reports on the small ones, after Machajdik & Hanbury (ACM MM 2010):
each emotion is a problem of its own, this emotion against all others, and what counts is the true
positive rate of each of the two sides, averaged over both; always answering "another one" would be
right nine times in ten and gets 50 %. As there, it is averaged over five folds. For that measure a
photo is called the emotion when its probability exceeds the fraction that the emotion has of the
training photos: where probabilities are calibrated, no other threshold does better. Emotions with
too few photos are left out together with their photos, as the paper leaves out IAPSa's anger, which
has eight.

It costs one training a fold, and with ``one-vs-all`` one for each fold and emotion: 40 for the
eight emotions of ArtPhoto. What a training is, is a parameter (`TrainAndScore`).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from handler.values.emotions import POLARITY, Wheel
from handler.values.errors import VeaError
from train.crossval.folds import stratified_folds
from train.evaluation.intervals import mean_and_std
from train.evaluation.metrics import Scores, plain_values

PROTOCOLS = ("one-vs-all", "multiclass")
LEAST_PHOTOS = 10

Floats = NDArray[np.float64]
PerFold = dict[str, list[float]]  # figure -> its value in each fold


class CrossValidationError(VeaError):
    """The cross-validation is impossible. The message is one line for the user."""


class TrainAndScore(Protocol):
    """Trains on some photos and scores others."""

    def __call__(self, train: pd.DataFrame, test: pd.DataFrame, wheel: Wheel) -> Floats:
        """Train from the initial weights, then score.

        Args:
            train: Rows of a `DatasetTable` with ``label`` on ``wheel``.
            test: Rows to score, with the same columns; no photo is in both. Their labels must not
                be used.
            wheel: Wheel of the classes to tell apart. For one emotion against the others it is the
                polarity wheel: the first label stands for the emotion.

        Returns:
            Log-probabilities, float64, test x len(wheel); NaN where a photo cannot be read.
        """
        ...


@dataclass(frozen=True)
class CrossValidation:
    """Results of a cross-validation.

    Attributes:
        protocol: Protocol, ``one-vs-all`` or ``multiclass``.
        folds: Rows of the photos that were used, with the ``fold`` of each.
        left_out: Number of photos of each emotion that was left out for having too few.
        refused: Number of photos that could not be read.
        overall: Metrics over all emotions, by fold.
        per_emotion: Metrics of each emotion, by fold.
        pooled: Scores of every photo under the training that had not seen it; None with
            ``one-vs-all``, where a photo is judged once for each emotion.
    """

    protocol: str
    folds: pd.DataFrame
    left_out: dict[str, int]
    refused: int
    overall: PerFold
    per_emotion: dict[str, PerFold]
    pooled: Scores | None = field(default=None)

    @property
    def count(self) -> int:
        """Number of folds."""
        return int(self.folds["fold"].max()) + 1

    def to_dict(self) -> dict[str, Any]:
        """Plain values; NaN, which JSON lacks, becomes None."""
        document: dict[str, Any] = plain_values(
            {
                "protocol": self.protocol,
                "folds": self.count,
                "images": len(self.folds),
                "left_out": self.left_out,
                "refused": self.refused,
                "overall": {name: _document(values) for name, values in self.overall.items()},
                "per_emotion": {
                    label: {name: _document(values) for name, values in figures.items()}
                    for label, figures in self.per_emotion.items()
                },
                "pooled": None if self.pooled is None else self.pooled.to_dict(),
            }
        )
        return document


def cross_validate(
    table: pd.DataFrame,
    wheel: Wheel,
    train_and_score: TrainAndScore,
    *,
    protocol: str = PROTOCOLS[0],
    folds: int = 5,
    seed: int = 18,
    least: int = LEAST_PHOTOS,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> CrossValidation:
    """Score every photo with a model that was not trained on it.

    Args:
        table: Rows of a `DatasetTable`, of all splits.
        wheel: Wheel of the labels.
        train_and_score: One training and its scoring.
        protocol: Protocol, ``one-vs-all`` or ``multiclass``.
        folds: Number of folds.
        seed: Seed of the folds.
        least: Smallest number of different photos with which an emotion is used.
        on_progress: Callback with (trainings done, trainings in all).

    Raises:
        CrossValidationError: The protocol is unknown, there are fewer than two folds, or too few
            photos.
    """
    if protocol not in PROTOCOLS:
        raise CrossValidationError(
            f"unknown protocol '{protocol}': expected {' or '.join(PROTOCOLS)}"
        )
    if folds < 2:
        raise CrossValidationError(f"folds is {folds}: expected at least 2")
    rows, left_out = usable_photos(table, wheel, folds=folds, least=least)
    rows["fold"] = stratified_folds(
        rows["label"].tolist(), rows["sha256"].tolist(), folds=folds, seed=seed
    )
    run = _one_vs_all if protocol == "one-vs-all" else _multiclass
    overall, per_emotion, refused, pooled = run(rows, wheel, train_and_score, folds, on_progress)
    return CrossValidation(protocol, rows, left_out, refused, overall, per_emotion, pooled)


_Outcome = tuple[PerFold, dict[str, PerFold], int, Scores | None]


def _one_vs_all(
    rows: pd.DataFrame,
    wheel: Wheel,
    train_and_score: TrainAndScore,
    folds: int,
    on_progress: Callable[[int, int], None],
) -> _Outcome:
    per_emotion: dict[str, PerFold] = {}
    unread: set[str] = set()
    emotions = sorted(set(rows["label"]))
    for number, emotion in enumerate(emotions):
        binary = rows.assign(label=(rows["label"] != emotion).astype(int))
        figures: PerFold = {"mean_rate": [], "true_positive_rate": [], "true_negative_rate": []}
        for fold in range(folds):
            train, test = _parts(binary, fold)
            scores = train_and_score(train, test, POLARITY)
            read = ~np.isnan(scores).any(axis=1)
            unread.update(test.loc[~read, "path"])
            said = np.exp(scores[read, 0]) > (train["label"] == 0).mean()
            true = test.loc[read, "label"].to_numpy() == 0
            found = _fraction(said[true])
            spared = _fraction(~said[~true])
            figures["mean_rate"].append((found + spared) / 2)
            figures["true_positive_rate"].append(found)
            figures["true_negative_rate"].append(spared)
            on_progress(number * folds + fold + 1, len(emotions) * folds)
        per_emotion[wheel.labels[emotion]] = figures
    overall = {
        name: [
            mean_and_std([figures[name][fold] for figures in per_emotion.values()])[0]
            for fold in range(folds)
        ]
        for name in ("mean_rate", "true_positive_rate", "true_negative_rate")
    }
    return overall, per_emotion, len(unread), None


def _multiclass(
    rows: pd.DataFrame,
    wheel: Wheel,
    train_and_score: TrainAndScore,
    folds: int,
    on_progress: Callable[[int, int], None],
) -> _Outcome:
    overall: PerFold = {"accuracy": [], "polarity_accuracy": [], "macro_accuracy": []}
    per_emotion: dict[str, PerFold] = {
        wheel.labels[label]: {"true_positive_rate": []} for label in sorted(set(rows["label"]))
    }
    labels, probabilities = [], []
    for fold in range(folds):
        train, test = _parts(rows, fold)
        p = np.exp(train_and_score(train, test, wheel))
        read = ~np.isnan(p).any(axis=1)
        labels.append(test.loc[read, "label"].to_numpy(dtype=np.int64))
        probabilities.append(p[read])
        scores = _scores(wheel, labels[-1], probabilities[-1])
        for name, values in overall.items():
            values.append(getattr(scores, name))
        of_class = scores.per_class()
        for label, figures in per_emotion.items():
            figures["true_positive_rate"].append(of_class[label]["accuracy"])
        on_progress(fold + 1, folds)
    pooled = _scores(wheel, np.concatenate(labels), np.concatenate(probabilities))
    return overall, per_emotion, len(rows) - pooled.images, pooled


def usable_photos(
    table: pd.DataFrame, wheel: Wheel, *, folds: int, least: int = LEAST_PHOTOS
) -> tuple[pd.DataFrame, dict[str, int]]:
    """The rows of emotions with enough different photos, and how many the others have.

    Raises:
        CrossValidationError: Fewer than two emotions have enough photos.
    """
    least = max(least, folds)
    different = table.groupby("label")["sha256"].nunique()
    kept = set(different[different >= least].index)
    left_out = {
        wheel.labels[label]: int(count) for label, count in different.items() if label not in kept
    }
    if len(kept) < 2:
        raise CrossValidationError(
            f"fewer than two emotions have {least} different photos: use a larger data set, or ask "
            "for less with --least and --folds"
        )
    return table[table["label"].isin(kept)].reset_index(drop=True), left_out


def _parts(rows: pd.DataFrame, fold: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    test = rows["fold"] == fold
    return rows[~test].reset_index(drop=True), rows[test].reset_index(drop=True)


def _scores(wheel: Wheel, labels: NDArray[np.int64], probabilities: Floats) -> Scores:
    positive = probabilities[:, : wheel.positives].sum(axis=1)
    return Scores(wheel, labels, probabilities, positive)


def _fraction(hits: NDArray[np.bool_]) -> float:
    return float(hits.mean()) if len(hits) else math.nan


def _document(values: list[float]) -> dict[str, Any]:
    mean, std = mean_and_std(values)
    return {"mean": mean, "standard_deviation": std, "folds": values}
