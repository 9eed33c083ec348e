"""The folder that a run writes, and what a run that goes on there must have in common with it.

``RUN/recipe.json`` says what the run was begun with. A run goes on from ``RUN/last.ckpt`` with the
same recipe and photos alone, else its card would tell of one training and its weights come from
another; a run that starts over leaves nothing of the earlier one to go on from.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from handler.values.errors import VeaError
from train.fitting.trainer import BEST, LAST

_FACTS = "recipe.json"
# What a run that goes on must have in common with what it was begun with.
_MUST_AGREE = {
    "recipe": "another recipe",
    "photos": "other photos",
    "soft_labels": "other soft labels",
    "faces": "other faces",
}
# Settings under which another machine may go on with a run.
_OF_THE_MACHINE = ("devices", "checkpoint_every", "deterministic")


class RunError(VeaError):
    """The run cannot be gone on with; the message is one line for people."""


def prepare(run: Path, facts: dict[str, Any], *, going_on: bool) -> None:
    """Make the run's folder ready to begin or to go on.

    Args:
        run: the folder.
        facts: what the run is made of, as JSON has it: ``recipe``, and what else must agree.
        going_on: with what is in the folder.

    Raises:
        RunError: what is in it was begun with another recipe or other photos.
    """
    run.mkdir(parents=True, exist_ok=True)
    if going_on:
        _check_same(run, facts)
        _keep_logs(run)
    else:  # else what an earlier run left would be gone on from if this one is killed at once
        (run / LAST).unlink(missing_ok=True)
        (run / BEST).unlink(missing_ok=True)
    (run / _FACTS).write_text(json.dumps(facts, indent=2) + "\n")


def _check_same(run: Path, facts: dict[str, Any]) -> None:
    advice = "leave out --resume to start over, or give the new run another folder with --run"
    try:
        begun = json.loads((run / _FACTS).read_text())
        # As JSON has them: no tuples.
        ours = json.loads(json.dumps(facts))
        for found in (begun, ours):
            for name in _OF_THE_MACHINE:
                found["recipe"].get("training", {}).pop(name, None)
        for what, other in _MUST_AGREE.items():
            if begun.get(what) != ours.get(what):
                raise RunError(f"{run} was begun with {other}: {advice}")
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise RunError(f"{run / _FACTS} does not say how the run was begun: {advice}") from None


def _keep_logs(run: Path) -> None:
    """Set the logs of the run so far aside: the logger would empty their folder."""
    logs = run / "logs"
    if logs.is_dir():
        number = 1 + sum(1 for _ in run.glob("logs-*"))
        logs.rename(run / f"logs-{number}")
