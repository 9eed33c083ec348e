"""Comparison of two archives: their answers to the same photos.

Both archives answer through `Predictor`, as they do when served. Where photos are labelled, the
difference of the accuracies has a paired bootstrap interval: both archives are scored on the same
resampled photos, so that the difficulty of the photos cancels out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from handler.predictor import Predictor
from handler.values.emotions import Wheel
from handler.values.errors import VeaError
from handler.values.prediction import ModelIdentity, Prediction, Refusal
from train.evaluation.evaluate import predict_files
from train.evaluation.intervals import RESAMPLES, SEED, percentile_interval, resampled_means
from train.evaluation.metrics import plain_values

Answer = Prediction | Refusal
OnProgress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Pair:
    """Both archives' answers to one photo.

    Attributes:
        image: Path of the photo, as it was listed.
        first: Answer of the current archive.
        second: Answer of the candidate archive.
        label: Index of the true emotion on the wheel, if it is known.
    """

    image: str
    first: Answer
    second: Answer
    label: int | None = None

    @property
    def changed(self) -> bool:
        """Whether another emotion is the likeliest, or one of the two refuses the photo."""
        if isinstance(self.first, Refusal) or isinstance(self.second, Refusal):
            return isinstance(self.first, Refusal) != isinstance(self.second, Refusal)
        return self.first.emotion != self.second.emotion

    @property
    def polarity_changed(self) -> bool:
        """Whether both answer, with different polarities."""
        both = self.predictions
        return both is not None and both[0].polarity != both[1].polarity

    @property
    def predictions(self) -> tuple[Prediction, Prediction] | None:
        """Both answers, if both are predictions."""
        if isinstance(self.first, Prediction) and isinstance(self.second, Prediction):
            return self.first, self.second
        return None


@dataclass(frozen=True)
class Comparison:
    """Answers of two archives to the same photos.

    Attributes:
        models: Identities of the current and of the candidate archive.
        wheel: Wheel of both archives' answers.
        pairs: Answers to each photo.
        label_wheel: Wheel of the labels; where it differs from ``wheel``, polarities are compared.
    """

    models: tuple[ModelIdentity, ModelIdentity]
    wheel: Wheel
    pairs: Sequence[Pair]
    label_wheel: Wheel

    @property
    def changed(self) -> list[Pair]:
        """Photos whose answer is another one, those that move furthest first."""
        return sorted((p for p in self.pairs if p.changed), key=_distance, reverse=True)

    @property
    def changed_fraction(self) -> float:
        """Fraction of the photos whose answer is another one."""
        return len(self.changed) / len(self.pairs)

    def movement(self) -> dict[str, Any]:
        """How far probabilities move, over photos that both answer: see `to_dict`."""
        moved = self._moved()
        if not len(moved):
            return {"images": 0}
        variation = moved.sum(axis=1) / 2
        return {
            "images": len(moved),
            "mean": float(moved.mean()),
            "max": float(moved.max()),
            "total_variation": {
                "mean": float(variation.mean()),
                "max": float(variation.max()),
            },
            "per_emotion": {
                label: {"mean": float(moved[:, i].mean()), "max": float(moved[:, i].max())}
                for i, label in enumerate(self.wheel.labels)
            },
        }

    def accuracy(self) -> dict[str, Any] | None:
        """Accuracies of both and of their difference, if photos are labelled.

        Of emotions if the labels are the archives' emotions, else of polarities. A refusal counts
        as wrong.
        """
        hits = np.array(
            [
                [self._hits(answer, pair.label) for answer in (pair.first, pair.second)]
                for pair in self.pairs
                if pair.label is not None
            ],
            dtype=np.float64,
        )
        if not len(hits):
            return None
        first, second = hits.mean(axis=0)
        columns = np.column_stack([hits, hits[:, 1] - hits[:, 0]])
        intervals = [percentile_interval(column) for column in resampled_means(columns).T]
        return {
            "of": "emotion" if self._same_labels else "polarity",
            "images": len(hits),
            "first": float(first),
            "first_interval_95": intervals[0],
            "second": float(second),
            "second_interval_95": intervals[1],
            "difference": float(second - first),
            "difference_interval_95": intervals[2],
            "intervals": {
                "method": "paired percentile bootstrap over images",
                "resamples": RESAMPLES,
                "seed": SEED,
            },
        }

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON. ``movement`` is |p2 - p1|; total variation is half its sum."""
        first, second = self.models
        changed = self.changed
        document: dict[str, Any] = plain_values(
            {
                "first": vars(first),
                "second": vars(second),
                "images": len(self.pairs),
                "changed": {"images": len(changed), "share": self.changed_fraction},
                "polarity_changed": {"images": sum(p.polarity_changed for p in self.pairs)},
                "refused": {
                    "first": sum(isinstance(p.first, Refusal) for p in self.pairs),
                    "second": sum(isinstance(p.second, Refusal) for p in self.pairs),
                },
                "movement": self.movement(),
                "accuracy": self.accuracy(),
                "changed_images": [_document(pair, self.label_wheel) for pair in changed],
            }
        )
        return document

    @property
    def _same_labels(self) -> bool:
        return set(self.label_wheel.labels) == set(self.wheel.labels)

    def _hits(self, answer: Answer, label: int) -> bool:
        if isinstance(answer, Refusal):
            return False
        if self._same_labels:
            return answer.emotion == self.label_wheel.labels[label]
        return answer.polarity == self.label_wheel.polarity(label)

    def _moved(self) -> np.ndarray[Any, np.dtype[np.float64]]:
        both = [pair.predictions for pair in self.pairs if pair.predictions is not None]
        rows = [
            [abs(b.probabilities[label] - a.probabilities[label]) for label in self.wheel.labels]
            for a, b in both
        ]
        return np.array(rows, dtype=np.float64).reshape(len(both), len(self.wheel))


