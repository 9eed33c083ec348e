"""FI (You et al. 2016) as lists: images in one folder, emotions in a text, JSON or CSV file.

``Images/`` with ``TestImages.txt`` (lines ``label/name``); JSON lists of ``[name, label]``;
``FI.csv`` or ``FI_complete.csv`` (path, class) with ``images/``. The same CSV form holds
EmotionROI's lists and anybody's own. FI as folders is read by `folders`.
"""

from __future__ import annotations

import re
from pathlib import Path

from handler.values.emotions import Wheel
from train.datasets.class_table import describe_unread, is_class_table, read_class_table
from train.datasets.classes import Entry, list_classes
from train.datasets.coding import Coding, find_coding
from train.datasets.files import images_in, read_json, read_lines
from train.datasets.layouts.artphoto import emotion_prefix
from train.datasets.listing import Listing
from train.datasets.split_file import NAME as SPLIT_FILE
from train.datasets.table import DatasetError, split_name

LOOKED_FOR = (
    "lists of FI (Images/ with TestImages.txt, *.json with [name, label], "
    "or *.csv with path and class)"
)

_TEXT = re.compile(r"(train|val|test)[-_ ]?images\.txt", re.IGNORECASE)
_FOLDERS = ("images", "Images", "")
_CONTRADICTION = "in another list with another class or split (the first list counts)"


def recognises(root: Path) -> bool:
    """Whether one of the kinds of list is there."""
    return bool(_texts(root) or _tables(root) or _jsons(root))


def list_images(root: Path, wheel: Wheel | None = None, coding: Coding | None = None) -> Listing:
    """The images of the lists of one kind: text before CSV before JSON.

    Args:
        root: Folder of the data set.
        wheel: Wheel that is preferred where the names fit several wheels.
        coding: Meaning of classes that are numbers; by default what ``info.json`` states.
    """
    texts, tables, jsons = _texts(root), _tables(root), _jsons(root)
    sources = texts or tables or jsons
    if any(split_in_name(path) for path in sources):
        # A list of everything repeats the lists of the splits.
        sources = [path for path in sources if split_in_name(path)]
    notes: list[str] = []
    found: list[Entry] = []
    contradictions: list[str] = []
    for path in sources:
        known = {entry.name: entry for entry in found}
        for entry in _entries(path, root, notes):
            first = known.get(entry.name)
            if first is None:
                found.append(entry)
            elif first != entry:  # FI_complete.csv repeats FI.csv, and says the same
                contradictions.append(entry.name)
    if texts:
        found += _unlisted(root, found)
    others = [path.name for path in (*texts, *tables, *jsons) if path not in sources]
    if others:
        notes.append(f"lists that are not read beside those above: {', '.join(others)}")
    layout = f"lists of images: {', '.join(path.name for path in sources)}"
    places = [root / folder for folder in _FOLDERS]
    listing = list_classes(layout, root, found, places, wheel, coding or find_coding(root))
    listing.notes.extend(notes)
    for name in contradictions:
        listing.refuse(_CONTRADICTION, name)
    return listing


def split_in_name(path: Path) -> str:
    """``train``, ``val`` or ``test`` if the file's name has that word, else empty."""
    words = re.findall(r"[a-z]+", re.sub(r"([a-z])([A-Z])", r"\1 \2", path.stem).lower())
    return next((split for word in words if (split := split_name(word))), "")


def _entries(path: Path, root: Path, notes: list[str]) -> list[Entry]:
    """The lines of a list, with the split of its name where they give none."""
    split = split_in_name(path)
    if path.suffix.lower() == ".csv":
        table = read_class_table(path)
        if table.unread:
            notes.append(describe_unread(path, table.unread))
        return [_in_split(entry, split, path) for entry in table.entries]
    if path.suffix.lower() == ".json":
        return [Entry(str(name), str(label), split) for name, label in read_json(path)]
    found = []
    for _, line in read_lines(path):
        label, _, name = line.replace("\\", "/").rpartition("/")
        # Some copies keep the folder of the label, others have all images in one.
        inside = any((root / folder / label / name).is_file() for folder in _FOLDERS)
        found.append(Entry(f"{label}/{name}" if inside else name, label, split))
    return found


def _in_split(entry: Entry, split: str, path: Path) -> Entry:
    if entry.split and split and entry.split != split:
        raise DatasetError(
            f"{path} has {entry.name} in the split {entry.split}, and its own name says {split}: "
            "rename the file, or take the column away"
        )
    return entry._replace(split=entry.split or split)


def _unlisted(root: Path, listed: list[Entry]) -> list[Entry]:
    """Images beside ``TestImages.txt`` whose own names give the emotion are for training."""
    if "train" in {entry.split for entry in listed}:
        return []
    names = {entry.name for entry in listed}
    return [
        Entry(name, "", "train")
        for folder in _FOLDERS[:2]
        for file in (images_in(root / folder) if (root / folder).is_dir() else ())
        if (name := file.relative_to(root / folder).as_posix()) not in names
        and (emotion_prefix(file.name) or "/" in name)
    ]


def _texts(root: Path) -> list[Path]:
    return [p for p in sorted(root.iterdir()) if _TEXT.fullmatch(p.name)]


def _tables(root: Path) -> list[Path]:
    tables = [p for p in sorted(root.iterdir()) if p.suffix.lower() == ".csv"]
    return [p for p in tables if p.name != SPLIT_FILE and is_class_table(p)]


def _jsons(root: Path) -> list[Path]:
    return [p for p in sorted(root.iterdir()) if p.suffix.lower() == ".json" and _is_pairs(p)]


def _is_pairs(path: Path) -> bool:
    try:
        entries = read_json(path)
    except DatasetError:  # somebody else's file
        return False
    return (
        isinstance(entries, list)
        and bool(entries)
        and all(isinstance(entry, list) and len(entry) == 2 for entry in entries)
    )
