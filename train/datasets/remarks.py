"""What a user should know of a data set before it is trained or measured on.

`vea data check` shows everything; the commands that use a data set show these lines, so that
nothing is left out, mixed up or ignored without a word.
"""

from __future__ import annotations

from collections.abc import Sequence

from train.datasets.checking import Check, check_dataset
from train.datasets.table import DatasetTable

_FIRST = 3  # names that a line gives


def remarks(dataset: DatasetTable, *, splits: Sequence[str] | None = None) -> list[str]:
    """Remarks, one sentence each.

    Args:
        dataset: Data set that `read_dataset` returned.
        splits: Names of the splits that are used, in which every emotion should have images; None
            is all together.
    """
    found = check_dataset(dataset)
    lines = [*found.notes, *_copies(found)]
    for split in (None,) if splits is None else splits:
        lines += _missing(found, split)
    left_out = sorted(found.refused.items(), key=lambda item: -len(item[1]))
    lines += [f"left out: {len(names):,} x {reason}{_first(names)}" for reason, names in left_out]
    return lines


def _copies(found: Check) -> list[str]:
    copies, lines = found.copies, []
    if copies.across:
        lines.append(
            f"{copies.across:,} images have copies in another split, so that a model is measured "
            f"on what it was trained on{_first(copies.names)}"
        )
    if copies.conflicting:
        lines.append(f"{copies.conflicting:,} images have copies with another label")
    return lines


def _missing(found: Check, split: str | None) -> list[str]:
    """The emotions without an image in a split, or in the data set."""

    def count(label: str) -> int:
        counts = found.counts[label]
        return counts.get(split, 0) if split else sum(counts.values())

    missing = [label for label in found.labels if not count(label)]
    where = f"in the split {split}" if split else "in the data set"
    return [f"no images {where} of {', '.join(missing)}"] if missing else []


def _first(names: Sequence[str]) -> str:
    more = ", ..." if len(names) > _FIRST else ""
    return f": {', '.join(names[:_FIRST])}{more}"
