"""How fast earlier runs of the same model were, for an estimate of what the next one takes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from handler.values.errors import VeaError
from handler.values.prediction import ModelIdentity
from jobs.output.finished_runs import find_runs
from jobs.output.root_schema import root_of
from jobs.storage.folders import open_folder
from jobs.storage.stores import Stores
from jobs.values.layout import MANIFEST, SUCCESS
from jobs.values.locations import is_in_store

_MAX_MANIFESTS = 60  # the latest runs of a root of many years


@dataclass(frozen=True)
class MeasuredRate:
    """What the manifest of an earlier run says of its speed and size.

    Attributes:
        images_per_second: Rate of the attempt that finished the run.
        images: Number of images that this attempt scored.
        bytes_per_row: Bytes of the run's files for each row.
        location: Location of the run.
    """

    images_per_second: float
    images: int
    bytes_per_row: float
    location: str


def earlier_rate(out: str, model: ModelIdentity, stores: Stores) -> MeasuredRate | None:
    """The rate of the latest finished run beside ``out`` that the same model scored.

    Runs are looked for below the root of the nights (``results`` of ``results/dt=2026-11-23``), or
    in the neighbouring folders where a local path gives no columns. A prefix on S3 without such a
    root is not searched, because it may hold anything.

    Args:
        out: Folder of the run that is estimated.
        model: Model that will score, whose digest and runtime count. Runs that copied answers of
            others (`--since`) do not.
        stores: Clients of the object stores.
    """
    for location, manifest in islice(_manifests(out, stores), _MAX_MANIFESTS):
        try:
            scorer, facts = manifest["model"], manifest["facts"]
            rate, images = float(facts["images_per_second"]), int(facts["images"])
            size = float(manifest["bytes"]) / max(1, int(manifest["rows"]))
        except (KeyError, TypeError, ValueError):
            continue  # of another version, or edited
        if manifest.get("settings", {}).get("since"):
            continue  # most of its images may have been copied, which takes next to no time
        same = (scorer.get("digest"), scorer.get("runtime")) == (model.digest, model.runtime)
        if same and rate > 0:
            return MeasuredRate(rate, images, size, location)
    return None


def _manifests(out: str, stores: Stores) -> Iterator[tuple[str, dict[str, Any]]]:
    """Finished runs and their manifests, the latest locations first."""
    for location in _neighbours(out, stores):
        try:
            folder = open_folder(location, stores, create=False)
            yield location, dict(json.loads(folder.read(MANIFEST)))
        except (VeaError, ValueError, TypeError):
            continue


def _neighbours(out: str, stores: Stores) -> Iterator[str]:
    root = root_of(out)
    if root is not None:
        try:
            runs = find_runs(root, stores)
        except VeaError:  # there is no such folder yet
            return
        yield from (run.location for run in reversed(runs) if run.finished)
    elif not is_in_store(out):
        beside = Path(out).absolute().parent
        if beside.is_dir():
            done = (path.parent for path in beside.glob(f"*/{SUCCESS}"))
            yield from (str(path) for path in sorted(done, reverse=True))
