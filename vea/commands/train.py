"""`vea train`: data set -> weights."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from handler.values.errors import VeaError
from vea.commands.cache import CacheFolder, Labels, Settings, Workers, cache_home
from vea.local_paths import check_output_folder
from vea.stopping import stoppable
from vea.terminal import out, print_remarks, progress_bars

Data = Annotated[
    Path,
    typer.Option("--data", help="Data set in any layout that `vea data check` knows."),
]
EXPRESSION = "expression"  # kind of the recipes that pre-train Expression-Net alone


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("train")(train)


@stoppable("the run goes on with --resume")
def train(
    data: Data,
    recipe: Annotated[str, typer.Option(help="Name of a recipe, or path of a YAML file.")] = "lite",
    run: Annotated[
        Path | None, typer.Option(help="Folder for this run. [default: runs/RECIPE]")
    ] = None,
    soft_labels: Annotated[
        list[Path] | None,
        typer.Option(
            "--soft-labels",
            metavar="FILE",
            help="Distil another model: its predictions for the training photos, as `vea evaluate` "
            "writes them, become soft targets beside the labels. Repeatable.",
        ),
    ] = None,
    labels: Labels = None,
    cache: CacheFolder = None,
    workers: Workers = None,
    settings: Settings = None,
    resume: Annotated[bool, typer.Option(help="Resume an interrupted run.")] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Replace another run in the same folder.")
    ] = False,
) -> None:
    """Train a model.

    The stimuli of the data set are selected once and kept, then the network learns from them.
    RUN/model is what `vea evaluate` measures and `vea package` packs:

        vea train --recipe lite --data FI --set training.epochs=6

        vea evaluate runs/lite/model --data FI --json evaluation.json

        vea package runs/lite/model --name vea-lite --version 2.0 --evaluation evaluation.json

    A model can also be distilled from others, whose predictions are computed once:

        vea evaluate OTHER.mar --data FI --split train --predictions other.parquet

        vea train --recipe lite2 --data FI --soft-labels other.parquet

    The recipe `expression` pre-trains Expression-Net on the faces of FER2013, for `init` of another
    recipe; `expression-full` does so at the paper's width and needs a GPU:

        vea train --recipe expression --data FER2013

    A run that was killed at any step resumes with `--resume` and ends with the same weights. One
    that SIGTERM or Ctrl-C stops ends with exit code 143 or 130. A folder that holds a run with
    another recipe or other photos is refused unless `--force` replaces that run.
    """
    from train.fitting.fit import fit
    from train.fitting.trainer import is_first_process
    from train.recipes.reading import read_values
    from train.recipes.recipe import load_recipe

    if read_values(recipe).get("kind") == EXPRESSION:
        for option, value in (("--soft-labels", soft_labels), ("--labels", labels)):
            if value:
                raise VeaError(
                    f"{option} cannot be used with the recipe '{recipe}', which trains on faces"
                )
        _train_expression(recipe, data, run, settings or (), resume=resume, force=force)
        return
    chosen = load_recipe(recipe, settings or ())
    check_output_folder(cache or cache_home())
    with progress_bars() as on_progress:
        result = fit(
            chosen,
            data,
            run or Path("runs", chosen.name),
            cache_root=cache or cache_home(),
            labels=labels,
            soft_labels=soft_labels or (),
            resume=resume,
            force=force,
            workers=workers,
            progress_bar=sys.stdout.isatty(),
            on_progress=on_progress,
            on_remarks=print_remarks,
        )
    if not is_first_process():  # with several devices each has a process: one of them prints
        return
    said = f"val accuracy {result.val_accuracy:.1%}, polarity {result.val_polarity_accuracy:.1%}; "
    if result.calibration is not None:
        calibrated = result.calibration.accuracy_cross_validated
        said += f"with calibrated branches {calibrated:.1%} (cross-validated); "
    out().print(f"{said}the model is in {result.model}", soft_wrap=True)


def _train_expression(
    recipe: str, data: Path, run: Path | None, settings: Sequence[str], *, resume: bool, force: bool
) -> None:
    """Pre-train Expression-Net on faces."""
    from train.expression.fit import fit_expression
    from train.expression.recipe import load_expression_recipe

    chosen = load_expression_recipe(recipe, settings)
    with progress_bars() as on_progress:
        result = fit_expression(
            chosen,
            data,
            run or Path("runs", chosen.name),
            resume=resume,
            force=force,
            progress_bar=sys.stdout.isatty(),
            on_progress=on_progress,
        )
    for protocol, figure in result.evaluation["accuracy"].items():
        low, high = figure["interval_95"]
        said = f"PublicTest accuracy, {protocol}: {figure['value']:.1%} ({low:.1%} to {high:.1%})"
        out().print(said)
    out().print(f"the trunk is in {result.trunk}; a recipe starts from it with")
    start = f"init: {{expression: {result.trunk}}}, network: {{expression_width: {chosen.width}}}"
    out().print(start, soft_wrap=True)
