"""The folder that a run writes, and the conditions under which the run can be resumed.

``RUN/recipe.json`` records the recipe and photos of the run. A run is resumed from
``RUN/last.ckpt`` only with the same ones; otherwise its card would describe one training and its
weights come from another. A run that starts over deletes what the earlier one left, so that a model
never lies beside a recipe that is not its own; the work of another run is deleted on demand only.
"""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from handler.atomic_files import probe_folder
from handler.values.errors import VeaError
from train.fitting.trainer import BEST, LAST
from train.recipes.recipe import Recipe

_FACTS = "recipe.json"
# Facts that must be equal in a run and in its resumption.
_MUST_AGREE = {
    "recipe": "another recipe",
    "photos": "other photos",
    "begun_from": "other models to begin from",
    "soft_labels": "other soft labels",
    "faces": "other faces",
    "protocol": "another protocol",
}
# Settings that may differ where another machine resumes a run.
_OF_THE_MACHINE = ("devices", "checkpoint_every", "deterministic")


class RunError(VeaError):
    """The run cannot be resumed, or its folder cannot be used. The message is one line."""


def check_run_folder(
    run: Path, recipe: dict[str, Any], *, products: Sequence[str], resume: bool, force: bool
) -> None:
    """Check what can be known of the folder before the data set is read.

    Args:
        run: Folder of the run.
        recipe: Recipe of the run, in plain values.
        products: Names of the files and folders that a finished run leaves, beside checkpoints.
        resume: Whether a run in the folder is to be resumed.
        force: Whether another run in the folder may be replaced.

    Raises:
        RunError: The folder cannot be written, the run in it has another recipe, or the checkpoint
            to resume from is damaged.
    """
    try:
        probe_folder(run)
    except OSError as error:
        raise RunError(f"cannot write to the run's folder {run}: {error.strerror}") from None
    if resume and (run / LAST).exists():
        _check_same(run, {"recipe": recipe}, only=("recipe",))
        _check_checkpoints(run)
    else:
        _refuse_other(run, {"recipe": recipe}, products, force=force, only=("recipe",))


def prepare(
    run: Path,
    facts: dict[str, Any],
    *,
    products: Sequence[str],
    resuming: bool,
    force: bool = False,
) -> None:
    """Prepare the folder of a new or a resumed run.

    Args:
        run: Folder of the run.
        facts: JSON document of what the run is made of: ``recipe``, and what else must agree.
        products: Names of the files and folders that a finished run leaves, beside checkpoints.
        resuming: Whether the run that is in the folder is resumed.
        force: Whether another run in the folder may be replaced.

    Raises:
        RunError: The run in the folder was begun with another recipe or other photos.
    """
    run.mkdir(parents=True, exist_ok=True)
    if resuming:
        _check_same(run, facts)
        _keep_logs(run)
    else:  # so that neither a model nor a checkpoint of an earlier run is taken for this one's
        _refuse_other(run, facts, products, force=force)
        for name in (*products, LAST, BEST):
            if (run / name).is_dir():
                shutil.rmtree(run / name)
            else:
                (run / name).unlink(missing_ok=True)
    (run / _FACTS).write_text(json.dumps(facts, indent=2) + "\n")


def read_recipe(run: Path) -> Recipe:
    """The recipe of the run in a folder.

    Raises:
        RunError: The folder does not say how its run was begun, or this program has no such recipe.
    """
    try:
        return Recipe.from_dict(json.loads((run / _FACTS).read_text())["recipe"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise RunError(f"{run / _FACTS} does not have the recipe of a training") from None


def _refuse_other(
    run: Path,
    facts: dict[str, Any],
    products: Sequence[str],
    *,
    force: bool,
    only: Sequence[str] = (),
) -> None:
    """Refuse to replace what another run left."""
    left = [name for name in (*products, LAST, BEST) if (run / name).exists()]
    if force or not left:
        return
    try:
        other = _first_difference(run, facts, only)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        other = "a recipe that is not known"
    if other:
        raise RunError(
            f"{run} holds the {left[0]} of a run with {other}: give the new run another folder "
            "with --run, or replace that one with --force"
        )


def _check_same(run: Path, facts: dict[str, Any], *, only: Sequence[str] = ()) -> None:
    advice = "leave out --resume to start over, or give the new run another folder with --run"
    try:
        other = _first_difference(run, facts, only)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise RunError(f"{run / _FACTS} does not say how the run was begun: {advice}") from None
    if other:
        raise RunError(f"{run} was begun with {other}: {advice}")


def _first_difference(run: Path, facts: dict[str, Any], only: Sequence[str]) -> str | None:
    """What is different in the run that is in the folder, such as ``another recipe``, or None."""
    begun = json.loads((run / _FACTS).read_text())
    ours = json.loads(json.dumps(facts))  # as JSON has them: no tuples
    for found in (begun, ours):
        for name in _OF_THE_MACHINE:
            found["recipe"].get("training", {}).pop(name, None)
    differences = (
        other
        for what, other in _MUST_AGREE.items()
        if (not only or what in only) and begun.get(what) != ours.get(what)
    )
    return next(differences, None)


def _check_checkpoints(run: Path) -> None:
    """Read the checkpoint, and the best epoch's where it refers to that."""
    states = _read_checkpoint(run / LAST).get("callbacks", {}).values()
    best = [state.get("best_model_path") for state in states if isinstance(state, dict)]
    if any(path and Path(path).name == BEST for path in best):
        _read_checkpoint(run / BEST)


def _read_checkpoint(path: Path) -> dict[str, Any]:
    try:
        checkpoint = torch.load(path, weights_only=True, map_location="cpu")
        if "state_dict" not in checkpoint:
            raise ValueError
    except (OSError, RuntimeError, EOFError, ValueError, TypeError, pickle.UnpicklingError):
        raise RunError(
            f"the checkpoint {path} is missing or damaged: leave out --resume to start over"
        ) from None
    return dict(checkpoint)


def _keep_logs(run: Path) -> None:
    """Rename the folder of the earlier logs, which the logger would empty."""
    logs = run / "logs"
    if logs.is_dir():
        number = 1 + sum(1 for _ in run.glob("logs-*"))
        logs.rename(run / f"logs-{number}")
