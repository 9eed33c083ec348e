"""How many faces each source finds in the photos of ``labels.csv``, and what that costs.

python docs/research/faces/faces_found.py FOLDER [PART ...]

FOLDER holds ``fi/train``, ``fi/val`` and ``photos`` (OASIS); PART is ``calibration`` or ``judged``,
both by default. BlazeFace runs in its compiled form, on one thread.
"""

from __future__ import annotations

import csv
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import torch

from handler.images import decode
from handler.onnx_runtime import OnnxTrunk, open_graph
from handler.stimuli.faces.dlib_faces import DlibFaces
from handler.stimuli.faces.light import SIDES, LightFaces, load_network
from handler.stimuli.faces.search import FaceSource
from train.compiling.export import ToCompile, export
from train.compiling.quantise import fuse
from train.weights import face_detector, landmark_file

THRESHOLDS = (0.0, 0.3, 0.5, 0.6, 0.7, 0.8, 1.0)
LOOKS = [(first, second) for first in (160, 128, 96) for second in (160, 128, 96)]


def sources() -> dict[str, FaceSource]:
    """The sources that are compared, by name."""
    weights = face_detector("light")
    assert weights is not None
    with tempfile.TemporaryDirectory() as scratch:
        exported, fused = Path(scratch, "exported.onnx"), Path(scratch, "fused.onnx")
        export(ToCompile(load_network(weights), max(SIDES["light"])), exported, fold=True)
        fuse(exported, fused)
        network = OnnxTrunk(open_graph(fused, 1))
    found: dict[str, FaceSource] = {"hog": DlibFaces(landmarks=landmark_file())}
    return (
        found
        | {
            f"{backend} {threshold}": LightFaces(network, threshold=threshold, sides=sides)
            for backend, sides in SIDES.items()
            for threshold in THRESHOLDS
        }
        | {
            f"{sides[0]} and {sides[1]} pixels": LightFaces(network, threshold=0.6, sides=sides)
            for sides in LOOKS
        }
    )


def main(folder: Path, parts: Sequence[str]) -> None:
    """Print the table."""
    torch.set_num_threads(1)
    with Path(__file__).with_name("labels.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if not parts or row["part"] in parts]
    for name, source in sources().items():
        found: dict[tuple[str, str, str], list[bool]] = defaultdict(list)
        started = time.process_time()
        decoding = 0.0
        for row in rows:
            before = time.process_time()
            image = decode((folder / row["photo"]).read_bytes())
            decoding += time.process_time() - before
            data = row["photo"].partition("/")[0]
            hit = bool(source.select([image]).counts[0])
            found[row["part"], data, row["label"]].append(hit)
        spent = 1000 * (time.process_time() - started - decoding) / len(rows)
        print(f"{name}: {spent:.1f} ms of processor time a photo")
        for (part, data, label), hits in sorted(found.items()):
            print(f"  {part:12}{data:8}{label:10}{sum(hits):4} of {len(hits)}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
