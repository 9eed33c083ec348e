"""The result of a layout's reader: images with their labels, and what was left out, with reasons.

Nothing is hashed, split or decoded here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from handler.values.emotions import Wheel
from train.datasets.files import find_image, printable
from train.datasets.table import NOT_THERE


@dataclass(frozen=True)
class Row:
    """One labelled image.

    Attributes:
        path: Path of the image.
        label: Label on the listing's wheel.
        split: Name of the split, ``train``, ``val`` or ``test``; empty where the data set gives
            none.
        distribution: Fractions of people's answers in the wheel's order, sum 1.
        agreement: Number of people who gave the label.
    """

    path: Path
    label: int
    split: str = ""
    distribution: tuple[float, ...] | None = None
    agreement: int | None = None


@dataclass
class Listing:
    """The images of one data set.

    Attributes:
        layout: Description of the layout.
        root: Folder that names in ``refused`` are relative to.
        wheel: Wheel of the data set's labels.
        rows: Images, in an order that depends on names alone.
        refused: Names of what was left out, by reason.
        notes: Remarks for the user, one sentence each.
    """

    layout: str
    root: Path
    wheel: Wheel
    rows: list[Row] = field(default_factory=list)
    refused: dict[str, list[str]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def refuse(self, reason: str, name: str | Path) -> None:
        """Record what is left out; a path is made relative to the root and printable."""
        if isinstance(name, Path):
            name = name.relative_to(self.root).as_posix()
        self.refused.setdefault(reason, []).append(printable(name))

    def add_named(
        self,
        name: str,
        places: Sequence[Path],
        label: int,
        *,
        split: str = "",
        distribution: tuple[float, ...] | None = None,
        agreement: int | None = None,
    ) -> None:
        """Add the image that a list calls ``name``, or record it as missing."""
        path = find_image(name, places)
        if path is None:
            self.refuse(NOT_THERE, name)
        else:
            self.rows.append(Row(path, label, split, distribution, agreement))


def note_ties(listing: Listing) -> None:
    """Add a note with the number of labels that were chosen by the order of the wheel alone."""
    ties = sum(
        row.distribution is not None and row.distribution.count(max(row.distribution)) > 1
        for row in listing.rows
    )
    if ties:
        listing.notes.append(
            f"{ties} images have more than one most frequent emotion: "
            "the first in the wheel's order is their label"
        )
