"""A run that is killed, wherever it is, goes on and ends with the weights it would have had."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.integration

# Runs `fit` in forked processes, some of which kill themselves: one import of torch for all.
# Every case is (name, training settings, network settings, place to be killed at, step).
_PROGRAM = """
import csv, hashlib, json, os, signal, sys
from dataclasses import replace
from pathlib import Path

from handler.values.configs import NetworkConfig, SelectorConfig, SemanticConfig
from train.fitting import fit as fitting, trainer as running
from train.fitting.module import EmotionModule
from train.recipes.recipe import Recipe, TrainingConfig

data, root, cases = Path(sys.argv[1]), Path(sys.argv[2]), json.loads(sys.argv[3])
LITE = "tf_efficientnet_lite0"
RECIPE = Recipe(
    name="tiny",
    init="random",
    selector=SelectorConfig(
        size=64, objects={"source": "grid", "backbone": LITE, "size": 64, "count": 4}
    ),
    network=NetworkConfig(
        global_backbone=None,
        object_features=1280,
        semantic=SemanticConfig(hidden=8, attention=8, steps=2, dropout=0.5),
        expression_width=2,
        dropout=0.4,
    ),
    training=TrainingConfig(epochs=3, batch_size=3, crop=48, checkpoint_every=2, lr=0.01),
)


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def die_at(place, step):
    if place == "save":  # a checkpoint is written and has not got its name yet
        replace_file = Path.replace

        def interrupted(path, target):
            if path.name.startswith(".last.ckpt."):
                interrupted.calls += 1
                if interrupted.calls == step:
                    die()
            return replace_file(path, target)

        interrupted.calls = 0
        Path.replace = interrupted
    elif place == "model":
        fitting.write_model_folder = lambda *args, **kwargs: die()
    elif place:
        hook = getattr(EmotionModule, place)

        def watched(module, *args):
            if step in (None, module.global_step):
                die()
            return hook(module, *args)

        setattr(EmotionModule, place, watched)


def run(folder, settings, network, resume, place=None, step=None):
    child = os.fork()
    if child == 0:
        die_at(place, step)
        workers = settings.pop("workers", 0)
        recipe = replace(
            RECIPE,
            network=replace(RECIPE.network, **network),
            training=replace(RECIPE.training, **settings),
        )
        code = 1
        try:
            fitting.fit(
                recipe, data, folder, cache_root=root / "cache", resume=resume,
                progress_bar=False, workers=workers,
            )
            code = 0
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    _, status = os.waitpid(child, 0)
    return -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)


def digest(folder):
    return hashlib.sha256((folder / "model" / "weights.safetensors").read_bytes()).hexdigest()


def validated(folder):
    with (folder / "logs" / "metrics.csv").open() as file:
        return sorted({int(row["epoch"]) for row in csv.DictReader(file) if row["val_loss"]})


answers = {}
for name, settings, network, place, step in cases:
    folder = root / name
    if place is None:
        assert run(folder, settings, network, False) == 0
        answers[name] = digest(folder)
        continue
    killed = run(folder, settings, network, False, place, step)
    assert killed == -signal.SIGKILL, (name, killed)
    assert run(folder, settings, network, True) == 0, name
    answers[name] = digest(folder)
    if place == "on_validation_end":
        answers[f"{name} validated"] = validated(folder)
