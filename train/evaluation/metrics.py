"""`Scores`: all metrics of labels and probabilities of the same images.

Among them are the paper's accuracy over emotions and its two kinds of false examples (Fig. 7): easy
ones, whose predicted emotion has the right polarity, and hard ones, whose polarity is wrong.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torchmetrics.functional.classification import multiclass_f1_score

from handler.values.emotions import Wheel
from train.evaluation.intervals import RESAMPLES, SEED, percentile_interval, resampled_means
from train.evaluation.reliability import (
    BINS,
    Bin,
    brier_score,
    expected_calibration_error,
    negative_log_likelihood,
    reliability_bins,
)

Interval = tuple[float, float]


@dataclass(frozen=True, eq=False)
class Scores:
    """Labels and predicted probabilities of the same images, and their metrics.

    Attributes:
        wheel: Wheel of the emotions.
        labels: True emotion of each image, int64, n.
        probabilities: Probability of each emotion for each image, float64, nxC, rows sum to 1.
        p_positive: Probability of the positive emotions together, float64, n.
    """

    wheel: Wheel
    labels: NDArray[np.int64]
    probabilities: NDArray[np.float64]
    p_positive: NDArray[np.float64]

    @property
    def images(self) -> int:
        """Number of images that were scored."""
        return len(self.labels)

    @cached_property
    def predicted(self) -> NDArray[np.int64]:
        """The most probable emotion of each image."""
        return self.probabilities.argmax(axis=1).astype(np.int64)

    @cached_property
    def confusion(self) -> list[list[int]]:
        """Number of images with the row's label and the column's prediction."""
        size = len(self.wheel)
        cells = np.bincount(self.labels * size + self.predicted, minlength=size * size)
        table: list[list[int]] = cells.reshape(size, size).tolist()
        return table

    @property
    def accuracy(self) -> float:
        """Fraction of images whose most probable emotion is the labelled one."""
        return _mean(self._hits)

    @property
    def polarity_accuracy(self) -> float:
        """Fraction of images whose more probable polarity is the labelled emotion's."""
        return _mean(self._polarity_hits)

    @property
    def top2_accuracy(self) -> float:
        """Fraction of images whose emotion is among the two most probable; NaN if there are two."""
        return _mean(self._top2_hits) if len(self.wheel) > 2 else math.nan

    @property
    def macro_accuracy(self) -> float:
        """Mean of the accuracies of the emotions that have images, each with the same weight."""
        return _mean_known([row["accuracy"] for row in self.per_class().values()])

    @property
    def macro_f1(self) -> float:
        """Mean F1 of the emotions that are labelled or predicted anywhere."""
        if not self.images:
            return math.nan
        return float(
            multiclass_f1_score(
                torch.from_numpy(self.predicted),
                torch.from_numpy(self.labels),
                num_classes=len(self.wheel),
                average="macro",
            )
        )

    @property
    def easy_errors(self) -> int:
        """Images with a wrong emotion of the right polarity."""
        return int((~self._hits & self._same_side).sum())

    @property
    def hard_errors(self) -> int:
        """Images with an emotion of the wrong polarity."""
        return int((~self._same_side).sum())

    def per_class(self) -> dict[str, dict[str, float]]:
        """For each emotion: images, accuracy (recall), precision and F1; NaN where undefined."""
        table = {}
        for i, label in enumerate(self.wheel.labels):
            of_class = sum(self.confusion[i])
            called = sum(row[i] for row in self.confusion)
            hits = self.confusion[i][i]
            table[label] = {
                "images": of_class,
                "accuracy": hits / of_class if of_class else math.nan,
                "precision": hits / called if called else math.nan,
                "f1": 2 * hits / (of_class + called) if of_class + called else math.nan,
            }
        return table

    @cached_property
    def intervals(self) -> dict[str, Interval]:
        """95 % bootstrap intervals by name: accuracy, polarity, top2, macro, and each emotion."""
        members = self.labels[:, None] == np.arange(len(self.wheel))
        by_class = np.where(members, self._hits[:, None].astype(float), math.nan)
        whole = np.stack([self._hits, self._polarity_hits, self._top2_hits], axis=1).astype(float)
        means = resampled_means(np.concatenate([whole, by_class], axis=1))
        of_class = means[:, whole.shape[1] :]
        known = ~np.isnan(of_class)
        macro = np.where(known, of_class, 0.0).sum(axis=1) / np.maximum(known.sum(axis=1), 1)
        figures = {
            "accuracy": means[:, 0],
            "polarity": means[:, 1],
            "top2": means[:, 2],
            "macro": np.where(known.any(axis=1), macro, math.nan),
            **dict(zip(self.wheel.labels, of_class.T, strict=True)),
        }
        return {name: percentile_interval(column) for name, column in figures.items()}

    def bins(self) -> list[Bin]:
        """The bins of the reliability diagram."""
        return reliability_bins(self.probabilities, self.labels)

    @cached_property
    def calibration_error(self) -> float:
        """Expected calibration error over the same bins."""
        return expected_calibration_error(self.probabilities, self.labels)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; NaN, which JSON lacks, becomes None."""
        sure = self.intervals
        errors = self.easy_errors + self.hard_errors
        document = {
            "wheel": self.wheel.name,
            "images": self.images,
            "accuracy": self.accuracy,
            "accuracy_interval_95": sure["accuracy"],
            "polarity_accuracy": self.polarity_accuracy,
            "polarity_accuracy_interval_95": sure["polarity"],
            "macro_accuracy": self.macro_accuracy,
            "macro_accuracy_interval_95": sure["macro"],
            "macro_f1": self.macro_f1,
            "top2_accuracy": self.top2_accuracy,
            "top2_accuracy_interval_95": sure["top2"] if len(self.wheel) > 2 else None,
            "false_examples": {
                kind: {
                    "images": count,
                    "share_of_images": count / self.images if self.images else math.nan,
                    "share_of_errors": count / errors if errors else math.nan,
                }
                for kind, count in (("easy", self.easy_errors), ("hard", self.hard_errors))
            },
            "negative_log_likelihood": negative_log_likelihood(self.probabilities, self.labels),
            "brier_score": brier_score(self.probabilities, self.labels),
            "expected_calibration_error": self.calibration_error,
            "calibration_bins": BINS,
            "intervals": {
                "method": "percentile bootstrap over images",
                "resamples": RESAMPLES,
                "seed": SEED,
            },
            "per_class": {
                label: {**row, "accuracy_interval_95": sure[label]}
                for label, row in self.per_class().items()
            },
            "confusion_matrix": {
                "labels": self.wheel.labels,
                "rows_true_columns_predicted": self.confusion,
            },
        }
        plain: dict[str, Any] = plain_values(document)
        return plain

    @cached_property
    def _hits(self) -> NDArray[np.bool_]:
        return self.predicted == self.labels

    @cached_property
    def _polarity_hits(self) -> NDArray[np.bool_]:
        return (self.p_positive >= 0.5) == (self.labels < self.wheel.positives)

    @cached_property
    def _top2_hits(self) -> NDArray[np.bool_]:
        best = np.argsort(-self.probabilities, axis=1, kind="stable")[:, :2]
        return (best == self.labels[:, None]).any(axis=1)

    @cached_property
    def _same_side(self) -> NDArray[np.bool_]:
        positives = self.wheel.positives
        return (self.predicted < positives) == (self.labels < positives)


def plain_values(value: Any) -> Any:
    """A document as JSON can hold it: lists for tuples, None for NaN, six decimals."""
    if isinstance(value, dict):
        return {name: plain_values(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain_values(item) for item in value]
    if isinstance(value, float):
        return None if math.isnan(value) else round(value, 6)
    return value


def _mean(hits: NDArray[np.bool_]) -> float:
    return float(hits.mean()) if len(hits) else math.nan


def _mean_known(values: list[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return sum(known) / len(known) if known else math.nan
