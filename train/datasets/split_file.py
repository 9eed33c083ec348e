"""The split file: ``vea-split.csv`` with path, label, split and SHA-256 of each image.

It makes a random split reproducible: with the photos and this file, anybody trains and evaluates on
the same images. It is also a layout of its own: a folder of images needs no other list.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from handler.atomic_files import atomic_write
from handler.values.emotions import Wheel
from train.datasets.files import find_image, is_utf8, read_records
from train.datasets.labels import own_wheel
from train.datasets.listing import Listing, Row
from train.datasets.table import NOT_THERE, NOT_UTF8, SPLITS, DatasetError, DatasetTable, split_name

NAME = "vea-split.csv"
NEW = f"not in {NAME} (it came later: write the split again to use it)"
_COLUMNS = ("path", "label", "split", "sha256")


@dataclass(frozen=True)
class Entry:
    """One line: path relative to the data set's folder, emotion, split, digest (may be empty)."""

    path: str
    label: str
    split: str
    sha256: str


def write_split(dataset: DatasetTable, target: Path, *, force: bool = False) -> Path:
    """Write the split of a data set.

    Args:
        dataset: Data set with the split; labels are written on its own wheel, so that the file
            serves every wheel that the data set can be read on.
        target: Path of the file, or a folder to hold ``vea-split.csv``.
        force: Whether a file with other content may be replaced.

    Returns:
        Path of the file.

    Raises:
        DatasetError: The file cannot be written, or it exists with other content.
    """
    target = target / NAME if target.is_dir() else target
    rows = dataset.table[["path", "emotion", "split", "sha256"]].itertuples(index=False)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for path, emotion, split, sha256 in rows:
        writer.writerow([Path(path).relative_to(dataset.root).as_posix(), emotion, split, sha256])
    content = text.getvalue().encode()
    try:
        if target.exists() and target.read_bytes() == content:
            return target
        if target.exists() and not force:
            raise DatasetError(f"{target} exists and has other content: replace it with --force")
        target.open("ab").close()  # no folder is created for a mistyped one
        with atomic_write(target) as partial:
            partial.write_bytes(content)
    except OSError as error:
        raise DatasetError(f"cannot write the split to {target}: {error.strerror}") from None
    return target


def read_split(path: Path) -> list[Entry]:
    """The lines of a split file.

    Raises:
        DatasetError: The file is not a split file.
    """
    records = read_records(path)
    if not records or not set(_COLUMNS[:3]) <= set(records[0]):
        raise DatasetError(
            f"{path} is not a split file: expected a line for each image with {', '.join(_COLUMNS)}"
        )
    entries = []
    for line, record in enumerate(records, start=2):
        split = split_name(record["split"])
        if split is None:
            raise DatasetError(
                f"{path}, line {line}: unknown split '{record['split']}', "
                f"expected {', '.join(SPLITS)}"
            )
        entries.append(Entry(record["path"], record["label"], split, record.get("sha256", "")))
    return entries


def apply_split(
    listing: Listing | None, entries: Sequence[Entry], root: Path, wheel: Wheel | None
) -> Listing:
    """The images of a split file, with further values of the data set's own lists.

    Args:
        listing: Listing of the folder, None if its layout is unknown.
        entries: Entries of the split file.
        root: Folder of the data set.
        wheel: Wheel that the labels will be converted to, if known.

    Returns:
        A listing whose rows all have a split; images that are in one but not the other are in its
        ``refused``.

    Raises:
        DatasetError: A label is not an emotion of the wheel.
    """
    own = listing.wheel if listing else own_wheel((entry.label for entry in entries), wheel)
    known = {row.path: row for row in listing.rows} if listing else {}
    layout = f"{NAME} over {listing.layout}" if listing else f"{NAME} alone"
    result = Listing(layout, root, own)
    for line, entry in enumerate(entries, start=2):
        try:
            label = own.index(entry.label)
        except ValueError as error:
            raise DatasetError(f"{root / NAME}, line {line}: {error}") from None
        path = find_image(entry.path, [root])
        if path is None:
            result.refuse(NOT_THERE, entry.path)
            continue
        other = known.pop(path, None)
        if other is None:
            result.rows.append(Row(path, label, entry.split))
        else:
            result.rows.append(Row(path, label, entry.split, other.distribution, other.agreement))
    if listing:
        for reason, names in listing.refused.items():
            for name in names:
                if name != NAME:  # to the data set's own reader it is a stray file
                    result.refuse(reason, name)
        result.notes.extend(listing.notes)
    for path in known:
        # Writing the split again would be of no use to a file that cannot be in it.
        result.refuse(NEW if is_utf8(path) else NOT_UTF8, path)
    return result
