"""Whether the emotions of a run differ from those of earlier runs.

The measure is the Jensen-Shannon distance (base 2) between the fractions of the emotions: 0 if
they are the same, 1 if no emotion occurs in both. It is never quite 0, since a run is a sample; the
fewer the images, the larger it is by chance. So a run raises an alarm only if its distance is above
the threshold and above what chance explains: the distance that one of a thousand pairs of samples
of these sizes exceeds if both are drawn from the same distribution, that of all runs together.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

DEFAULT_THRESHOLD = 0.1

_DRAWS = 10_000
_BY_CHANCE = 0.999  # quantile of the distances between samples that differ by chance only
_SEED = 20  # the same figures give the same report

Counts = Mapping[str, int]


@dataclass(frozen=True)
class Drift:
    """Distance of a run from earlier runs.

    Attributes:
        distance: Jensen-Shannon distance of the fractions, 0 to 1.
        chance: Distance that is reached by chance once in a thousand runs.
        threshold: Smallest distance that counts as drift.
        images: Number of images of the run that have an emotion.
        reference_images: Number of images of the earlier runs together.
    """

    distance: float
    chance: float
    threshold: float
    images: int
    reference_images: int

    @property
    def alert(self) -> bool:
        """Whether the distance is above the threshold and not explained by chance."""
        return self.distance > self.threshold and self.distance > self.chance

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {**asdict(self), "alert": self.alert}


def measure_drift(
    run: Counts, reference: Counts, *, threshold: float = DEFAULT_THRESHOLD
) -> Drift | None:
    """Compare the emotions of a run with those of earlier runs.

    Args:
        run: Number of images of the run by emotion; an emotion that is missing has none.
        reference: Number of images of the earlier runs together, by emotion.
        threshold: Smallest distance that counts as drift.

    Returns:
        None if one of them has no images: then there is nothing to compare.
    """
    labels = sorted(set(run) | set(reference))
    here = np.array([run.get(label, 0) for label in labels], np.int64)
    there = np.array([reference.get(label, 0) for label in labels], np.int64)
    if not here.sum() or not there.sum():
        return None
    return Drift(
        distance=float(_distance(here, there)),
        chance=_by_chance(here, there),
        threshold=threshold,
        images=int(here.sum()),
        reference_images=int(there.sum()),
    )


def _distance(one: NDArray[np.int64], other: NDArray[np.int64]) -> NDArray[np.float64]:
    """Jensen-Shannon distance between counts, along their last axis."""
    p = one / one.sum(axis=-1, keepdims=True)
    q = other / other.sum(axis=-1, keepdims=True)
    middle = (p + q) / 2
    divergence = (_relative_entropy(p, middle) + _relative_entropy(q, middle)) / 2
    # The divergence of equal fractions may be computed as -1e-17.
    return np.asarray(np.sqrt(divergence.clip(0.0, 1.0)))


def _relative_entropy(p: NDArray[np.float64], q: NDArray[np.float64]) -> NDArray[np.float64]:
    """Relative entropy in bits, along the last axis; a probability of 0 adds nothing."""
    ratio = np.divide(p, q, out=np.ones_like(p), where=p > 0)
    return np.asarray((p * np.log2(ratio)).sum(axis=-1))


def _by_chance(one: NDArray[np.int64], other: NDArray[np.int64]) -> float:
    rng = np.random.default_rng(_SEED)
    # Of both together: an emotion that one sample lacks may still be possible there.
    fractions = (one + other) / (one + other).sum()
    ones = rng.multinomial(int(one.sum()), fractions, size=_DRAWS)
    others = rng.multinomial(int(other.sum()), fractions, size=_DRAWS)
    return float(np.quantile(_distance(ones, others), _BY_CHANCE))
