"""Lists that lie in a data set's folder and that no reader understands, named with their columns.

Whoever has a table of labels under other column names should not find out from a bad model that it
was not read.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path

from handler.values.limits import SUFFIXES
from train.datasets.class_table import CLASS_COLUMNS, PATH_COLUMNS
from train.datasets.files import header_of, printable

_TABLES = {".csv": ",", ".tsv": "\t"}
_TEXTS = (".txt", ".json", ".jsonl", ".ndjson", ".xml", ".yaml", ".yml")
_BINARY = (".xlsx", ".xls", ".parquet", ".feather", ".pkl", ".mat", ".h5", ".npy")
_HEAD = 65_536  # bytes in which a list names an image
_IMAGE = re.compile(r"\w(" + "|".join(map(re.escape, sorted(SUFFIXES))) + r")\b", re.IGNORECASE)
_FIRST = 8  # columns that a line names


def describe_unread_lists(root: Path, read: Collection[str]) -> list[str]:
    """One line for each list directly in a folder that is not read.

    Args:
        root: Folder of the data set.
        read: Names of the files that are read, or texts that have such names.
    """
    lines = []
    for path in sorted(p for p in root.iterdir() if p.is_file()):
        known = any(printable(path.name) in text for text in read)
        if not known and not path.name.startswith(".") and (what := _describe(path)):
            lines.append(f"{printable(path.name)} is not read: {what}")
    return lines


def _describe(path: Path) -> str | None:
    """What a list is, or None for a file that is none."""
    suffix = path.suffix.lower()
    if suffix in _TABLES:
        columns = header_of(path, delimiter=_delimiter(path, _TABLES[suffix]))
        more = ", ..." if len(columns) > _FIRST else ""
        return (
            f"it has the columns {printable(', '.join(columns[:_FIRST]))}{more}; a list is a .csv "
            f"file with commas, one of {', '.join(PATH_COLUMNS[:4])}, ... for the image and one of "
            f"{', '.join(CLASS_COLUMNS[:3])}, ... for the emotion"
        )
    if suffix in _BINARY:
        return f"lists are .csv files, not {suffix}"
    if suffix in _TEXTS and _IMAGE.search(_head(path)):
        return "it names images, in no form that is known; a list is a .csv file"
    return None


def _delimiter(path: Path, usual: str) -> str:
    line = _head(path).split("\n", 1)[0]
    return max((usual, ",", ";", "\t", "|"), key=line.count)


def _head(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(_HEAD).decode("utf-8-sig", "replace")
    except OSError:
        return ""
