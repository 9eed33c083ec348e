"""Abstract (Machajdik and Hanbury 2010): 280 abstract paintings with people's votes.

``testImages_abstract/abstract_NNNN.jpg`` and ``ABSTRACT_groundTruth.csv``, whose header and file
names stand in single quotes. The emotion with the most votes is the label; the 52 paintings on
which people did not agree on one are left out, as in the literature, which leaves 228.
"""

from __future__ import annotations

from pathlib import Path

from handler.values.emotions import MIKELS, Wheel
from train.datasets.files import header_of, number, read_records
from train.datasets.labels import fractions
from train.datasets.listing import Listing

LOOKED_FOR = "Abstract (ABSTRACT_groundTruth.csv)"

_CSV = "ABSTRACT_groundTruth.csv"
_FOLDER = "testImages_abstract"


def recognises(root: Path) -> bool:
    """Whether the votes are there."""
    path = _votes(root)
    return path.is_file() and sum(map(MIKELS.knows, header_of(path, quote="'"))) == len(MIKELS)


def list_images(root: Path, wheel: Wheel | None = None) -> Listing:
    """The paintings, with the fractions of the votes."""
    listing = Listing(f"Abstract: {_CSV}", root, MIKELS)
    places = [root / _FOLDER, root]
    for line, record in enumerate(read_records(_votes(root), quote="'"), start=2):
        # The column of the file names has no name.
        name = record.get("", "").strip("'\" ")
        votes: list[float | None] = [None] * len(MIKELS)
        for column, cell in record.items():
            if MIKELS.knows(column):
                votes[MIKELS.index(column)] = number(cell)
        distribution = fractions([-1.0 if vote is None else vote for vote in votes])
        if not name or distribution is None:
            listing.refuse("a line without a name or votes", f"{_CSV}, line {line}")
        elif distribution.count(max(distribution)) > 1:
            listing.refuse("a tie: no emotion has the most votes", name)
        else:
            listing.add_named(
                name,
                places,
                distribution.index(max(distribution)),
                distribution=distribution,
            )
    return listing


def _votes(root: Path) -> Path:
    inner = root / _FOLDER / _CSV
    return inner if inner.is_file() else root / _CSV
