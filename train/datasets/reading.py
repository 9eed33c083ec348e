"""The entry to every data set: the content of the folder decides which reader is used.

Nothing has to be renamed or moved first. A split file (``vea-split.csv``) overrides the data set's
own split.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from handler.values.emotions import Wheel
from train.datasets.building import OnProgress, build_table
from train.datasets.layouts import (
    abstract,
    artphoto,
    emoset,
    emotion6,
    emotion_roi,
    fer2013,
    fi,
    folders,
    iaps,
    ldl,
    twitter,
)
from train.datasets.listing import Listing
from train.datasets.split_file import NAME as SPLIT_FILE
from train.datasets.split_file import apply_split, read_split
from train.datasets.table import DatasetError, DatasetTable


@dataclass(frozen=True)
class _Layout:
    looked_for: str
    recognises: Callable[[Path], bool]
    list_images: Callable[[Path, Wheel | None], Listing]


def _layouts() -> tuple[_Layout, ...]:
    """Readers, the most specific first: a data set with lists may have emotion-named folders."""
    readers = (
        emoset,
        emotion_roi,
        emotion6,
        ldl,
        abstract,
        iaps,
        twitter,
        fi,
        folders,
        artphoto,
    )
    return tuple(_Layout(r.LOOKED_FOR, r.recognises, r.list_images) for r in readers)


def read_dataset(
    root: Path,
    wheel: Wheel | None,
    *,
    seed: int = 18,
    on_progress: OnProgress = lambda done, total: None,
) -> DatasetTable:
    """Read a data set of any layout.

    Args:
        root: Folder of the data set (for Twitter I also one of its lists).
        wheel: Wheel that the labels are converted to: the data set's own, or polarity, on which
            every data set can be read; None is its own.
        seed: Seed of the random split, where the data set gives none.
        on_progress: Callback with (files hashed, files in all).

    Raises:
        DatasetError: No known layout was found, or the data set is labelled on another wheel.
    """
    root = Path(root)
    if not root.exists():
        raise DatasetError(f"{root} is not a folder: it does not exist")
    if root.is_dir() and (root / SPLIT_FILE).is_file():
        return _read_written_split(root, wheel, seed, on_progress)
    listing = _recognise(root, wheel)
    if listing is None:
        raise DatasetError(_unknown(root))
    return build_table(listing, wheel, seed=seed, on_progress=on_progress)


def _read_written_split(
    root: Path, wheel: Wheel | None, seed: int, on_progress: OnProgress
) -> DatasetTable:
    entries = read_split(root / SPLIT_FILE)
    listing = apply_split(_recognise(root, wheel), entries, root, wheel)
    return build_table(listing, wheel, seed=seed, written=entries, on_progress=on_progress)


def _recognise(root: Path, wheel: Wheel | None) -> Listing | None:
    if root.is_file():
        return twitter.list_images(root, wheel) if twitter.recognises(root) else None
    if fer2013.find_fer2013(root):  # its folders are named like emotions
        return None
    empty: Listing | None = None
    for layout in _layouts():
        if layout.recognises(root):
            listing = layout.list_images(root, wheel)
            if listing.rows:
                return listing
            empty = empty or listing  # a list without its images; the images may tell by themselves
    return empty


def _unknown(root: Path) -> str:
    if root.is_file():
        return f"{root} is not a folder, and no list of Twitter I (such as five_agree.txt)"
    if fer2013.find_fer2013(root):
        return (
            f"{root} holds FER2013, faces with expressions: the Expression-Net is pre-trained on "
            "it, but it is not a data set of evoked emotions"
        )
    inner = [p for p in sorted(root.iterdir()) if p.is_dir() and _recognise(p, None) is not None]
    if inner:
        return f"no data set directly in {root}: name a folder inside it, {inner[0]} for example"
    looked_for = "; ".join(layout.looked_for for layout in _layouts())
    return f"no known data set in {root}: looked for {looked_for}"
