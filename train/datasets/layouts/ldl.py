"""Flickr-LDL and Twitter-LDL (Yang et al. 2017): photos with votes for each of eight emotions.

As text, ``ground_truth[_train|_test].txt``: file, eight votes or fractions, and sometimes the
class, between spaces, with or without a header; or as ``flickrldl_config.csv`` and
``twitterldl_config.csv`` with a column for the image and one for each emotion. Without a header the
order is the data sets' own, which is the wheel's.
"""

from __future__ import annotations

from pathlib import Path

from handler.values.emotions import MIKELS, Wheel
from train.datasets.files import header_of, number, read_lines, read_records
from train.datasets.labels import fractions
from train.datasets.listing import Listing, note_ties
from train.datasets.table import DatasetError

LOOKED_FOR = (
    "Flickr-LDL or Twitter-LDL (ground_truth_train.txt, ground_truth_test.txt, or a *.csv with a "
    "column for each emotion)"
)

_TEXTS = {
    "ground_truth_train.txt": "train",
    "ground_truth_test.txt": "test",
    "train_ground_truth.txt": "train",
    "test_ground_truth.txt": "test",
    "ground_truth.txt": "",
}
_IMAGE_COLUMNS = ("image", "images-name", "name", "file", "filename", "path")


def recognises(root: Path) -> bool:
    """Whether there are lines of eight votes, or a table with a column for each emotion."""
    return any(_is_text(path) for path in _texts(root)) or bool(_tables(root))


def list_images(root: Path, wheel: Wheel | None = None) -> Listing:
    """The photos with their distributions."""
    texts = [path for path in _texts(root) if _is_text(path)]
    if len(texts) > 1:  # the whole list repeats the lists of the splits
        texts = [path for path in texts if _TEXTS[path.name]]
    sources = texts or _tables(root)
    listing = Listing(f"LDL: {', '.join(path.name for path in sources)}", root, MIKELS)
    places = [root / "images", root, root / "train", root / "test"]
    for path in sources:
        split = _TEXTS.get(path.name, "")
        for place, name, votes in _votes(path):
            distribution = fractions([-1.0 if vote is None else vote for vote in votes])
            if distribution is None:
                listing.refuse("no vote for any emotion", place)
            else:
                label = distribution.index(max(distribution))
                listing.add_named(name, places, label, split=split, distribution=distribution)
    note_ties(listing)
    return listing


def _votes(path: Path) -> list[tuple[str, str, list[float | None]]]:
    """Line number, name of the image, and votes in the wheel's order, for each line."""
    if path.suffix.lower() == ".csv":
        return [
            (f"{path.name}, line {line}", name, _in_wheel_order(record))
            for line, record in enumerate(read_records(path), start=2)
            for name in [next(record[c] for c in _IMAGE_COLUMNS if c in record)]
        ]
    order = list(MIKELS.labels)
    found = []
    for line, text in read_lines(path):
        name, *cells = text.split()
        if cells and MIKELS.knows(cells[0]):
            order = cells[: len(MIKELS)]
            if sorted(map(MIKELS.index, filter(MIKELS.knows, order))) != list(range(len(MIKELS))):
                raise DatasetError(f"{path}: the header does not name the eight emotions once each")
            continue
        record = dict(zip((label.lower() for label in order), cells, strict=False))
        found.append((f"{path.name}, line {line}", name, _in_wheel_order(record)))
    return found


def _in_wheel_order(record: dict[str, str]) -> list[float | None]:
    cells = {MIKELS.index(column): cell for column, cell in record.items() if MIKELS.knows(column)}
    return [number(cells.get(label, "")) for label in range(len(MIKELS))]


def _texts(root: Path) -> list[Path]:
    return [root / name for name in _TEXTS if (root / name).is_file()]


def _is_text(path: Path) -> bool:
    """Eight or nine numbers after the name, or the emotions' names."""
    try:
        lines = read_lines(path)
    except DatasetError:  # somebody else's file
        return False
    if not lines:
        return False
    cells = lines[0][1].split()[1:]
    numbers = [number(cell) is not None for cell in cells]
    named = sum(map(MIKELS.knows, cells)) == len(MIKELS)
    return named or (len(cells) in (len(MIKELS), len(MIKELS) + 1) and all(numbers))


def _tables(root: Path) -> list[Path]:
    tables = [p for p in sorted(root.iterdir()) if p.suffix.lower() == ".csv"]
    return [p for p in tables if _is_table(header_of(p))]


def _is_table(columns: list[str]) -> bool:
    named = {MIKELS.index(name) for name in columns if MIKELS.knows(name)}
    return len(named) == len(MIKELS) and any(name in columns for name in _IMAGE_COLUMNS)
