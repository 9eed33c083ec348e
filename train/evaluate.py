"""How well an archive does on a folder of emotion-named folders.

Images go through `Predictor`, bytes and all, so that what is measured is what is served.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from handler.emotions import Wheel
from handler.predictor import Prediction, Predictor, Refusal
from train.datasets.folders import DatasetTable, read_folders

_WINDOW = 64  # images read at a time
_Z = 1.959964  # of a 95 % interval


@dataclass(frozen=True)
class Evaluation:
    """What was measured; `to_dict` is the content of ``--json FILE``."""

    wheel: Wheel
    model: dict[str, str]
    split: str
    confusion: list[list[int]]
    polarity_correct: int
    refused: dict[str, int]
    placeholders: int
    seconds: float

    @property
    def images(self) -> int:
        """How many were scored."""
        return sum(map(sum, self.confusion))

    @property
    def accuracy(self) -> float:
        """Share of images whose most probable emotion is the labelled one."""
        correct = sum(self.confusion[i][i] for i in range(len(self.wheel)))
        return correct / self.images if self.images else math.nan

    @property
    def polarity_accuracy(self) -> float:
        """Share of images whose more probable polarity is the labelled emotion's."""
        return self.polarity_correct / self.images if self.images else math.nan

    def per_class(self) -> dict[str, dict[str, float]]:
        """For each emotion: images, accuracy (recall) and precision."""
        table = {}
        for i, label in enumerate(self.wheel.labels):
            of_class = sum(self.confusion[i])
            called = sum(row[i] for row in self.confusion)
            hits = self.confusion[i][i]
            table[label] = {
                "images": of_class,
                "accuracy": hits / of_class if of_class else math.nan,
                "precision": hits / called if called else math.nan,
            }
        return table

    def to_dict(self) -> dict[str, Any]:
        """Plain values; NaN, which JSON lacks, becomes None."""
        low, high = wilson_interval(self.accuracy, self.images)
        return {
            "model": self.model,
            "split": self.split,
            "images": self.images,
            "refused": {"count": sum(self.refused.values()), "reasons": self.refused},
            "placeholders_skipped": self.placeholders,
            "accuracy": _number(self.accuracy),
            "accuracy_interval_95": [_number(low), _number(high)],
            "polarity_accuracy": _number(self.polarity_accuracy),
            "per_class": {
                label: {name: _number(value) for name, value in row.items()}
                for label, row in self.per_class().items()
            },
            "confusion_matrix": {
                "labels": list(self.wheel.labels),
                "rows_true_columns_predicted": self.confusion,
            },
            "seconds": round(self.seconds, 3),
            "images_per_second": _number(self.images / self.seconds if self.seconds else math.nan),
        }


def evaluate(
    predictor: Predictor,
    data: Path,
    *,
    split: str | None = None,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> Evaluation:
    """Score a split of a data set.

    Args:
        predictor: the archive to measure.
        data: folder of emotion-named folders, with or without split folders above them.
        split: ``train``, ``val``, ``test`` or ``all``. By default ``test`` where the folders have
            one, else ``val``; folders without splits are scored whole.
        on_progress: called with (images done, images in all).

    Raises:
        DatasetError: there is no such data set, or no such split.
    """
    dataset = read_folders(data, predictor.wheel)
    split = split or _default_split(dataset, data)
    rows = dataset.split(split)
    size = len(predictor.wheel)
    confusion = [[0] * size for _ in range(size)]
    refused: dict[str, int] = {}
    polarity_correct = 0
    started = time.perf_counter()
    for start in range(0, len(rows), _WINDOW):
        window = rows.iloc[start : start + _WINDOW]
        answers = predictor.predict([Path(path).read_bytes() for path in window["path"]])
        for label, answer in zip(window["label"], answers, strict=True):
            if isinstance(answer, Refusal):
                refused[answer.reason] = refused.get(answer.reason, 0) + 1
                continue
            confusion[label][predictor.wheel.index(answer.emotion)] += 1
            polarity_correct += _same_polarity(answer, label, predictor.wheel)
        on_progress(start + len(window), len(rows))
    model = predictor.model
    return Evaluation(
        wheel=predictor.wheel,
        model={"name": model.name, "version": model.version, "digest": model.digest},
        split=split,
        confusion=confusion,
        polarity_correct=polarity_correct,
        refused=refused,
        placeholders=dataset.placeholders,
        seconds=time.perf_counter() - started,
    )


def wilson_interval(share: float, n: int) -> tuple[float, float]:
    """95 % confidence interval of a share measured on ``n`` images (Wilson 1927)."""
    if n == 0:
        return math.nan, math.nan
    centre = share + _Z**2 / (2 * n)
    spread = _Z * math.sqrt(share * (1 - share) / n + _Z**2 / (4 * n**2))
    scale = 1 + _Z**2 / n
    return (centre - spread) / scale, (centre + spread) / scale


def _same_polarity(answer: Prediction, label: int, wheel: Wheel) -> bool:
    return answer.polarity == wheel.polarity(label)


def _default_split(dataset: DatasetTable, data: Path) -> str:
    if not any((Path(data) / name).is_dir() for name in ("train", "val", "test")):
        return "all"
    present: set[str] = set(pd.unique(dataset.table["split"]))
    return next(name for name in ("test", "val", "train") if name in present)


def _number(value: float) -> float | int | None:
    if isinstance(value, float) and math.isnan(value):
        return None
    return round(value, 6) if isinstance(value, float) else value
