"""EmoSet-118K (Yang et al. 2023): 118,102 photos with eight emotions and attributes.

``{train,val,test}.json`` list ``[emotion, image, annotation]``, or ``[emotion, id, image,
annotation]`` as its own documentation has it; both are read. The annotations (brightness, scene,
objects, ...) are not needed here and are not opened.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from handler.values.emotions import MIKELS, Wheel
from train.datasets.files import read_json
from train.datasets.listing import Listing
from train.datasets.table import SPLITS

LOOKED_FOR = "EmoSet-118K (train.json, val.json, test.json and image/)"


def recognises(root: Path) -> bool:
    """Whether the lists and the folder of images are there."""
    return (root / "image").is_dir() and any((root / f"{s}.json").is_file() for s in SPLITS)


def list_images(root: Path, wheel: Wheel | None = None) -> Listing:
    """The images of all splits."""
    listing = Listing("EmoSet-118K: train.json, val.json, test.json", root, MIKELS)
    for split in SPLITS:
        path = root / f"{split}.json"
        if not path.is_file():
            listing.notes.append(f"{path.name} is not there")
            continue
        entries = read_json(path)
        for number, entry in enumerate(entries if isinstance(entries, list) else [], start=1):
            emotion, image = _emotion_and_image(entry)
            if image is None or not MIKELS.knows(emotion):
                listing.refuse("no [emotion, image, annotation]", f"{path.name}, entry {number}")
            else:
                listing.add_named(image, [root], MIKELS.index(emotion), split=split)
    return listing


def _emotion_and_image(entry: Any) -> tuple[str, str | None]:
    if not isinstance(entry, list) or len(entry) not in (3, 4):
        return "", None
    return str(entry[0]), str(entry[-2])
