"""A random part of the training photos, for a study that a machine cannot compute in full."""

from __future__ import annotations

import numpy as np
import pandas as pd

from train.seeds import derived_seed


def sample_photos(table: pd.DataFrame, count: int) -> pd.DataFrame:
    """Some rows of ``table``, drawn at random, in its order.

    Equal tables and counts yield equal rows, whatever the recipe and the seeds of the trainings:
    studies of different stimuli are trained on the same photos. A larger count adds rows to those
    of a smaller one, so what was computed for these is used again.

    Args:
        table: Table of photos.
        count: Number of photos; 0, or more than there are, keeps all.
    """
    if not 0 < count < len(table):
        return table
    rng = np.random.default_rng(derived_seed("ablation", "photos"))
    return table.iloc[np.sort(rng.permutation(len(table))[:count])]
