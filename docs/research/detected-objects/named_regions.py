"""How many named regions an archive tells, how many are right, and what its detector costs.

python docs/research/detected-objects/named_regions.py ARCHIVE PHOTOS

PHOTOS is the folder of OASIS. 60 of them, drawn with seed 20, were looked at: ``labels.csv``
has each region that was named, and whether the name is right. A region that is not in it is listed;
it is to be looked at, too.
"""

from __future__ import annotations

import csv
import random
import resource
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from handler.predictor import Predictor
from handler.stimuli.objects.suppression import overlaps
from handler.values.places import Box
from handler.values.prediction import Prediction

LABELS = Path(__file__).with_name("labels.csv")
SAME = 0.5  # overlap above which a region is the one that was looked at
TIMES = 3


@dataclass(frozen=True)
class Region:
    """A named region of a photo; ``right`` is None until it was looked at."""

    photo: str
    source: str
    label: str
    box: Box
    right: bool | None = None


def chosen(folder: Path) -> list[str]:
    """The names of the 60 photos."""
    return random.Random(20).sample(sorted(file.name for file in folder.glob("*.jpg")), 60)


def labels() -> list[Region]:
    """The regions that were looked at."""
    with LABELS.open() as file:
        return [
            Region(
                *(row["photo"], row["source"], row["label"]),
                (float(row["x1"]), float(row["y1"]), float(row["x2"]), float(row["y2"])),
                row["right"] == "yes",
            )
            for row in csv.DictReader(file)
        ]


def regions(predictor: Predictor, folder: Path, names: list[str]) -> Iterator[Region]:
    """The regions that the archive names."""
    answers = predictor.predict([(folder / name).read_bytes() for name in names], explain=True)
    for name, answer in zip(names, answers, strict=True):
        assert isinstance(answer, Prediction)
        for item in answer.objects:
            if item.label:
                yield Region(name, "window", item.label, item.box)
        for thing in answer.detected or ():
            yield Region(name, "detected", thing.label, thing.box)


def judged(region: Region, known: list[Region]) -> bool | None:
    """Whether a region's name is right, by the region that was looked at in its place."""
    key = (region.photo, region.source, region.label)
    same = [one for one in known if (one.photo, one.source, one.label) == key]
    if not same:
        return None
    shared = overlaps(torch.tensor([region.box]), torch.tensor([one.box for one in same]))[0]
    best = int(shared.argmax())
    return same[best].right if shared[best] >= SAME else None


def cost(archive: Path, runtime: str, folder: Path, names: list[str]) -> float:
    """Least processor time of the detector, in milliseconds a photo."""
    predictor = Predictor.load(archive, runtime=runtime)
    assert predictor.things is not None
    images = [predictor.decode((folder / name).read_bytes()) for name in names]
    pictures = [image for image in images if isinstance(image, torch.Tensor)]
    predictor.things.source.named(pictures[:8])
    times = []
    for _ in range(TIMES):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_utime
        for start in range(0, len(pictures), 8):
            predictor.things.source.named(pictures[start : start + 8])
        times.append(resource.getrusage(resource.RUSAGE_SELF).ru_utime - before)
    return 1000 * min(times) / len(pictures)


def main(archive: Path, folder: Path) -> None:
    """Print what was found."""
    torch.set_num_threads(1)
    names, known = chosen(folder), labels()
    found = list(regions(Predictor.load(archive), folder, names))
    seen = [(region, judged(region, known)) for region in found]
    for sources in (("window",), ("detected",), ("window", "detected")):
        own = [(one, right) for one, right in seen if one.source in sources]
        count = sum(bool(right) for _, right in own)
        unseen = sum(right is None for _, right in own)
        photos = {one.photo for one, _ in own}
        mostly = [
            photo
            for photo in photos
            if 2 * sum(bool(right) for one, right in own if one.photo == photo)
            > sum(one.photo == photo for one, _ in own)
        ]
        print(
            f"{' + '.join(sources)}: {len(own)} regions, {count} right ({count / len(own):.0%}), "
            f"{unseen} not looked at; {len(photos)} photos with a name, {len(mostly)} mostly right"
        )
    for region, right in seen:
        if right is None:
            print("not looked at:", region)
    for runtime in ("torch", "onnx"):
        print(f"{runtime}: {cost(archive, runtime, folder, names):.1f} ms of user time a photo")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
