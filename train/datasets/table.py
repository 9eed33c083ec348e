"""The table of a data set: path, label, split and digest of each image.

The readers of the layouts (one module each, in `train.datasets.layouts`) return a `Listing`;
`train.datasets.building` turns it into this table.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pandas as pd

from handler.values.emotions import Wheel
from handler.values.errors import VeaError

SPLITS = ("train", "val", "test")
_SPLIT_SPELLINGS = {
    **{name: name for name in SPLITS},
    "training": "train",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "testing": "test",
}

# Why something was left out, where more than one part of the program says it.
PLACEHOLDER = "placeholder picture (the same bytes five times or more)"
NOT_THERE = "listed, but there is no such file"
NOT_UTF8 = "its name is not UTF-8"


class DatasetError(VeaError):
    """A data set does not exist or is damaged. The message is one line for the user."""


def split_name(spelling: str) -> str | None:
    """``train``, ``val`` or ``test`` for a usual spelling of it in any case, else None."""
    return _SPLIT_SPELLINGS.get(spelling.strip().lower())


def labelled_digest(rows: pd.DataFrame) -> str:
    """SHA-256, in hexadecimal digits, of the images' bytes and labels, in the order of the rows."""
    digest = hashlib.sha256()
    for key, label in zip(rows["sha256"], rows["label"], strict=True):
        digest.update(f"{key} {label}\n".encode())
    return digest.hexdigest()


@dataclass(frozen=True)
class DatasetTable:
    """A data set before anything is decoded.

    Attributes:
        table: Columns ``path`` (str), ``label`` (int, on ``wheel``), ``split`` (str), ``sha256``
            and ``emotion`` (str, on ``own_wheel``); ``distribution`` (tuple of floats in the order
            of ``wheel``, sum 1) where people's answers are known, ``agreement`` (int) where the
            number of people who gave the label is.
        root: Folder of the data set.
        layout: Description of the layout that was found.
        wheel: Wheel of ``label``.
        own_wheel: Wheel that the data set is labelled on.
        split_source: Origin of the split: ``given`` with the data, ``random``, or ``file`` (a split
            written earlier).
        refused: Names of what was left out, relative to ``root``, by reason.
        notes: Remarks for the user, one sentence each.
    """

    table: pd.DataFrame
    root: Path
    layout: str
    wheel: Wheel
    own_wheel: Wheel
    split_source: Literal["given", "random", "file"]
    refused: Mapping[str, Sequence[str]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def placeholders(self) -> int:
        """Number of files that were left out as placeholders."""
        return len(self.refused.get(PLACEHOLDER, ()))

    @property
    def ignored(self) -> int:
        """Number of files, folders and lines that were left out for other reasons."""
        return sum(map(len, self.refused.values())) - self.placeholders

    def split(self, name: str) -> pd.DataFrame:
        """The rows of one split, or all rows for ``"all"``.

        Raises:
            DatasetError: The split does not exist.
        """
        if name == "all":
            return self.table
        rows = self.table[self.table["split"] == name].reset_index(drop=True)
        if rows.empty:
            present = ", ".join(sorted(self.table["split"].unique()))
            raise DatasetError(f"the data set has no split '{name}': it has {present}")
        return rows
