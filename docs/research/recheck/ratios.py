"""What a recheck ratio costs and keeps: photos computed twice, and emotions that still change.

python docs/research/recheck/ratios.py ARCHIVE FI SPLIT [PHOTOS]

ARCHIVE has an 8-bit form that is rechecked; whatever its ratio, both forms compute all photos here.
Photos of the training split are a random selection without the first 512 that `vea package` would
calibrate with.
"""

from __future__ import annotations

import random
import sys
from dataclasses import replace
from pathlib import Path

import torch

from handler.images import decode
from handler.predictor import Predictor
from handler.stimuli.selector import find_objects
from handler.values.emotions import wheel
from train.compiling.measure import calibration_photos
from train.datasets.reading import read_dataset

RATIOS = (1.0, 1.04, 1.05, 1.06, 1.07, 1.08, 1.09, 1.1, 1.12, 1.14, 1.16, 1.2, 1.24, 1.28)
DIFFERENCES = (0.05, 0.06, 0.08)
_BATCH, _CALIBRATED = 8, 512


def main(archive: Path, dataset: Path, split: str, count: int) -> None:
    """Print the table."""
    torch.set_num_threads(1)
    predictor = Predictor.load(archive, threads=1)
    table = read_dataset(dataset, wheel(predictor.wheel.name)).split(split)
    rows = [(Path(path), label) for path, label in zip(table["path"], table["label"], strict=True)]
    if split == "train":
        known = set(calibration_photos(archive, dataset, _CALIBRATED).photos)
        rows = [row for row in rows if row[0] not in known]
    rows = random.Random(4).sample(rows, min(count, len(rows)))
    eights, floats = _both(predictor, [path for path, _ in rows])
    truth = torch.tensor([label for _, label in rows])
    print(f"{len(rows)} photos; rounding moves the logarithm by {_moved(eights, floats):.4f}")
    print("rule, rechecked, changed emotions, change of NLL, of accuracy")
    rules = [*(("ratio", value) for value in RATIOS), *(("difference", v) for v in DIFFERENCES)]
    for name, value in rules:
        assert predictor.precise is not None
        ratio, difference = (value, None) if name == "ratio" else (None, value)
        form = replace(predictor.precise, ratio=ratio, difference=difference)
        unsure = form.decides(eights)
        answers = torch.where(unsure.unsqueeze(1), floats, eights)
        changed = (answers.argmax(1) != floats.argmax(1)).double().mean()
        nll = [-float(one.gather(1, truth.unsqueeze(1)).mean()) for one in (answers, floats)]
        right = [float((one.argmax(1) == truth).double().mean()) for one in (answers, floats)]
        print(
            f"{name:10} {value:4} {unsure.double().mean():7.2%} {changed:7.2%} "
            f"{nll[0] - nll[1]:+8.4f} {100 * (right[0] - right[1]):+6.2f}"
        )


def _moved(eights: torch.Tensor, floats: torch.Tensor) -> float:
    """Standard deviation of the change of log(p1 / p2), of the two emotions best in float32."""
    best, second = (eights - floats).gather(1, floats.topk(2, dim=1).indices).unbind(1)
    return float((best - second).std())


def _both(predictor: Predictor, paths: list[Path]) -> tuple[torch.Tensor, torch.Tensor]:
    """What the 8-bit form and the float32 form say: log p_emo, BxC each."""
    precise = predictor.precise
    if precise is None:
        raise SystemExit("the archive has no 8-bit form that is rechecked")
    eights, floats = [], []
    for start in range(0, len(paths), _BATCH):
        images = [decode(path.read_bytes()) for path in paths[start : start + _BATCH]]
        with torch.inference_mode():
            stimuli = predictor.selector.select(images)
            eights.append(predictor.network(stimuli).log_probabilities.double())
            objects, feature_map = find_objects(
                precise.objects, precise.shared, images, stimuli.colour
            )
            exact = replace(stimuli, objects=objects, feature_map=feature_map)
            floats.append(precise.network(exact).log_probabilities.double())
    return torch.cat(eights), torch.cat(floats)


if __name__ == "__main__":
    given = [*sys.argv[1:], str(sys.maxsize)]
    main(Path(given[0]), Path(given[1]), given[2], int(given[3]))
