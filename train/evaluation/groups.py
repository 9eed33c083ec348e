"""Accuracy by group of photos, such as region, camera or the group of the person shown.

Groups come from a table of the user's. Nothing here guesses a group from a photo.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from handler.values.emotions import Wheel
from handler.values.errors import VeaError
from train.evaluation.intervals import (
    SEED,
    Floats,
    percentile_interval,
    resampled_means,
    wilson_interval,
)
from train.evaluation.metrics import plain_values

FEW = 30  # images; the interval of a smaller group says little
NO_GROUP = "(no group)"
_KEY = "image"


@dataclass(frozen=True)
class GroupScores:
    """Metrics of the scored images of one group.

    Attributes:
        name: Value of the group's column.
        images: Number of scored images.
        accuracy: Fraction of images whose most probable emotion is the labelled one.
        accuracy_interval: 95 % interval of the accuracy (Wilson 1927).
        polarity_accuracy: Fraction of images whose polarity is that of the labelled emotion.
        polarity_interval: 95 % interval of the polarity accuracy (Wilson 1927).
        difference: Accuracy minus that of all other images; NaN if there are none.
        difference_interval: 95 % interval of the difference (bootstrap over images).
    """

    name: str
    images: int
    accuracy: float
    accuracy_interval: tuple[float, float]
    polarity_accuracy: float
    polarity_interval: tuple[float, float]
    difference: float
    difference_interval: tuple[float, float]

    @property
    def few(self) -> bool:
        """Whether the group has too few images for a conclusion."""
        return self.images < FEW

    def to_dict(self) -> dict[str, Any]:
        """Plain values; NaN, which JSON lacks, becomes None."""
        return {
            "images": self.images,
            "accuracy": plain_values(self.accuracy),
            "accuracy_interval_95": plain_values(list(self.accuracy_interval)),
            "polarity_accuracy": plain_values(self.polarity_accuracy),
            "polarity_accuracy_interval_95": plain_values(list(self.polarity_interval)),
            "difference_from_others": plain_values(self.difference),
            "difference_interval_95": plain_values(list(self.difference_interval)),
            "few": self.few,
        }


def read_groups(file: Path, column: str) -> dict[str, str]:
    """The group of each image.

    Args:
        file: Table, .csv or .parquet, with a column ``image`` that holds paths relative to the data
            set, as ``vea evaluate --predictions`` writes them.
        column: Column with the groups.

    Returns:
        Group by image; an image whose cell is empty is left out.

    Raises:
        VeaError: The table cannot be read, lacks a column, or gives an image two groups.
    """
    try:
        if file.suffix == ".csv":
            table = pd.read_csv(file, dtype=str)
        elif file.suffix == ".parquet":
            table = pd.read_parquet(file, engine="pyarrow")
        else:
            raise VeaError(f"cannot read groups from {file}: expected a .csv or .parquet file")
    except (OSError, ValueError) as error:
        raise VeaError(f"cannot read groups from {file}: {str(error).splitlines()[0]}") from None
    for name in (_KEY, column):
        if name not in table:
            present = ", ".join(map(str, table.columns))
            raise VeaError(f"{file} has no column '{name}': it has {present}")
    known = table[[_KEY, column]].dropna().astype(str).drop_duplicates()
    twice = known[_KEY][known[_KEY].duplicated()]
    if len(twice):
        raise VeaError(f"{file} gives {twice.iloc[0]} more than one value of '{column}'")
    return dict(zip(known[_KEY], known[column], strict=True))


def scores_by_group(
    table: pd.DataFrame, wheel: Wheel, groups: dict[str, str]
) -> dict[str, GroupScores]:
    """Metrics of each group, in the order of the groups' names; images without a group last.

    Args:
        table: Predictions, as `train.evaluation.evaluate.predictions_table` returns them.
        wheel: Wheel of the labels.
        groups: Group of each image, by the path in the column ``image``.

    Raises:
        VeaError: No image of the table has a group.
    """
    scored = table[table["refused"] == ""]
    names = scored["image"].map(groups)
    if names.notna().sum() == 0:
        example = scored["image"].iloc[0] if len(scored) else "none was scored"
        raise VeaError(
            f"no image of this split has a group: the table must name images as here ({example})"
        )
    names = names.fillna(NO_GROUP)
    hits = (scored["predicted"] == scored["label"]).to_numpy(dtype=np.float64)
    positive = np.array([wheel.index(label) < wheel.positives for label in scored["label"]])
    polarity = (positive == (scored["p_positive"] >= 0.5).to_numpy()).astype(np.float64)
    order = sorted(set(names), key=lambda name: (name == NO_GROUP, name))
    return {
        name: _scores(name, hits, polarity, (names == name).to_numpy(dtype=bool)) for name in order
    }


def _scores(name: str, hits: Floats, polarity: Floats, inside: NDArray[np.bool_]) -> GroupScores:
    own, others = hits[inside], hits[~inside]
    accuracy, sides = float(own.mean()), float(polarity[inside].mean())
    difference, interval = math.nan, (math.nan, math.nan)
    if len(others):
        difference = accuracy - float(others.mean())
        resampled = (
            resampled_means(own[:, None], seed=SEED)
            - resampled_means(others[:, None], seed=SEED + 1)
        )[:, 0]
        interval = percentile_interval(resampled)
    return GroupScores(
        name=name,
        images=len(own),
        accuracy=accuracy,
        accuracy_interval=wilson_interval(accuracy, len(own)),
        polarity_accuracy=sides,
        polarity_interval=wilson_interval(sides, len(own)),
        difference=difference,
        difference_interval=interval,
    )
