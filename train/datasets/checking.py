"""The check of a data set before training: `vea data check`.

It gives the number of images of each emotion in each split, what was left out and why, duplicate
photos and, if asked for, images that cannot be decoded. Duplicates are files with the same bytes;
near-duplicates are not searched for.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from handler.images import ImageRefused, decode
from train.datasets.layouts.fer2013 import EXPRESSIONS, FerTable
from train.datasets.table import SPLITS, DatasetTable

_DECODERS = 4  # threads; decoders let go of the interpreter's lock
_NAMES_IN_JSON = 100  # of each reason; the counts are always whole


@dataclass(frozen=True)
class Copies:
    """Images whose bytes occur more than once; each number counts images.

    Attributes:
        within: Number of further copies of images of the same split.
        across: Number of images in more than one split, on which a model is both trained and
            measured.
        conflicting: Number of images whose copies have another label.
        names: Names of the images in `across`, then of those in `conflicting`.
    """

    within: int
    across: int
    conflicting: int
    names: Sequence[str] = ()


@dataclass(frozen=True)
class Check:
    """Results of a check; `to_dict` gives the content of ``--json FILE``.

    Attributes:
        layout: Name of the layout.
        wheel: Name of the emotions' wheel, or ``expressions``.
        labels: Labels that are counted, in order.
        splits: Names of the splits, in order.
        counts: Number of images by label and split.
        split_source: Origin of the split: ``given``, ``random`` or ``file``.
        refused: Names of what was left out, by reason.
        copies: Images with the same bytes.
        notes: Remarks, one sentence each.
        undecodable: Names of the images that cannot be decoded, by reason; None if nothing was
            decoded.
    """

    layout: str
    wheel: str
    labels: Sequence[str]
    splits: Sequence[str]
    counts: Mapping[str, Mapping[str, int]]
    split_source: str
    refused: Mapping[str, Sequence[str]]
    copies: Copies
    notes: Sequence[str] = field(default_factory=tuple)
    undecodable: Mapping[str, Sequence[str]] | None = None

    @property
    def images(self) -> int:
        """Number of usable images."""
        return sum(sum(row.values()) for row in self.counts.values())

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "layout": self.layout,
            "wheel": self.wheel,
            "images": self.images,
            "split": self.split_source,
            "counts": {label: dict(row) for label, row in self.counts.items()},
            "refused": _counted(self.refused),
            "copies": {
                "within_splits": self.copies.within,
                "across_splits": self.copies.across,
                "with_another_label": self.copies.conflicting,
                "names": list(self.copies.names[:_NAMES_IN_JSON]),
            },
            "undecodable": None if self.undecodable is None else _counted(self.undecodable),
            "notes": list(self.notes),
        }


def check_dataset(
    dataset: DatasetTable,
    *,
    decode_images: bool = False,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> Check:
    """Count and compare the images of a data set.

    Args:
        dataset: Data set that `read_dataset` returned.
        decode_images: Whether every image is decoded, as training will do.
        on_progress: Callback with (images decoded, images in all).
    """
    table = dataset.table.assign(
        name=[Path(path).relative_to(dataset.root).as_posix() for path in dataset.table["path"]],
        label=[dataset.wheel.labels[label] for label in dataset.table["label"]],
    )
    splits = [split for split in SPLITS if (table["split"] == split).any()]
    return Check(
        layout=dataset.layout,
        wheel=dataset.wheel.name,
        labels=dataset.wheel.labels,
        splits=splits,
        counts=_counts(table, dataset.wheel.labels, splits),
        split_source=dataset.split_source,
        refused=dataset.refused,
        copies=_copies(table),
        notes=dataset.notes,
        undecodable=_undecodable(table, on_progress) if decode_images else None,
    )


def check_fer2013(faces: FerTable) -> Check:
    """Count and compare the faces of FER2013, which were decoded when they were read."""
    table = pd.DataFrame(
        {
            "name": [f"face {i}" for i in range(len(faces))],
            "label": [EXPRESSIONS[label] for label in faces.labels],
            "split": faces.usage,
            "sha256": [hashlib.sha256(face.tobytes()).hexdigest() for face in faces.pixels],
        }
    )
    order = ["Training", "train", "PublicTest", "val", "PrivateTest", "test"]
    usages = sorted(set(faces.usage.tolist()), key=order.index)
    return Check(
        layout="FER2013: 48x48 faces",
        wheel="expressions",
        labels=EXPRESSIONS,
        splits=usages,
        counts=_counts(table, EXPRESSIONS, usages),
        split_source="given",
        refused=faces.refused,
        copies=_copies(table),
        undecodable={},
    )


def _counts(
    table: pd.DataFrame, labels: Sequence[str], splits: Sequence[str]
) -> dict[str, dict[str, int]]:
    counted = Counter(zip(table["label"], table["split"], strict=True))
    return {label: {split: counted[label, split] for split in splits} for label in labels}


def _copies(table: pd.DataFrame) -> Copies:
    by_bytes = table.groupby("sha256")
    splits = by_bytes["split"].transform("nunique")
    labels = by_bytes["label"].transform("nunique")
    names = [*table["name"][splits > 1], *table["name"][(labels > 1) & (splits == 1)]]
    return Copies(
        within=int(table.duplicated(["sha256", "split"]).sum()),
        across=int((splits > 1).sum()),
        conflicting=int((labels > 1).sum()),
        names=names,
    )


def _undecodable(
    table: pd.DataFrame, on_progress: Callable[[int, int], None]
) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    with ThreadPoolExecutor(_DECODERS) as pool:
        reasons = pool.map(_why_not, table["path"])
        for done, (name, reason) in enumerate(zip(table["name"], reasons, strict=True), start=1):
            if reason:
                found.setdefault(reason, []).append(name)
            on_progress(done, len(table))
    return found


def _why_not(path: str) -> str | None:
    try:
        decode(Path(path).read_bytes())
    except ImageRefused as refusal:
        return refusal.reason
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    return None


def _counted(names: Mapping[str, Sequence[str]]) -> dict[str, dict[str, Any]]:
    return {
        reason: {"count": len(found), "names": list(found[:_NAMES_IN_JSON])}
        for reason, found in names.items()
    }
