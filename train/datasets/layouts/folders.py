"""Folders named after emotions, as FI is handed around: ``DIR[/split]/EMOTION/IMAGE``.

The general case: FI (You et al. 2016) with or without the split level, Twitter I and II as
``{neg,pos}``, and anybody's own photos, in any image format and under any spelling of the emotions
and splits. ``DIR/images/...`` will do, too.
"""

from __future__ import annotations

from pathlib import Path

from handler.values.emotions import Wheel
from train.datasets.building import build_table
from train.datasets.files import why_no_file, why_no_photo
from train.datasets.labels import own_wheel
from train.datasets.listing import Listing, Row
from train.datasets.table import DatasetError, DatasetTable, split_name

__all__ = ["DatasetError", "DatasetTable", "list_images", "read_folders", "recognises"]

LOOKED_FOR = "emotion-named folders (amusement/*.jpg or train/amusement/*.jpg)"


def recognises(root: Path) -> bool:
    """Whether there is a folder with the name of an emotion of any wheel."""
    return any(_emotion_folders(place) for place in _places(root).values())


def list_images(root: Path, wheel: Wheel | None = None) -> Listing:
    """The images in emotion-named folders.

    Args:
        root: Folder of the emotion folders, or of split folders that hold them.
        wheel: Wheel that is preferred where the folders' names fit several wheels.
    """
    places = _places(root)
    splits = _split_folders(root)
    names = [folder.name for place in places.values() for folder in _emotion_folders(place)]
    layout = "emotion-named folders" + (f" in {', '.join(splits)}" if splits else "")
    listing = Listing(layout, root, own_wheel(names, wheel))
    if splits:  # beside split folders nothing is read
        for stray in sorted(root.iterdir()):
            if stray not in places.values():
                listing.refuse("beside the split folders", stray)
    for split, place in places.items():
        for folder in sorted(place.iterdir()):
            if not folder.is_dir():
                listing.refuse("no emotion-named folder", folder)
            elif not listing.wheel.knows(folder.name):
                listing.refuse(f"no emotion of {listing.wheel.name}", folder)
            else:
                _list_emotion(folder, split_name(split) or "", listing)
    return listing


def read_folders(root: Path, wheel: Wheel, *, seed: int = 18) -> DatasetTable:
    """Read emotion-named folders, and no other layout; `reading.read_dataset` reads all.

    Args:
        root: Folder of the emotion folders, or of split folders that hold them.
        wheel: Wheel of the expected emotions.
        seed: Seed of the random split, where the folders give none.

    Raises:
        DatasetError: No emotion-named folder with images was found.
    """
    root = Path(root)
    if not root.is_dir():
        raise DatasetError(f"{root} is not a folder")
    listing = list_images(root, wheel)
    if not listing.rows:
        raise DatasetError(
            f"no images in emotion-named folders under {root}: "
            f"expected {root}/{wheel.labels[0]}/*.jpg or {root}/train/{wheel.labels[0]}/*.jpg"
        )
    return build_table(listing, wheel, seed=seed)


def _list_emotion(folder: Path, split: str, listing: Listing) -> None:
    label = listing.wheel.index(folder.name)
    for file in sorted(p for p in folder.rglob("*") if p.is_file() or p.is_symlink()):
        reason = why_no_photo(file, folder) or why_no_file(file)
        if reason is None:
            listing.rows.append(Row(file, label, split))
        else:
            listing.refuse(reason, file)


def _places(root: Path) -> dict[str, Path]:
    """Folders that hold emotion folders, by the name of their split."""
    splits = _split_folders(root)
    if splits:
        return splits
    # Emotion6 and others keep the emotion folders one level down.
    inner = root / "images"
    return {"": inner if not _emotion_folders(root) and _emotion_folders(inner) else root}


def _split_folders(root: Path) -> dict[str, Path]:
    """Folders that are named like splits and hold emotion folders."""
    if not root.is_dir():
        return {}
    named = [p for p in sorted(root.iterdir()) if split_name(p.name)]
    return {p.name: p for p in named if _emotion_folders(p)}


def _emotion_folders(place: Path) -> list[Path]:
    if not place.is_dir():
        return []
    folders = [p for p in sorted(place.iterdir()) if p.is_dir()]
    return [p for p in folders if own_wheel([p.name]).knows(p.name)]
