"""Labels from a data set's own classes: the wheel of its emotions, votes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from handler.values.emotions import EKMAN, MIKELS, POLARITY, Wheel

_WHEELS = (MIKELS, EKMAN, POLARITY)


def own_wheel(names: Iterable[str], asked: Wheel | None = None) -> Wheel:
    """The wheel with the most of the names; among equals the preferred one, then the largest."""
    spellings = set(names)
    known = {wheel.name: sum(map(wheel.knows, spellings)) for wheel in _WHEELS}
    best = [wheel for wheel in _WHEELS if known[wheel.name] == max(known.values())]
    return asked if asked in best else best[0]


def fractions(votes: Sequence[float]) -> tuple[float, ...] | None:
    """Votes or probabilities scaled to sum 1, or None if there are none or negative ones."""
    total = sum(votes)
    if not total > 0 or min(votes) < 0 or total == float("inf"):
        return None
    return tuple(vote / total for vote in votes)
