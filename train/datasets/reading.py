"""The entry to every data set: the content of the folder decides which reader is used.

Nothing has to be renamed or moved first. A split file (``vea-split.csv``) overrides the data set's
own split.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from handler.values.emotions import Wheel
from train.datasets.building import OnProgress, build_table
from train.datasets.coding import NAME as INFO_FILE
from train.datasets.coding import Coding, read_coding
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
from train.datasets.unread_lists import describe_unread_lists


@dataclass(frozen=True)
class _Layout:
    looked_for: str
    recognises: Callable[[Path], bool]
    list_images: Callable[[Path, Wheel | None], Listing]


def _layouts(coding: Coding | None = None) -> tuple[_Layout, ...]:
    """Readers, the most specific first: a data set with lists may have emotion-named folders.

    Args:
        coding: Meaning of classes that are numbers, for the readers that have no published one.
    """
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
    list_fi = partial(fi.list_images, coding=coding)
    return tuple(
        _Layout(r.LOOKED_FOR, r.recognises, list_fi if r is fi else r.list_images) for r in readers
    )


def read_dataset(
    root: Path,
    wheel: Wheel | None,
    *,
    labels: Path | None = None,
    seed: int = 18,
    on_progress: OnProgress = lambda done, total: None,
) -> DatasetTable:
    """Read a data set of any layout.

    Args:
        root: Folder of the data set (for Twitter I also one of its lists).
        wheel: Wheel that the labels are converted to: the data set's own, or polarity, on which
            every data set can be read; None is its own.
        labels: File that says what numbers mean that a list gives as classes
            (`train.datasets.coding`), in place of the data set's own ``info.json``.
        seed: Seed of the random split, where the data set gives none.
        on_progress: Callback with (files hashed, files in all).

    Raises:
        DatasetError: No known layout was found, or the data set is labelled on another wheel.
    """
    root = Path(root)
    if not root.exists():
        raise DatasetError(f"{root} is not a folder: it does not exist")
    coding = read_coding(labels) if labels else None
    if root.is_dir() and (root / SPLIT_FILE).is_file():
        return _read_written_split(root, wheel, coding, seed, on_progress)
    listing = _recognise(root, wheel, coding)
    if listing is None:
        raise DatasetError(_unknown(root))
    _note_unread_lists(listing)
    return build_table(listing, wheel, seed=seed, on_progress=on_progress)


def _read_written_split(
    root: Path, wheel: Wheel | None, coding: Coding | None, seed: int, on_progress: OnProgress
) -> DatasetTable:
    entries = read_split(root / SPLIT_FILE)
    reason = ""
    try:
        listing = _recognise(root, wheel, coding)
    except DatasetError as error:  # such as numbers for classes: the split file has names
        listing, reason = None, str(error)
    listing = apply_split(listing, entries, root, wheel)
    if not reason:
        _note_unread_lists(listing)
    else:
        listing.notes.append(f"only {SPLIT_FILE} is read: {reason}")
    return build_table(listing, wheel, seed=seed, written=entries, on_progress=on_progress)


def _note_unread_lists(listing: Listing) -> None:
    if listing.root.is_dir():
        read = (listing.layout, SPLIT_FILE, INFO_FILE, *listing.notes)
        listing.notes.extend(describe_unread_lists(listing.root, read))


def _recognise(root: Path, wheel: Wheel | None, coding: Coding | None = None) -> Listing | None:
    if root.is_file():
        return twitter.list_images(root, wheel) if twitter.recognises(root) else None
    if fer2013.find_fer2013(root):  # its folders are named like emotions
        return None
    empty: Listing | None = None
    for layout in _layouts(coding):
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
    inner = [p for p in sorted(root.iterdir()) if p.is_dir() and _is_known(p)]
    if inner:
        return f"no data set directly in {root}: name a folder inside it, {inner[0]} for example"
    looked_for = "; ".join(layout.looked_for for layout in _layouts())
    unread = "; ".join(describe_unread_lists(root, ()))
    return f"no known data set in {root}: {unread}{'; ' * bool(unread)}looked for {looked_for}"


def _is_known(root: Path) -> bool:
    try:
        return _recognise(root, None) is not None
    except DatasetError:  # a data set of a known layout in which something is wrong
        return True
