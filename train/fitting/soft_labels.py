"""Soft labels: what trained models say of the photos, to be learned beside the labels.

One label a photo hides that people disagree. The probabilities of models that have been trained
before say which emotions are near at hand, and those of several models together say it better than
each alone; a network that learns them comes close to all of them at the cost of one (distillation:
Hinton et al. 2015).

The models speak through the predictions that `vea evaluate --predictions` writes.
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


def soften(
    rows: pd.DataFrame, files: Sequence[Path], wheel: Wheel, *, root: Path, share: float
) -> torch.Tensor:
    """The labels of photos blended with the mean of what models say of them.

    A photo that no model speaks of keeps its label.

    Args:
        rows: of a `DatasetTable`.
        files: predictions, one file a model, as `train.evaluation.evaluate.write_predictions` wrote
            them.
        wheel: of the labels.
        root: of the data set: photos are named relative to it.
        share: of the models in the blend, 0 to 1.

    Returns:
        Distributions over the wheel, float32, one row for each of ``rows``.

    Raises:
        DatasetError: a file is no such file, or speaks of none of the photos.
    """
    names = [relative_path(path, root) for path in rows["path"]]
    labels = torch.from_numpy(rows["label"].to_numpy(dtype=np.int64, copy=True))
    own = functional.one_hot(labels, len(wheel)).double()
    said = torch.stack([torch.from_numpy(_answers(file, names, wheel)) for file in files])
    answered = ~said.isnan().any(dim=2, keepdim=True)
    mean = torch.where(answered, said, 0.0).sum(dim=0) / answered.sum(dim=0).clamp(min=1)
    blended = (1 - share) * own + share * mean / mean.sum(dim=1, keepdim=True).clamp(min=1e-9)
    return torch.where(answered.any(dim=0), blended, own).float()


def _answers(file: Path, names: Sequence[str], wheel: Wheel) -> np.ndarray:
    """What one model says of each photo; a row of NaN where it says nothing."""
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
            f"{file} speaks of none of the training photos: write it with `vea evaluate MODEL "
            f"--split train --predictions FILE`, of the same data set"
        )
    return answers
