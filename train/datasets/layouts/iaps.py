"""IAPSa (Mikels et al. 2005): 395 pictures of the IAPS with mean ratings of eight emotions.

Two tables beside the pictures, ``Mikels2005positivenorms.csv`` (AmusMean, AweMean, ContMean,
ExciMean) and ``Mikels2005negativenorms.csv`` (AngrMean, DisgMean, FearMean, SadnMean); the emotion
with the highest mean is the label. Picture 2819 is in the tables but in nobody's folder.
"""

from __future__ import annotations

from pathlib import Path

from handler.values.emotions import MIKELS, Wheel
from train.datasets.files import find_image, header_of, number, read_records
from train.datasets.listing import Listing, Row
from train.datasets.table import NOT_THERE

LOOKED_FOR = "IAPSa (Mikels2005positivenorms.csv and Mikels2005negativenorms.csv)"

_FOLDERS = ("IAPS_all", "images", "")
_SUFFIXES = (".jpg", ".JPG", ".jpeg", ".png", ".webp", ".bmp")


def recognises(root: Path) -> bool:
    """Whether there is a table of norms."""
    return bool(_norms(root))


def list_images(root: Path, wheel: Wheel | None = None) -> Listing:
    """The pictures under their emotion with the highest mean."""
    tables = _norms(root)
    listing = Listing(f"IAPSa: {', '.join(table.name for table in tables)}", root, MIKELS)
    if len(tables) == 1:
        listing.notes.append(f"only {tables[0].name} is there: the other half of IAPSa is missing")
    means: dict[str, dict[int, float]] = {}
    for table in tables:
        for line, record in enumerate(read_records(table), start=2):
            picture = record.get("picture", "")
            values = {
                MIKELS.index(emotion): value
                for column, cell in record.items()
                if (emotion := _emotion_of(column)) and (value := number(cell)) is not None
            }
            if not picture or not values:
                listing.refuse("a line without a picture or means", f"{table.name}, line {line}")
            else:
                means.setdefault(picture, {}).update(values)
    places = [root / folder for folder in _FOLDERS]
    for picture, values in sorted(means.items()):
        found = [find_image(picture + suffix, places) for suffix in _SUFFIXES]
        path = next((path for path in found if path), None)
        if path is None:
            listing.refuse(NOT_THERE, picture)
        else:
            listing.rows.append(Row(path, max(values, key=lambda label: values[label])))
    return listing


def _norms(root: Path) -> list[Path]:
    tables = [p for p in sorted(root.iterdir()) if p.suffix.lower() == ".csv"]
    return [p for p in tables if _is_norms(header_of(p))]


def _is_norms(columns: list[str]) -> bool:
    return "picture" in columns and sum(_emotion_of(name) is not None for name in columns) > 2


def _emotion_of(column: str) -> str | None:
    """``amusmean``: ``amus``; None for other columns."""
    emotion = column.removesuffix("mean")
    return emotion if column != emotion and MIKELS.knows(emotion) else None
