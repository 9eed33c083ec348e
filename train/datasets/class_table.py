"""Image lists that are tables: a column of images, one of classes, and perhaps one of splits."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from train.datasets.classes import Entry, class_number
from train.datasets.files import header_of, read_records
from train.datasets.table import SPLITS, DatasetError, split_name

PATH_COLUMNS = (
    *("path", "image", "file", "filename", "name", "image_path", "img_path", "file_path"),
    *("filepath", "file_name", "image_name", "img"),
)
CLASS_COLUMNS = ("class", "label", "emotion", "class_name", "label_name", "emotion_name")
SPLIT_COLUMNS = ("split", "subset", "set", "partition", "usage", "phase", "data_split")
_FIRST = 5  # columns, or values, that a message names


@dataclass(frozen=True)
class ClassTable:
    """The content of a table.

    Attributes:
        entries: Lines of the table.
        unread: Names of the columns that are not read.
    """

    entries: list[Entry]
    unread: list[str]


def is_class_table(path: Path) -> bool:
    """Whether a CSV file has a column of images and a column of classes."""
    columns = header_of(path)
    return any(c in columns for c in PATH_COLUMNS) and any(c in columns for c in CLASS_COLUMNS)


def read_class_table(path: Path) -> ClassTable:
    """Images, classes and splits of such a file.

    Of several columns of classes the first that has names is read, for numbers need a coding.

    Raises:
        DatasetError: The column of splits holds something else.
    """
    records = read_records(path)
    columns = list(records[0]) if records else header_of(path)
    image = next(column for column in PATH_COLUMNS if column in columns)
    classes = [column for column in CLASS_COLUMNS if column in columns]
    named = [c for c in classes if any(class_number(record[c]) is None for record in records)]
    label = (named or classes)[0]
    split = next((column for column in SPLIT_COLUMNS if column in columns), None)
    splits = [_split_of(record[split], path, split) if split else "" for record in records]
    read = {image, label, split}
    return ClassTable(
        [Entry(r[image], r[label], s) for r, s in zip(records, splits, strict=True)],
        [column for column in columns if column and column not in read],
    )


def describe_unread(path: Path, unread: list[str]) -> str:
    """A note on the columns that are not read."""
    more = ", ..." if len(unread) > _FIRST else ""
    return f"{path.name}: columns that are not read: {', '.join(unread[:_FIRST])}{more}"


def _split_of(cell: str, path: Path, column: str) -> str:
    """The split that a cell names; an empty one names none."""
    split = split_name(cell) if cell.strip() else ""
    if split is None:
        raise DatasetError(
            f"{path} has '{cell}' in its column {column}: expected {', '.join(SPLITS)}; give the "
            "column another name if it is no split"
        )
    return split
