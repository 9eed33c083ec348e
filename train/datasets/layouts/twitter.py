"""Twitter I (You et al. 2015) and Twitter II (Borth et al. 2013): photos, positive or negative.

On each of the 1,269 photos of Twitter I five people voted. Each level of agreement has its list:
``{three,four,five}_agree.txt`` (file, 1 positive or 0 negative) with ``Agg_AMT_Candidates/``, or
``{3,4,5}agree.csv`` (path, class) with ``images/``. All levels are read together and each photo
keeps its own in the column ``agreement``; name one list instead of the folder to read that one
alone. ``amt_result.csv`` has the votes themselves. Five-fold copies
(``total/{1..5}/{train,test}/{negative,positive}``) are read as their first fold. Twitter II comes
as ``twitter_testing_2.csv``; both also come as ``{neg,pos}`` folders, which `folders` reads.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from handler.values.emotions import POLARITY, Wheel
from train.datasets.class_table import describe_unread, is_class_table, read_class_table
from train.datasets.classes import Entry, class_number, list_classes
from train.datasets.coding import Coding
from train.datasets.files import header_of, number, read_lines, read_records
from train.datasets.layouts import folders
from train.datasets.listing import Listing
from train.datasets.table import DatasetError

LOOKED_FOR = (
    "Twitter I (three_agree.txt, 3agree.csv, amt_result.csv or total/1/train/positive/*.jpg) "
    "or Twitter II (twitter_testing_2.csv)"
)

_LIST = re.compile(r".*?(three|four|five|3|4|5)[-_ ]?agrees?\.(txt|csv)", re.IGNORECASE)
_LEVELS = {"three": 3, "four": 4, "five": 5}
_VOTES = "amt_result.csv"
_TWITTER_2 = "twitter_testing_2.csv"
_FOLDERS = ("Agg_AMT_Candidates", "images", "")
_MAJORITY = 3  # of five people


def recognises(root: Path) -> bool:
    """Whether ``root`` is one of the lists, or a folder of them, of votes or of folds."""
    if root.is_file():
        return _is_list(root)
    files = any((root / name).is_file() for name in (_VOTES, _TWITTER_2))
    return files or bool(_lists(root)) or _first_fold(root) is not None


def list_images(root: Path, wheel: Wheel | None = None) -> Listing:
    """The photos with their polarity and how many people agree on it."""
    if root.is_file():
        return _list_agreement(root.parent, [root])
    lists = _lists(root)
    if lists:
        return _list_agreement(root, lists)
    if (root / _VOTES).is_file():
        return _list_votes(root)
    if (root / _TWITTER_2).is_file():
        return _list_classes(f"Twitter II: {_TWITTER_2}", root, *_entries(root / _TWITTER_2))
    fold = _first_fold(root)
    assert fold is not None  # as recognised
    listing = folders.list_images(fold, POLARITY)
    inner = fold.relative_to(root).as_posix()
    listing.notes.append(f"five folds: {inner} is read; name another fold's folder to read that")
    listing.layout = f"Twitter I: {inner}/{{train,test}}/{{negative,positive}}"
    # A split is written beside the folder that was asked for, and looked for there again.
    listing.root = root
    listing.refused = {
        reason: [f"{inner}/{name}" for name in names] for reason, names in listing.refused.items()
    }
    return listing


def _list_agreement(root: Path, lists: list[Path]) -> Listing:
    level_of: dict[str, int] = {}
    entry_of: dict[str, Entry] = {}
    notes: list[str] = []
    for path in sorted(lists, key=_level):  # a list of fewer votes holds those of more
        entries, unread = _entries(path)
        notes += unread
        for entry in entries:
            level_of[entry.name], entry_of[entry.name] = _level(path), entry
    layout = f"Twitter I: {', '.join(path.name for path in lists)}"
    listing = _list_classes(layout, root, [entry_of[name] for name in sorted(entry_of)], notes)
    by_path = {(root / folder / name): n for name, n in level_of.items() for folder in _FOLDERS}
    listing.rows = [replace(row, agreement=by_path.get(row.path)) for row in listing.rows]
    return listing


def _list_classes(
    layout: str, root: Path, entries: Sequence[Entry], notes: Sequence[str]
) -> Listing:
    """The listing of classes that are names, or numbers as both data sets publish them."""
    names = {0: "negative", 1: "positive"}
    if any(class_number(entry.label) == 2 for entry in entries):
        names = {0: "negative", 1: "neutral", 2: "positive"}
    places = [root / folder for folder in _FOLDERS]
    coding = Coding(names, "as published")
    listing = list_classes(layout, root, entries, places, POLARITY, coding)
    listing.notes.extend(notes)
    return listing


def _entries(path: Path) -> tuple[list[Entry], list[str]]:
    """The lines of a list, and notes on what is not read of it."""
    if path.suffix.lower() == ".csv":
        table = read_class_table(path)
        return table.entries, [describe_unread(path, table.unread)] if table.unread else []
    entries = []
    for line, text in read_lines(path):
        name, _, label = text.replace("\t", " ").rpartition(" ")
        if label not in ("0", "1"):
            raise DatasetError(
                f"{path}, line {line}: expected a file name and 0 or 1, got '{text}'"
            )
        entries.append(Entry(name.strip(), label))
    return entries, []


def _list_votes(root: Path) -> Listing:
    columns = header_of(root / _VOTES)
    positive = next((c for c in columns if "pos" in c), None)
    negative = next((c for c in columns if "neg" in c), None)
    if positive is None or negative is None:
        raise DatasetError(
            f"{root / _VOTES} does not say which column counts positive votes and which negative: "
            "name them 'positive' and 'negative' in its first line"
        )
    listing = Listing(f"Twitter I: {_VOTES}", root, POLARITY)
    places = [root / folder for folder in _FOLDERS]
    for line, record in enumerate(read_records(root / _VOTES), start=2):
        votes = [number(record[positive]), number(record[negative])]
        for_it, against = votes[0] or 0.0, votes[1] or 0.0
        if None in votes or max(for_it, against) < _MAJORITY:
            listing.refuse("no three people agree", f"{_VOTES}, line {line}")
            continue
        listing.add_named(
            record[columns[0]],
            places,
            POLARITY.index("positive" if for_it > against else "negative"),
            distribution=(for_it / (for_it + against), against / (for_it + against)),
            agreement=int(max(for_it, against)),
        )
    return listing


def _level(path: Path) -> int:
    match = _LIST.fullmatch(path.name)
    assert match is not None  # only lists come here
    word = match[1].lower()
    return _LEVELS.get(word) or int(word)


def _is_list(path: Path) -> bool:
    if _LIST.fullmatch(path.name) is None:
        return False
    return path.suffix.lower() == ".txt" or is_class_table(path)


def _lists(root: Path) -> list[Path]:
    return [p for p in sorted(root.iterdir()) if p.is_file() and _is_list(p)]


def _first_fold(root: Path) -> Path | None:
    for fold in (root / "total" / "1", root / "1"):
        if all((fold / split).is_dir() for split in ("train", "test")):
            return fold
    return None
