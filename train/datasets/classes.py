"""The classes of an image list, as labels.

A class is the name of an emotion, or a number whose meaning is stated (`train.datasets.coding`). A
number without a stated meaning is never guessed: the data set is refused, unless the image's path
names the emotion (``awe/1.jpg``, ``awe_1.jpg``), as FI's lists of sentiments do.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from handler.values.emotions import Wheel
from train.datasets.coding import Coding
from train.datasets.files import find_image
from train.datasets.labels import own_wheel
from train.datasets.layouts.artphoto import emotion_prefix
from train.datasets.listing import Listing
from train.datasets.table import DatasetError

NO_CLASS = "no emotion is given"
NEUTRAL = "its class is neutral, which is no emotion of the wheel"
_NUMBER = re.compile(r"(-?\d+)(\.0*)?")  # tables with missing cells write 3.0
_FIRST = 8  # classes that a message names


class Entry(NamedTuple):
    """One line of an image list: name of the image, class as written, split or ``""``."""

    name: str
    label: str
    split: str = ""


def class_number(label: str) -> int | None:
    """The number that a class is, or None for a name."""
    match = _NUMBER.fullmatch(label.strip())
    return int(match[1]) if match else None


def list_classes(
    layout: str,
    root: Path,
    entries: Sequence[Entry],
    places: Sequence[Path],
    wheel: Wheel | None,
    coding: Coding | None = None,
) -> Listing:
    """A listing of the images of a list.

    Args:
        layout: Description of the layout.
        root: Folder of the data set.
        entries: Lines of the list.
        places: Folders in which images are looked for.
        wheel: Wheel that is preferred where the names fit several wheels.
        coding: Meaning of classes that are numbers, if it is stated.

    Raises:
        DatasetError: Classes are numbers whose meaning is not stated, or of which the coding does
            not have all.
    """
    entries = [Entry(name.replace("\\", "/"), label, split) for name, label, split in entries]
    names = [_class_name(name, label, coding) for name, label, _ in entries]
    _refuse_unknown_numbers(root, entries, names, places, coding)
    own = own_wheel([name for name in names if name], wheel)
    listing = Listing(layout, root, own)
    unknown: Counter[str] = Counter()
    for (name, label, split), emotion in zip(entries, names, strict=True):
        if emotion and own.knows(emotion):
            listing.add_named(name, places, own.index(emotion), split=split)
        elif emotion and emotion.strip().lower() == "neutral":
            listing.refuse(NEUTRAL, name)
        elif emotion:
            unknown[emotion] += 1
            listing.refuse(f"its class is no emotion of {own.name}", name)
        else:
            listing.refuse(NO_CLASS, name or label)
    if unknown:
        first = ", ".join(f"{name} ({count})" for name, count in unknown.most_common(_FIRST))
        listing.notes.append(f"classes that are no emotions of {own.name}: {first}")
    _note_numbers(listing, entries, coding)
    return listing


def _class_name(name: str, label: str, coding: Coding | None) -> str | None:
    """The class in words: what is written, what its number means, or what the path names."""
    number = class_number(label)
    if number is None and label.strip():
        return label
    if number is not None and coding is not None:
        return coding.names.get(number)
    path = PurePosixPath(name)
    for folder in reversed(path.parts[:-1]):
        if own_wheel([folder]).knows(folder):
            return folder
    return emotion_prefix(path.name)


def _refuse_unknown_numbers(
    root: Path,
    entries: Sequence[Entry],
    names: Sequence[str | None],
    places: Sequence[Path],
    coding: Coding | None,
) -> None:
    """Refuse numbers without a meaning, if there is an image that has one."""
    unknown = {
        number: entry.name
        for entry, name in zip(entries, names, strict=True)
        if name is None and (number := class_number(entry.label)) is not None
    }
    if not any(find_image(name, places) for name in unknown.values()):
        return
    numbers = sorted(unknown)
    several = "" if len(numbers) == 1 else "s"
    said = ", ".join(map(str, numbers[:_FIRST])) + (", ..." if len(numbers) > _FIRST else "")
    if coding is not None:
        raise DatasetError(
            f"{root} has images of the class{'es' if several else ''} {said} "
            f"({unknown[numbers[0]]}), and {coding.source} knows {coding.describe()} alone"
        )
    raise DatasetError(
        f"{root} gives classes as the number{several} {said}, and nothing says which emotions "
        "these are: name a file with a line such as '0 amusement' for each number with "
        "--labels FILE, put info.json with label2idx into the folder, or write names into the list"
    )


def _note_numbers(listing: Listing, entries: Sequence[Entry], coding: Coding | None) -> None:
    count = sum(class_number(entry.label) is not None for entry in entries)
    if count and coding is not None:
        listing.notes.append(f"{count} classes are numbers: {coding.describe()} ({coding.source})")
    elif count:
        listing.notes.append(
            f"{count} classes are numbers, which are not read: the images' paths name emotions"
        )
