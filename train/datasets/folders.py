"""Folders named after emotions, as FI is handed around: ``DIR[/split]/EMOTION/IMAGE``.

FI (You et al. 2016) comes as ``{train,val,test}/<emotion>/*.jpg`` or without the split level; both
are read, in any image format and under any spelling of the emotions. Photos that have been taken
down were often saved as the site's "no longer available" picture: the same bytes under many names,
counted and skipped here. Files that cannot be decoded are found later, when their stimuli are made.
"""

from __future__ import annotations

import hashlib
import random
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from handler.emotions import Wheel
from handler.errors import VeaError
from handler.images import SUFFIXES

SPLITS = ("train", "val", "test")
# That many files with the same bytes are a placeholder, not a photo.
_PLACEHOLDER_COPIES = 5
# The paper's split of FI: 80 % train, 5 % val, 15 % test.
_SHARES = {"train": 0.80, "val": 0.05, "test": 0.15}


class DatasetError(VeaError):
    """The folder holds no such data set; the message is one line for people."""


@dataclass(frozen=True)
class DatasetTable:
    """A data set before anything is decoded.

    Attributes:
        table: columns ``path`` (str), ``label`` (int, on the wheel), ``split`` (str), ``sha256``.
        placeholders: files skipped as placeholders.
        ignored: files and folders that are no image of an emotion.
    """

    table: pd.DataFrame
    placeholders: int
    ignored: int

    def split(self, name: str) -> pd.DataFrame:
        """The rows of one split, or all rows for ``"all"``."""
        if name == "all":
            return self.table
        rows = self.table[self.table["split"] == name].reset_index(drop=True)
        if rows.empty:
            present = ", ".join(sorted(self.table["split"].unique()))
            raise DatasetError(f"the data set has no split '{name}': it has {present}")
        return rows


def read_folders(root: Path, wheel: Wheel, *, seed: int = 18) -> DatasetTable:
    """Read a data set of emotion-named folders.

    Args:
        root: holds the emotion folders, or split folders that hold them.
        wheel: the emotions to expect.
        seed: of the random split, where the folders give none.

    Raises:
        DatasetError: no emotion-named folder with images was found.
    """
    root = Path(root)
    if not root.is_dir():
        raise DatasetError(f"{root} is not a folder")
    splits = {name: root / name for name in SPLITS if (root / name).is_dir()}
    places = splits or {"": root}
    rows: list[tuple[str, int, str]] = []
    # Beside split folders nothing is read; beside emotion folders nothing but emotion folders.
    ignored = sum(p not in splits.values() for p in root.iterdir()) if splits else 0
    for split, place in places.items():
        for folder in sorted(place.iterdir()):
            if not folder.is_dir() or not wheel.knows(folder.name):
                ignored += 1
                continue
            label = wheel.index(folder.name)
            for file in sorted(p for p in folder.rglob("*") if p.is_file()):
                if file.suffix.lower() in SUFFIXES:
                    rows.append((str(file), label, split))
                else:
                    ignored += 1
    if not rows:
        raise DatasetError(
            f"no images in emotion-named folders under {root}: "
            f"expected {root}/{wheel.labels[0]}/*.jpg or {root}/train/{wheel.labels[0]}/*.jpg"
        )
    table = pd.DataFrame(rows, columns=["path", "label", "split"])
    table["sha256"] = [hashlib.sha256(Path(p).read_bytes()).hexdigest() for p in table["path"]]
    copies = Counter(table["sha256"])
    placeholder = table["sha256"].map(copies) >= _PLACEHOLDER_COPIES
    kept = table[~placeholder].reset_index(drop=True)
    if kept.empty:
        raise DatasetError(
            f"all {len(table)} images under {root} are copies of a placeholder picture: "
            "download the photos again"
        )
    if not splits:
        kept["split"] = _random_split(kept["label"].tolist(), seed)
    return DatasetTable(kept, placeholders=int(placeholder.sum()), ignored=ignored)


def _random_split(labels: list[int], seed: int) -> list[str]:
    """A stratified random split, the same for the same list and seed."""
    chooser = random.Random(seed)
    split = ["test"] * len(labels)
    for label in sorted(set(labels)):
        members = [i for i, other in enumerate(labels) if other == label]
        chooser.shuffle(members)
        train_end = round(_SHARES["train"] * len(members))
        val_end = train_end + round(_SHARES["val"] * len(members))
        for position, i in enumerate(members):
            split[i] = "train" if position < train_end else "val" if position < val_end else "test"
    return split
