"""FER2013's faces, cut as the source `light` cuts those of photos: a data set in the same layout.

    python docs/research/faces/crops.py FER2013 CROPS

Each picture of 48x48 pixels is set into the middle of a square that continues its edges,
since BlazeFace looks for smaller faces, and cut by the eyes, nose and mouth found there. Pictures
in which it finds no face stay as they are. Prints how many.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from torchvision.io import write_png
from torchvision.transforms.functional import pad

from handler.images import decode
from handler.stimuli.faces.light import LightFaces, load_network
from handler.values.prediction import FACE_SIDE
from train.weights import face_detector

THRESHOLD = -1.0  # lower than for photos, since a face is there
AROUND, BATCH = 24, 64  # pixels on each side


@torch.inference_mode()
def main(source: Path, target: Path) -> None:
    """Write the crops of all pictures."""
    torch.set_num_threads(1)
    weights = face_detector("light")
    assert weights is not None
    faces = LightFaces(load_network(weights).eval(), threshold=THRESHOLD)
    pictures = sorted(path for path in source.glob("*/*/*") if path.is_file())
    found = 0
    for start in range(0, len(pictures), BATCH):
        paths = pictures[start : start + BATCH]
        images = [decode(path.read_bytes()) for path in paths]
        seen = faces.select([pad(image, [AROUND], padding_mode="edge") for image in images])
        found += int(seen.mask.sum())
        for path, image, crop, there in zip(paths, images, seen.crops, seen.mask, strict=True):
            file = target / path.relative_to(source).with_suffix(".png")
            file.parent.mkdir(parents=True, exist_ok=True)
            grey = crop if there else image[:1]
            assert grey.shape[-2:] == (FACE_SIDE, FACE_SIDE)
            write_png(grey, str(file))
    print(f"{len(pictures)} pictures, a face found in {found}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
