"""ArtPhoto (Machajdik and Hanbury 2010): 806 photos in one folder, the emotion in the name.

``testImages_artphoto/<emotion>_<number>.jpg`` (``sad_0001.jpg``), with a stray ``ReadMe.rtf``. Any
flat folder named so is read, FI's own file names (``amusement_0001.jpg``) among them.
"""

from __future__ import annotations

import re
from pathlib import Path

from handler.values.emotions import Wheel
from train.datasets.files import is_image, why_no_file, why_no_photo
from train.datasets.labels import own_wheel
from train.datasets.listing import Listing, Row

LOOKED_FOR = "ArtPhoto (testImages_artphoto/sad_0001.jpg, ...)"

_FOLDER = "testImages_artphoto"
_NAME = re.compile(r"([a-z]+)[_ -]?\d", re.IGNORECASE)


def recognises(root: Path) -> bool:
    """Whether image names begin with emotions: three quarters of the first hundred do."""
    place = _place(root)
    images = [p.name for p in place.iterdir() if why_no_photo(p, place) is None][:100]
    named = sum(emotion_prefix(name) is not None for name in images)
    return bool(images) and named >= 0.75 * len(images)


def list_images(root: Path, wheel: Wheel | None = None) -> Listing:
    """The images whose names begin with an emotion."""
    files = [p for p in sorted(_place(root).iterdir()) if p.is_file() or p.is_symlink()]
    prefixes = [emotion_prefix(p.name) for p in files if is_image(p)]
    listing = Listing(
        "ArtPhoto: file names that begin with an emotion",
        root,
        own_wheel((prefix for prefix in prefixes if prefix), wheel),
    )
    for file in files:
        prefix = emotion_prefix(file.name)
        if reason := why_no_photo(file, _place(root)) or why_no_file(file):
            listing.refuse(reason, file)
        elif prefix is None or not listing.wheel.knows(prefix):
            listing.refuse("its name begins with no emotion", file)
        else:
            listing.rows.append(Row(file, listing.wheel.index(prefix)))
    return listing


def emotion_prefix(name: str) -> str | None:
    """The emotion that ``name`` begins with (``sad_0001.jpg``: ``sad``), or None."""
    match = _NAME.match(name)
    if match is None or not own_wheel([match[1]]).knows(match[1]):
        return None
    return match[1]


def _place(root: Path) -> Path:
    return root / _FOLDER if (root / _FOLDER).is_dir() else root
