"""95 % confidence intervals of measured fractions.

The bootstrap is used for means over images, such as accuracies: it assumes nothing but the images.
It fails for fractions of a handful of images (five hits in five give an interval without width),
for which Wilson's interval is used.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 2000
SEED = 18
_Z = 1.959964  # of a 95 % interval
_PERCENTILES = (2.5, 97.5)
_DRAWS = 4_000_000  # images drawn at a time

Floats = NDArray[np.float64]


def wilson_interval(fraction: float, n: int) -> tuple[float, float]:
    """95 % confidence interval of a fraction measured on ``n`` images (Wilson 1927)."""
    if n == 0:
        return math.nan, math.nan
    centre = fraction + _Z**2 / (2 * n)
    half = _Z * math.sqrt(fraction * (1 - fraction) / n + _Z**2 / (4 * n**2))
    scale = 1 + _Z**2 / n
    return (centre - half) / scale, (centre + half) / scale


def resampled_means(
    values: Floats, *, resamples: int = RESAMPLES, seed: int = SEED, draws: int = _DRAWS
) -> Floats:
    """Means of columns over images drawn again and again with replacement.

    All columns of a resample use the same images, so that a metric of several means can be computed
    from each row.

    Args:
        values: Values, images x metrics; NaN where an image does not count for a metric.
        resamples: Number of resamples, each as large as the set of images.
        seed: Seed of the drawing.
        draws: Number of images drawn at a time, which bounds the memory.

    Returns:
        Means, resamples x metrics; NaN where no image that counts was drawn.
    """
    images = len(values)
    counts = ~np.isnan(values)
    filled = np.where(counts, values, 0.0)
    rng = np.random.default_rng(seed)
    step = max(draws // max(images, 1), 1)
    rows = []
    for start in range(0, resamples, step):
        size = min(step, resamples - start)
        drawn = rng.integers(images, size=(size, images)) if images else np.zeros((size, 0))
        # How often each image was drawn: one count for all resamples, told apart by an offset.
        places = (drawn + np.arange(size)[:, None] * images).ravel().astype(np.int64)
        times = np.bincount(places, minlength=size * images).reshape(size, images).astype(float)
        with np.errstate(invalid="ignore"):
            rows.append((times @ filled) / (times @ counts.astype(float)))
    return np.concatenate(rows)


def percentile_interval(resampled: Floats) -> tuple[float, float]:
    """The middle 95 % of a resampled metric, NaN left out; (NaN, NaN) if nothing is left."""
    known = resampled[~np.isnan(resampled)]
    if not len(known):
        return math.nan, math.nan
    low, high = np.percentile(known, _PERCENTILES)
    return float(low), float(high)


def mean_and_std(values: list[float]) -> tuple[float, float]:
    """Mean and sample standard deviation over the folds that have the metric."""
    known = [value for value in values if not math.isnan(value)]
    if not known:
        return math.nan, math.nan
    return float(np.mean(known)), float(np.std(known, ddof=1)) if len(known) > 1 else math.nan
