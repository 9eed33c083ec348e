"""The trainings of a study, each done once.

Each training writes one JSON file atomically. A training whose file exists is not repeated, so a
study that was killed resumes where it was. The file is named after the network and the seed, not
after the study, so that a row of several studies is trained once.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from handler.atomic_files import atomic_write
from train.ablation.studies import AblationError, Study, Variant
from train.ablation.training import Bits, Experiment, train_variant, unpack_bits

TRAININGS = "trainings"


@dataclass(frozen=True)
class Outcome:
    """Evaluation of one training.

    Attributes:
        hits: Mask of the photos whose most probable emotion is the labelled one, bool, n.
        polarity_hits: Mask of the photos whose more probable polarity is that of the label, bool,
            n.
        hard: Mask of the hard false examples (the most probable emotion has the wrong polarity),
            bool, n.
        document: Content of the JSON file.
    """

    hits: Bits
    polarity_hits: Bits
    hard: Bits
    document: Mapping[str, Any]


def run_study(
    study: Study,
    experiment: Experiment,
    run: Path,
    *,
    seeds: Sequence[int],
    only: Sequence[str] = (),
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, list[Outcome]]:
    """Train what is missing, and return all rows that are complete.

    Args:
        study: Study with the rows to train.
        experiment: Settings and features common to all rows.
        run: Folder of the results.
        seeds: Seeds, with each of which every row is trained once. All rows get the first before
            any gets the second, so that a study that is stopped early has a whole table of fewer
            seeds.
        only: Names of the rows to train beside the reference; empty trains all.
        on_progress: Callback with (trainings done, trainings in all).

    Returns:
        Outcomes by the name of the row, one for each seed. Rows that were not requested are
        included if an earlier run trained them.

    Raises:
        AblationError: A row is unknown, or a result in the folder was made with other settings.
    """
    rows = study.select(only)
    folder = run / TRAININGS
    folder.mkdir(parents=True, exist_ok=True)
    settings = experiment.settings()
    jobs = [(study.rows[row], seed) for seed in seeds for row in rows]
    for done, (variant, seed) in enumerate(jobs):
        on_progress(done, len(jobs))
        path = _place(folder, variant, seed)
        if _read(path, settings) is None:
            _write(path, train_variant(variant, seed, experiment) | {"settings": settings})
    on_progress(len(jobs), len(jobs))
    outcomes: dict[str, list[Outcome]] = {}
    for row, variant in study.rows.items():
        found = [_read(_place(folder, variant, seed), settings) for seed in seeds]
        whole = [outcome for outcome in found if outcome is not None]
        if len(whole) == len(seeds):
            outcomes[row] = whole
    return outcomes


def _place(folder: Path, variant: Variant, seed: int) -> Path:
    return folder / f"{variant.slug}_seed{seed}.json"


def _read(path: Path, settings: dict[str, Any]) -> Outcome | None:
    """The outcome in a file; None if there is none.

    Raises:
        AblationError: The file is damaged, or was made with other settings.
    """
    try:
        document = json.loads(path.read_text())
        found = document["settings"]
        images = document["images"]
        bits = {name: unpack_bits(text, images) for name, text in document["bits"].items()}
        outcome = Outcome(**bits, document=document)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise AblationError(f"{path} is damaged ({error}): delete it, and it is redone") from None
    if found != json.loads(json.dumps(settings)):
        ours = json.loads(json.dumps(settings))
        differing = ", ".join(sorted(k for k in ours if found.get(k) != ours[k])) or "format"
        raise AblationError(
            f"{path} was made with other settings ({differing}): delete the folder, or give the "
            "study another one with --run"
        )
    return outcome


def _write(path: Path, document: dict[str, Any]) -> None:
    """Write atomically, as two studies may use the same folder."""
    with atomic_write(path) as partial:
        partial.write_text(json.dumps(document, indent=1) + "\n")
