"""The folder that a run writes, and the conditions under which the run can be resumed.

``RUN/recipe.json`` records the recipe and photos of the run. A run is resumed from
``RUN/last.ckpt`` only with the same ones; otherwise its card would describe one training and its
weights come from another. A run that starts over deletes the checkpoints of the earlier one.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from handler.values.errors import VeaError
from train.fitting.trainer import BEST, LAST

_FACTS = "recipe.json"
# Facts that must be equal in a run and in its resumption.
_MUST_AGREE = {
    "recipe": "another recipe",
    "photos": "other photos",
    "soft_labels": "other soft labels",
    "faces": "other faces",
}
# Settings that may differ where another machine resumes a run.
_OF_THE_MACHINE = ("devices", "checkpoint_every", "deterministic")


class RunError(VeaError):
    """The run cannot be resumed. The message is one line for the user."""


def prepare(run: Path, facts: dict[str, Any], *, resuming: bool) -> None:
    """Prepare the folder of a new or a resumed run.

    Args:
        run: Folder of the run.
        facts: JSON document of what the run is made of: ``recipe``, and what else must agree.
        resuming: Whether the run that is in the folder is resumed.

    Raises:
        RunError: The run in the folder was begun with another recipe or other photos.
    """
    run.mkdir(parents=True, exist_ok=True)
    if resuming:
        _check_same(run, facts)
        _keep_logs(run)
    else:  # so that a resumption after an early kill does not find an earlier run's checkpoint
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
    """Rename the folder of the earlier logs, which the logger would empty."""
    logs = run / "logs"
    if logs.is_dir():
        number = 1 + sum(1 for _ in run.glob("logs-*"))
        logs.rename(run / f"logs-{number}")