def compare(
    first: Path,
    second: Path,
    images: Sequence[str],
    *,
    labels: Sequence[int] | None = None,
    label_wheel: Wheel | None = None,
    device: str = "cpu",
    on_progress: OnProgress = lambda what, done, total: None,
) -> Comparison:
    """Predict the same photos with both archives, one archive after the other.

    Args:
        first: Path of the current archive.
        second: Path of the candidate archive.
        images: Paths of the photos.
        labels: Indices of the true emotions on ``label_wheel``.
        label_wheel: Wheel of the labels; the archives' wheel by default.
        device: Device of the networks.
        on_progress: Callback with (archive, photos done, photos in all).

    Raises:
        ArchiveError: A path is not an archive.
        VeaError: The archives have different emotions.
    """
    predictors = [Predictor.load(path, device=device) for path in (first, second)]
    theirs, ours = predictors[0].wheel.labels, predictors[1].wheel.labels
    if set(ours) != set(theirs):
        raise VeaError(
            f"{second} tells {', '.join(ours)}, {first} {', '.join(theirs)}: "
            "only archives of the same emotions can be compared"
        )
    return compare_predictors(
        (predictors[0], predictors[1]),
        images,
        names=(first.name, second.name),
        labels=labels,
        label_wheel=label_wheel,
        on_progress=on_progress,
    )


def compare_predictors(
    predictors: tuple[Predictor, Predictor],
    images: Sequence[str],
    *,
    names: tuple[str, str],
    labels: Sequence[int] | None = None,
    label_wheel: Wheel | None = None,
    on_progress: OnProgress = lambda what, done, total: None,
) -> Comparison:
    """Compare two loaded predictors; ``names`` identify them in reports of progress."""
    answers: list[list[Answer]] = []
    for name, predictor in zip(names, predictors, strict=True):

        def report(done: int, total: int, what: str = name) -> None:
            on_progress(what, done, total)

        answers.append(
            [_light(a) for a in predict_files(predictor, list(images), on_progress=report)]
        )
    known: Sequence[int | None] = labels if labels is not None else [None] * len(images)
    pairs = [Pair(*row) for row in zip(images, *answers, known, strict=True)]
    first, second = predictors
    return Comparison((first.model, second.model), first.wheel, pairs, label_wheel or first.wheel)


def _light(answer: Answer) -> Answer:
    """The answer without its objects, which would fill the memory for a large list."""
    if isinstance(answer, Refusal):
        return answer
    return Prediction(**{**vars(answer), "objects": ()})


def _distance(pair: Pair) -> float:
    """Total variation between both answers; infinite if only one of them answers."""
    both = pair.predictions
    if both is None:
        return math.inf
    a, b = both
    return sum(abs(b.probabilities[label] - p) for label, p in a.probabilities.items()) / 2


def _document(pair: Pair, label_wheel: Wheel) -> dict[str, Any]:
    sides = {
        name: answer.to_dict()
        if isinstance(answer, Refusal)
        else {
            "emotion": answer.emotion,
            "probability": answer.probabilities[answer.emotion],
            "polarity": answer.polarity,
        }
        for name, answer in (("first", pair.first), ("second", pair.second))
    }
    label = None if pair.label is None else label_wheel.labels[pair.label]
    return {"image": pair.image, **sides, "label": label}
