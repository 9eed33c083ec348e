"""The rows of a study as metrics, each with its uncertainty.

An accuracy is uncertain in two ways: it depends on the photos and on the seed of the training. The
intervals are over photos (bootstrap of the mean over seeds); the standard deviation over seeds is
given beside them. Two such intervals do not show whether a row differs from the reference: they are
wide because some photos are hard for every network. So the difference is computed photo by photo
and has its own interval.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from train.ablation.runs import Outcome
from train.ablation.studies import Study
from train.evaluation.intervals import Floats, mean_and_std, percentile_interval, resampled_means

_REFERENCE, _NO_DIFFERENCE = "reference", "no clear difference"

Interval = tuple[float, float]


@dataclass(frozen=True)
class Metric:
    """A fraction of photos, as the mean over seeds.

    Attributes:
        value: Mean over seeds, 0 to 1; of a difference, -1 to 1.
        interval: 95 % confidence interval over photos.
        std: Standard deviation between seeds; NaN for one seed.
    """

    value: float
    interval: Interval
    std: float


@dataclass(frozen=True)
class RowSummary:
    """A row of the table.

    Attributes:
        name: Name of the row.
        is_reference: Whether the other rows are compared with this one.
        seeds: Number of trainings that the row is the mean of.
        accuracy: Accuracy over emotions.
        polarity: Accuracy over polarities.
        hard: Fraction of photos whose answer has the wrong polarity (hard false examples).
        easy: Fraction of photos with a wrong emotion of the right polarity.
        difference: Difference of the accuracy from the reference's, photo by photo and seed by
            seed; None without the reference.
        polarity_difference: Difference of the polarity accuracy from the reference's; None without
            the reference.
        seconds: Mean duration of a training, in seconds.
        paper: Accuracy that the paper reports, in per cent; empty where it reports none.
    """

    name: str
    is_reference: bool
    seeds: int
    accuracy: Metric
    polarity: Metric
    hard: Metric
    easy: float
    difference: Metric | None
    polarity_difference: Metric | None
    seconds: float
    paper: str

    @property
    def reading(self) -> str:
        """A description of the difference in words."""
        if self.is_reference:
            return _REFERENCE
        if self.difference is None:
            return ""
        low, high = self.difference.interval
        if low > 0:
            return "higher"
        return "lower" if high < 0 else _NO_DIFFERENCE


def summarise(study: Study, outcomes: Mapping[str, Sequence[Outcome]]) -> list[RowSummary]:
    """The rows of ``study`` that have outcomes, in its order, all of the same photos and seeds."""
    names = [name for name in study.rows if outcomes.get(name)]
    bits = {
        name: np.stack(
            [np.stack([o.hits, o.polarity_hits, o.hard]).astype(np.float64) for o in outcomes[name]]
        )
        for name in names
    }  # seeds x 3 x photos
    reference = bits.get(study.reference)
    if reference is not None:
        bits_of = {
            name: np.concatenate([own, own[:, :2] - reference[:, :2]], axis=1)
            for name, own in bits.items()
        }
    else:
        bits_of = bits
    if not names:
        return []
    # One resampling for all rows: each resample sees the same photos everywhere.
    columns: Floats = np.concatenate([own.mean(axis=0) for own in bits_of.values()]).T
    resampled = resampled_means(columns)
    rows, column = [], 0
    for name in names:
        own = bits_of[name]
        metrics = []
        for kind in range(own.shape[1]):
            of_seeds = own[:, kind].mean(axis=1).tolist()
            value, std = mean_and_std(of_seeds)
            metrics.append(Metric(value, percentile_interval(resampled[:, column]), std))
            column += 1
        seconds = [float(o.document["seconds"]) for o in outcomes[name]]
        rows.append(
            RowSummary(
                name=name,
                is_reference=name == study.reference,
                seeds=len(own),
                accuracy=metrics[0],
                polarity=metrics[1],
                hard=metrics[2],
                easy=1.0 - metrics[0].value - metrics[2].value,
                difference=metrics[3] if reference is not None else None,
                polarity_difference=metrics[4] if reference is not None else None,
                seconds=float(np.mean(seconds)),
                paper=study.paper.get(name, ""),
            )
        )
    return rows