print("ANSWERS " + json.dumps(answers))
"""

# Ten pictures in batches of three: three steps an epoch, nine in all, with a record every two.
KILLED = [
    ("on_train_batch_start", 5),
    ("on_validation_end", 6),
    ("save", 3),
    ("model", None),
]
KILLED_ELSEWHERE = [
    ("on_train_batch_start", 0),
    ("on_train_batch_start", 1),
    ("on_train_batch_start", 2),
    ("on_train_batch_start", 7),
    ("on_validation_start", 3),
    ("on_train_epoch_end", 6),
    ("on_train_end", None),
    ("save", 1),
]
HARDER = KILLED[:1]
HARDER_ELSEWHERE = [*KILLED[1:3], ("on_train_batch_start", 7), ("on_train_end", None)]
ALL = {"keep": "best", "ema": 0.5, "early_stopping": 2, "optimizer": "adam", "schedule": "step"}
ALL |= {"step_epochs": 1, "label_smoothing": 0.1, "mixup": 0.5, "epochs": 6}
STAGES = {"freeze_stages": 2, "epochs": 2}


Cases = list[tuple[object, ...]]


@pytest.fixture(scope="module")
def answers(data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Digests of the weights that each run came to, interrupted or not."""
    lite = {"global_backbone": "tf_efficientnet_lite0"}
    cases = killed_runs(KILLED, HARDER)
    cases += [("stages", STAGES, lite, None, None)]
    cases += [("stages mid", STAGES, lite, "on_train_batch_start", 5)]
    cases += [("workers", {"workers": 1}, {}, "on_train_batch_start", 5)]
    cases += [("other seed of the step", {"batch_size": 5}, {}, None, None)]
    return run(cases, data, tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="module")
def more_answers(data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Those of the runs that are killed at any other place."""
    cases = killed_runs(KILLED_ELSEWHERE, HARDER_ELSEWHERE)
    return run(cases, data, tmp_path_factory.mktemp("runs"))


def killed_runs(
    plain: Sequence[tuple[str, int | None]], harder: Sequence[tuple[str, int | None]]
) -> Cases:
    """Runs with few settings and with many, each to its end and killed at each place."""
    return [
        ("plain", {}, {}, None, None),
        *((f"plain {place} {step}", {}, {}, place, step) for place, step in plain),
        ("all", ALL, {}, None, None),
        *((f"all {place} {step}", ALL, {}, place, step) for place, step in harder),
    ]


def run(cases: Cases, data: Path, root: Path) -> dict[str, Any]:
    program = subprocess.run(
        [
            *(sys.executable, "-c", _PROGRAM, str(data)),
            *(str(root), json.dumps(cases)),
        ],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"},
    )
    assert program.returncode == 0, program.stdout[-2000:] + program.stderr[-4000:]
    (line,) = [line for line in program.stdout.splitlines() if line.startswith("ANSWERS ")]
    return json.loads(line.removeprefix("ANSWERS "))


@pytest.mark.long
@pytest.mark.parametrize(("place", "step"), KILLED)
def test_a_killed_run_ends_with_the_same_weights(
    answers: dict[str, Any], place: str, step: int | None
) -> None:
    assert answers[f"plain {place} {step}"] == answers["plain"]


@pytest.mark.long
@pytest.mark.parametrize(("place", "step"), KILLED_ELSEWHERE)
def test_so_does_one_killed_at_any_other_place(
    more_answers: dict[str, Any], place: str, step: int | None
) -> None:
    assert more_answers[f"plain {place} {step}"] == more_answers["plain"]


@pytest.mark.parametrize(("place", "step"), HARDER)
def test_so_does_one_with_averaged_weights_early_stopping_and_the_best_epoch(
    answers: dict[str, Any], place: str, step: int | None
) -> None:
    assert answers[f"all {place} {step}"] == answers["all"]


@pytest.mark.long
@pytest.mark.parametrize(("place", "step"), HARDER_ELSEWHERE)
def test_so_does_such_a_one_killed_at_any_other_place(
    more_answers: dict[str, Any], place: str, step: int | None
) -> None:
    assert more_answers[f"all {place} {step}"] == more_answers["all"]


def test_frozen_stages_stay_frozen_in_the_middle_of_an_epoch(answers: dict[str, Any]) -> None:
    assert answers["stages mid"] == answers["stages"]


def test_a_validation_that_was_cut_short_is_done_again(answers: dict[str, Any]) -> None:
    assert answers["plain on_validation_end 6 validated"] == [1, 2]


def test_processes_that_load_the_batches_change_nothing(answers: dict[str, Any]) -> None:
    assert answers["workers"] == answers["plain"]


def test_the_comparison_can_tell_runs_apart(answers: dict[str, Any]) -> None:
    different = ("plain", "all", "stages", "other seed of the step")
    assert len({answers[name] for name in different}) == len(different)
