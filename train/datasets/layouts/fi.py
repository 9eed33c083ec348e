"""FI (You et al. 2016) as lists: images in one folder, emotions in a text, JSON or CSV file.

``Images/`` with ``TestImages.txt`` (lines ``label/name``); JSON lists of ``[name, label]``;
``FI.csv`` or ``FI_complete.csv`` (path, class) with ``images/``. The same CSV form holds
EmotionROI's lists and anybody's own. FI as folders is read by `folders`.
"""

from __future__ import annotations

import re
from pathlib import Path

from handler.values.emotions import Wheel
from train.datasets.classes import list_classes
from train.datasets.files import header_of, images_in, read_json, read_lines, read_records
from train.datasets.layouts.artphoto import emotion_prefix
from train.datasets.listing import Listing
from train.datasets.split_file import NAME as SPLIT_FILE
from train.datasets.table import DatasetError, split_name

LOOKED_FOR = (
    "lists of FI (Images/ with TestImages.txt, *.json with [name, label], "
    "or *.csv with path and class)"
)

_TEXT = re.compile(r"(train|val|test)[-_ ]?images\.txt", re.IGNORECASE)
_PATH_COLUMNS = ("path", "image", "file", "filename", "name")
_CLASS_COLUMNS = ("class", "label", "emotion")
_FOLDERS = ("images", "Images", "")


def recognises(root: Path) -> bool:
    """Whether one of the kinds of list is there."""
    return bool(_texts(root) or _tables(root) or _jsons(root))


def list_images(root: Path, wheel: Wheel | None = None) -> Listing:
    """The images of the lists of one kind: text before CSV before JSON."""
    texts, tables, jsons = _texts(root), _tables(root), _jsons(root)
    sources = texts or tables or jsons
    if len({split_in_name(path) for path in sources} - {""}) > 0:
        # A list of everything repeats the lists of the splits.
        sources = [path for path in sources if split_in_name(path)]
    by_source = [
        [(name, label, split_in_name(path)) for name, label in _entries(path, root)]
        for path in sources
    ]
    entries = by_source[0]
    for more in by_source[1:]:  # FI_complete.csv repeats FI.csv
        names = {name for name, _, _ in entries}
        entries = entries + [entry for entry in more if entry[0] not in names]
    if texts:
        entries += _unlisted(root, entries)
    layout = f"lists of images: {', '.join(path.name for path in sources)}"
    return list_classes(layout, root, entries, [root / folder for folder in _FOLDERS], wheel)


def is_class_table(path: Path) -> bool:
    """Whether a CSV file has a column of images and a column of classes."""
    columns = header_of(path)
    return any(c in columns for c in _PATH_COLUMNS) and any(c in columns for c in _CLASS_COLUMNS)


def read_class_table(path: Path) -> list[tuple[str, str]]:
    """(image, class) of each line of such a file."""
    found = []
    for record in read_records(path):
        image = next(record[column] for column in _PATH_COLUMNS if column in record)
        found.append((image, next(record[c] for c in _CLASS_COLUMNS if c in record)))
    return found


def split_in_name(path: Path) -> str:
    """``train``, ``val`` or ``test`` if the file's name has that word, else empty."""
    words = re.findall(r"[a-z]+", re.sub(r"([a-z])([A-Z])", r"\1 \2", path.stem).lower())
    return next((split for word in words if (split := split_name(word))), "")


def _entries(path: Path, root: Path) -> list[tuple[str, str]]:
    if path.suffix.lower() == ".csv":
        return read_class_table(path)
    if path.suffix.lower() == ".json":
        return [(str(name), str(label)) for name, label in read_json(path)]
    found = []
    for _, line in read_lines(path):
        label, _, name = line.replace("\\", "/").rpartition("/")
        # Some copies keep the folder of the label, others have all images in one.
        inside = any((root / folder / label / name).is_file() for folder in _FOLDERS)
        found.append((f"{label}/{name}" if inside else name, label))
    return found


def _unlisted(root: Path, listed: list[tuple[str, str, str]]) -> list[tuple[str, str, str]]:
    """Images beside ``TestImages.txt`` whose own names give the emotion are for training."""
    if "train" in {split for _, _, split in listed}:
        return []
    names = {name for name, _, _ in listed}
    return [
        (name, "", "train")
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
