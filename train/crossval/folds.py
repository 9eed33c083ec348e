"""Stratified folds in which the copies of a photo stay together.

The paper splits the photos of each emotion at random into five batches (Sec. IV-C2).
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from train.datasets.splitting import shuffled_photos


def stratified_folds(
    labels: Sequence[int], digests: Sequence[str], *, folds: int, seed: int
) -> NDArray[np.int64]:
    """The fold of each photo; the same rows and seed give the same folds.

    Without copies, the folds' numbers of photos of an emotion differ by at most one, and so do
    their total numbers of photos.

    Args:
        labels: Label of each photo.
        digests: SHA-256 of each photo's bytes; equal digests get the same fold. Copies under two
            emotions count for the first.
        folds: Number of folds.
        seed: Seed of the shuffling.

    Returns:
        Fold of each photo, 0 to folds - 1, int64.
    """
    copies = Counter(digests)
    rng = random.Random(seed)
    in_all = [0] * folds
    fold_of: dict[str, int] = {}
    for photos in shuffled_photos(labels, digests, rng):
        photos.sort(key=lambda digest: -copies[digest])  # the bulky ones while there is room
        of_emotion = [0] * folds
        # Which of several equally empty folds is filled first is chance too.
        chance = rng.sample(range(folds), folds)
        for digest in photos:
            fold = min(range(folds), key=lambda f: (of_emotion[f], in_all[f], chance[f]))
            fold_of[digest] = fold
            of_emotion[fold] += copies[digest]
            in_all[fold] += copies[digest]
    return np.array([fold_of[digest] for digest in digests], dtype=np.int64)
