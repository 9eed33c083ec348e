"""Trained networks with different objects, compared on FI's validation photos, photo by photo.

    python docs/research/detected-objects/trained.py FI CACHE ARCHIVE BOXES WINDOWS

ARCHIVE is the model that both trainings began from, BOXES and WINDOWS are folders that `vea train`
filled with the settings of docs/research/detected-objects.md, and CACHE held the stimuli of both.
The archive answers in float32, with the stimuli of WINDOWS. A training is judged three times: as
it ended, and with shares of a half and of one of the weights that Global-Net and Expression-Net
began with (``training.start_share``); its temperatures are fitted anew each time.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from handler.archive.loading import load_archive
from handler.network import StimuliAwareNetwork
from handler.response import polarity_log_probabilities
from handler.stimuli.stimuli import Stimuli
from handler.values.emotions import wheel
from train.datasets.reading import read_dataset
from train.evaluation.intervals import Floats, percentile_interval, resampled_means
from train.fitting.builders import build_network, build_selector, selector_files
from train.fitting.calibration import calibrate
from train.fitting.data import StimuliDataset, validation_loader
from train.fitting.run_folder import read_recipe
from train.fitting.start import Start
from train.fitting.trainer import LAST
from train.stimuli.cache import build_cache

Batches = Iterable[tuple[Stimuli, torch.Tensor]]

SHARES = (0.0, 0.5, 1.0)
SAMPLES = 5000
FOUND = 0.3  # confidence of a region; where there is none, the whole picture is the one region
METRICS = ("accuracy, points", "NLL", "polarity, points")


def main(data: Path, cache: Path, archive: Path, boxes: Path, windows: Path) -> None:
    """Print what each network reaches, and the paired differences."""
    torch.set_num_threads(1)
    seen = {"boxes": validation(boxes, data, cache), "windows": validation(windows, data, cache)}
    table: dict[str, Floats] = {"archive": scores(load_archive(archive).network, seen["windows"])}
    for name, run in (("boxes", boxes), ("windows", windows)):
        for share in SHARES:
            network = trained(run, share)
            found = calibrate(network, seen[name])
            row = f"{name}, start share {share:g}"
            table[row] = scores(network, seen[name])
            factors = ", ".join(f"{factor:.2f}" for factor in found.factors)
            print(f"{row}: temperatures' factors {factors}; NLL before {found.loss_before:.4f}")
    for row, own in table.items():
        accuracy, nll, polarity = own.mean(axis=0)
        print(f"{row}: accuracy {accuracy:.2f}, NLL {nll:.4f}, polarity {polarity:.2f}")
    some = has_boxes(seen["boxes"])
    for share in SHARES:
        ours, theirs = (f"{name}, start share {share:g}" for name in ("boxes", "windows"))
        for row, other in ((ours, theirs), (ours, "archive"), (theirs, "archive")):
            compare(f"{row} against {other}", table[row] - table[other])
        difference = table[ours] - table[theirs]
        compare(f"likewise, {int(some.sum())} photos with a box", difference[some])
        compare(f"likewise, {int((~some).sum())} photos without", difference[~some])


def validation(run: Path, data: Path, cache: Path) -> Batches:
    """The validation photos as a training saw them."""
    recipe = read_recipe(run)
    files = selector_files(recipe)
    selector = build_selector(recipe, files)
    rows = read_dataset(data, wheel(recipe.network.wheel)).split("val")
    stimuli = build_cache(rows, selector, cache, files=files)
    dataset = StimuliDataset(stimuli, rows["path"], rows["label"].tolist(), selector.config)
    return validation_loader(dataset, batch_size=64)


def trained(run: Path, share: float) -> StimuliAwareNetwork:
    """The network of a training, with a share of the weights that it began with."""
    recipe = read_recipe(run)
    torch.manual_seed(recipe.seed)
    network = build_network(recipe, build_selector(recipe, selector_files(recipe)))
    start = Start(network, recipe.initial)
    kept = torch.load(run / LAST, weights_only=True, map_location="cpu")["state_dict"]
    mine = {name: value for name, value in kept.items() if name.startswith("network.")}
    network.load_state_dict({name.removeprefix("network."): mine[name] for name in mine})
    start.blend_into(network, share)
    return network.eval()


@torch.no_grad()
def scores(network: StimuliAwareNetwork, batches: Batches) -> Floats:
    """By photo: whether the emotion is right (0 or 100), its NLL, whether the polarity is right."""
    network.eval()
    rows = []
    for stimuli, labels in batches:
        said = network(stimuli).log_probabilities.double()
        poles = polarity_log_probabilities(said, network.wheel).argmax(1)
        right = (said.argmax(1) == labels, poles == (labels >= network.wheel.positives).long())
        nll = -said.gather(1, labels[:, None]).squeeze(1)
        rows.append(torch.stack([100.0 * right[0], nll, 100.0 * right[1]], dim=1))
    return np.asarray(torch.cat(rows), dtype=np.float64)


def has_boxes(batches: Batches) -> NDArray[np.bool_]:
    """Photos in which the detector finds something."""
    objects = [stimuli.objects for stimuli, _ in batches]
    return np.concatenate([(o.mask & (o.scores >= FOUND)).any(dim=1).numpy() for o in objects])


def compare(what: str, difference: Floats) -> None:
    """Print the means of differences, photos x metrics, with their intervals."""
    sampled = resampled_means(difference, resamples=SAMPLES)
    parts = []
    for column, name in enumerate(METRICS):
        low, high = percentile_interval(sampled[:, column])
        mean = difference[:, column].mean()
        parts.append(f"{name} {mean:+.4f} ({low:+.4f} to {high:+.4f})")
    print(f"{what}: {'; '.join(parts)}")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:6]))
