"""The classes of an image list, as labels.

A class is the name of an emotion; a number in the alphabetical order of the emotions, as folder
loaders count; 0 and 1, or 0 (negative), 1 (neutral) and 2 (positive), as sentiment data sets count.
Where the image's path names an emotion (``awe/1.jpg``, ``awe_1.jpg``), it overrides a number.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from handler.values.emotions import POLARITY, Wheel
from train.datasets.labels import alphabetical_index, own_wheel
from train.datasets.layouts.artphoto import emotion_prefix
from train.datasets.listing import Listing

NO_CLASS = "no emotion is given"
NEUTRAL = "its class is neutral, which is no emotion of the wheel"


def list_classes(
    layout: str,
    root: Path,
    entries: Sequence[tuple[str, str, str]],
    places: Sequence[Path],
    wheel: Wheel | None,
) -> Listing:
    """A listing of (image name, class as written, split).

    Args:
        layout: Description of the layout.
        root: Folder of the data set.
        entries: Entries of the lists: (image name, class as written, split).
        places: Folders in which images are looked for.
        wheel: Wheel that is preferred where the names fit several wheels.
    """
    entries = [(name.replace("\\", "/"), label, split) for name, label, split in entries]
    spelled = [_spelling(name, label) for name, label, _ in entries]
    numbers = {
        int(label)
        for (_, label, _), known in zip(entries, spelled, strict=True)
        if known is None and label.isdecimal()
    }
    # Three classes are counted for sentiment; more of them are emotions.
    sentiment = max(numbers, default=0) <= 2
    names = [spelling for spelling in spelled if spelling]
    own = POLARITY if sentiment and not names else own_wheel(names, wheel)
    listing = Listing(layout, root, own)
    counted = 0
    for (name, label, split), spelling in zip(entries, spelled, strict=True):
        index: int | None = None
        if spelling is not None and own.knows(spelling):
            index = own.index(spelling)
        elif label.isdecimal() and own != POLARITY:
            index = alphabetical_index(own, int(label))
            counted += index is not None
        elif label.isdecimal():
            index = _polarity(int(label), ternary=2 in numbers)
        if index is not None:
            listing.add_named(name, places, index, split=split)
        else:
            neutral = label == "1" or label.lower() == "neutral"
            listing.refuse(NEUTRAL if neutral and own == POLARITY else NO_CLASS, name or label)
    if counted:
        listing.notes.append(
            f"{counted} classes are numbers: read in alphabetical order, "
            f"0 {sorted(own.labels)[0]} to {len(own) - 1} {sorted(own.labels)[-1]}"
        )
    return listing


def _spelling(name: str, label: str) -> str | None:
    """The emotion named by the class, a folder of the path, or the start of the file name."""
    path = PurePosixPath(name)
    for candidate in (label, *reversed(path.parts[:-1])):
        if own_wheel([candidate]).knows(candidate):
            return candidate
    return emotion_prefix(path.name)


def _polarity(number: int, *, ternary: bool) -> int | None:
    positive = 2 if ternary else 1
    if number == positive:
        return POLARITY.index("positive")
    return POLARITY.index("negative") if number == 0 else None
