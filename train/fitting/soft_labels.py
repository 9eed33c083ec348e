"""Distillation (Hinton et al. 2015): soft targets from the predictions of trained models.

A single label hides that people disagree about a photo. The probabilities of a trained model (the
teacher) also tell which other emotions are likely. The mean over several teachers is more accurate
than any one of them, and a student trained on it approaches the whole ensemble at the cost of one
network.

The teachers' predictions are files that `vea evaluate --predictions` writes.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch.nn import functional

from handler.values.emotions import Wheel
from train.datasets.table import DatasetError
from train.evaluation.evaluate import relative_path


def soft_targets(
    rows: pd.DataFrame, files: Sequence[Path], wheel: Wheel, *, root: Path, weight: float
) -> torch.Tensor:
    """Blend the labels of photos with the mean prediction of the teachers.

    A photo without a prediction keeps its label.

    Args:
        rows: Rows of a `DatasetTable`.
        files: Files of predictions, one a model, that `train.evaluation.evaluate.write_predictions`
            wrote.
        wheel: Wheel of the labels.
        root: Folder of the data set, which photos are named relative to.
        weight: Weight of the models in the blend, 0 to 1.

    Returns:
        Distributions over the wheel, float32, rows x C.

    Raises:
        DatasetError: A file is not a table of predictions, or holds none of the photos.
    """
    names = [relative_path(path, root) for path in rows["path"]]
    labels = torch.from_numpy(rows["label"].to_numpy(dtype=np.int64, copy=True))
    own = functional.one_hot(labels, len(wheel)).double()
    teachers = torch.stack([torch.from_numpy(_probabilities(file, names, wheel)) for file in files])
    answered = ~teachers.isnan().any(dim=2, keepdim=True)
    mean = torch.where(answered, teachers, 0.0).sum(dim=0) / answered.sum(dim=0).clamp(min=1)
    blended = (1 - weight) * own + weight * mean / mean.sum(dim=1, keepdim=True).clamp(min=1e-9)
    return torch.where(answered.any(dim=0), blended, own).float()


def _probabilities(file: Path, names: Sequence[str], wheel: Wheel) -> np.ndarray:
    """One teacher's probabilities for each photo; a row of NaN where it has no prediction."""
    columns = [f"p_{emotion}" for emotion in wheel.labels]
    wanted = ["image", *columns]
    try:
        if file.suffix == ".csv":
            table = pd.read_csv(file, usecols=wanted)
        else:
            table = pd.read_parquet(file, columns=wanted, engine="pyarrow")
        values = table.drop_duplicates("image").set_index("image")[columns].astype(float)
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise DatasetError(
            f"{file} holds no predictions as `vea evaluate --predictions` writes them: {reason}"
        ) from None
    answers = values.reindex(names).to_numpy(dtype=np.float64, copy=True)
    if np.isnan(answers).all():
        raise DatasetError(
            f"{file} holds predictions for none of the training photos: write it with "
            "`vea evaluate MODEL --split train --predictions FILE`, of the same data set"
        )
    return answers
