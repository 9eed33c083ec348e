"""EmotionROI (Peng et al. 2016): 1,980 photos, six emotions, with the authors' own split.

``images/<emotion>/<number>.jpg``; ``training_testing_split/{training,testing}.txt`` list
``emotion/file.jpg``. The maps in ``ground_truth/`` say where the emotion comes from and are not
needed here.
"""

from __future__ import annotations

from pathlib import Path

from handler.values.emotions import EKMAN, Wheel
from train.datasets.files import images_in, read_lines
from train.datasets.listing import Listing

LOOKED_FOR = "EmotionROI (training_testing_split/training.txt)"

_LISTS = {"train": "training.txt", "test": "testing.txt"}


def recognises(root: Path) -> bool:
    """Whether one of the split's files is there."""
    return any((root / "training_testing_split" / name).is_file() for name in _LISTS.values())


def list_images(root: Path, wheel: Wheel | None = None) -> Listing:
    """The images of both lists."""
    listing = Listing("EmotionROI: training_testing_split", root, EKMAN)
    images = root / "images"
    listed = set()
    for split, name in _LISTS.items():
        path = root / "training_testing_split" / name
        if not path.is_file():
            listing.notes.append(f"training_testing_split/{name} is not there")
            continue
        for line, entry in read_lines(path):
            emotion = entry.replace("\\", "/").split("/")[0]
            if not EKMAN.knows(emotion):
                listing.refuse(f"no emotion of {EKMAN.name}", f"{name}, line {line}")
            else:
                listing.add_named(entry, [images, root], EKMAN.index(emotion), split=split)
                listed.add(entry.replace("\\", "/"))
    for file in images_in(images) if images.is_dir() else ():
        if file.relative_to(images).as_posix() not in listed:
            listing.refuse("in neither list", file)
    return listing
