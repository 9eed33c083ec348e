"""Two sources of objects, row by row: differences of accuracy on the same photos, by what is found.

python docs/research/ablation/sources.py BOXES WINDOWS FI CACHE

BOXES and WINDOWS are folders that ``vea ablate branches --run`` filled, with the settings of
docs/research/ablation.md; CACHE is the folder that held the stimuli of both. What the detector
finds is told even where the folders hold no trainings yet.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

from handler.values import emotions
from train.ablation.studies import Study, build_study, full_model
from train.ablation.training import unpack_bits
from train.datasets.reading import read_dataset
from train.evaluation.intervals import Floats, percentile_interval, resampled_means
from train.fitting.builders import build_selector, selector_files
from train.recipes.recipe import Recipe, load_recipe
from train.stimuli.cache import build_cache

SETTINGS = (
    "init={global: imagenet, objects: nanodet-g, expression: fer2013-w32}",
    "network.expression_width=32",
    "network.object_features=384",
    "selector.objects={source: light, count: 20}",
    "selector.faces={backend: light, threshold: 0.6}",
)
SEEDS = (1, 2, 3)
FOUND, PERSON = 0.3, 0.47  # confidence of a region, and that at which `person` is a name


def parts_of(data: Path, cache: Path, recipe: Recipe) -> dict[str, np.ndarray]:
    """Masks of the validation photos, by what the detector finds in them."""
    files = selector_files(recipe)
    selector = build_selector(recipe, files)
    wheel = emotions.wheel(recipe.network.wheel)
    table = read_dataset(data, wheel).split("val")
    known = build_cache(table, selector, cache, files=files, colour=False)
    objects = known.stimuli(range(len(table))).objects
    person = selector.objects.vocabulary.index("person")
    people = (objects.mask & (objects.labels == person) & (objects.scores >= PERSON)).any(dim=1)
    # Where nothing is found, the whole picture is the one region, with a score below FOUND.
    boxes = (objects.mask & (objects.scores >= FOUND)).sum(dim=1)
    found = boxes > 0
    shares = ", ".join(f"{n}: {100 * (boxes >= n).double().mean():.1f} %" for n in (1, 2, 5, 10))
    print(f"photos with at least so many boxes: {shares}; {boxes.double().mean():.1f} on average")
    return {
        "all": np.ones(len(table), dtype=bool),
        "a person": people.numpy(),
        "other things": (found & ~people).numpy(),
        "nothing": (~found).numpy(),
    }


def hits(run: Path, study: Study, row: str) -> Floats | None:
    """Mean over seeds of whether each photo's emotion is right; None if a seed is missing."""
    places = [run / "trainings" / f"{study.rows[row].slug}_seed{seed}.json" for seed in SEEDS]
    if not all(place.exists() for place in places):
        return None
    documents = [json.loads(place.read_text()) for place in places]
    bits = [unpack_bits(one["bits"]["hits"], one["images"]) for one in documents]
    return np.mean(bits, axis=0, dtype=np.float64)


def main(boxes: Path, windows: Path, data: Path, cache: Path) -> None:
    """Print the table."""
    recipe = load_recipe("lite2", SETTINGS)
    study = build_study("branches", full_model(load_recipe("lite2")))
    parts = parts_of(data, cache, recipe)
    print("| branches |", " | ".join(f"{name} ({own.sum()})" for name, own in parts.items()), "|")
    print("| --- |" + " --- |" * len(parts))
    for row in study.rows:
        one, other = hits(boxes, study, row), hits(windows, study, row)
        if one is None or other is None:
            continue
        cells = []
        for own in parts.values():
            differences = 100 * (one - other)[own]
            resampled = resampled_means(differences[:, np.newaxis])[:, 0]
            low, high = percentile_interval(resampled)
            cells.append(f"{differences.mean():+.1f} [{low:+.1f} to {high:+.1f}]")
        print(f"| {row} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:5]))
