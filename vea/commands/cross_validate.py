"""`vea cross-validate`: metrics of a recipe on a small data set."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from vea.commands.cache import CacheFolder, LabelledData, Labels, Settings, Workers, cache_home
from vea.local_paths import check_output_folder
from vea.stopping import stoppable
from vea.terminal import out, print_remarks, progress_bars

if TYPE_CHECKING:
    from train.crossval.protocols import CrossValidation, TrainAndScore


class Protocol(StrEnum):
    """As `train.crossval.protocols.PROTOCOLS`, for the command line."""

    ONE_VS_ALL = "one-vs-all"
    MULTICLASS = "multiclass"


class Learner(StrEnum):
    """What is trained for each fold."""

    LINEAR = "linear"
    NETWORK = "network"


_PRODUCTS = ("cross_validation.json", "folds.csv")


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("cross-validate")(cross_validate)


@stoppable("nothing was measured; selected stimuli are kept")
def cross_validate(
    data: LabelledData,
    recipe: Annotated[str, typer.Option(help="Name of a recipe, or path of a YAML file.")] = "lite",
    folds: Annotated[int, typer.Option(min=2, help="Number of folds.")] = 5,
    protocol: Annotated[
        Protocol,
        typer.Option(help="one-vs-all: each emotion against all others; multiclass: all at once."),
    ] = Protocol.ONE_VS_ALL,
    learner: Annotated[
        Learner,
        typer.Option(
            help="linear: a linear probe on the recipe's frozen parts, in minutes; network: the "
            "whole network of the recipe, trained for each fold (and emotion) on one device."
        ),
    ] = Learner.LINEAR,
    least: Annotated[
        int,
        typer.Option(
            min=1, help="Least number of different photos of an emotion; rarer ones are left out."
        ),
    ] = 10,
    run: Annotated[
        Path | None,
        typer.Option(help="Folder for the metrics and folds. [default: runs/cross-RECIPE]"),
    ] = None,
    labels: Labels = None,
    cache: CacheFolder = None,
    workers: Workers = None,
    settings: Settings = None,
    force: Annotated[
        bool, typer.Option("--force", help="Replace other metrics in the same folder.")
    ] = False,
) -> None:
    """Measure the accuracy of a recipe on a small data set by cross-validation.

    Each photo is scored by a model that was not trained on it; duplicates are in the same fold. The
    paper does so on ArtPhoto and IAPSa, each emotion against all others, in five folds:

        vea cross-validate --recipe lite --data ArtPhoto

        vea cross-validate --recipe paper --data ArtPhoto --learner network

    The one-vs-all metric is the mean of the true positive rates of the emotion and of the others
    (balanced accuracy): chance is 50 %. The results are in RUN/cross_validation.json, the folds in
    RUN/folds.csv. Those of another recipe, protocol or data set are replaced only with `--force`.
    """
    from train.crossval.protocols import cross_validate as measure
    from train.crossval.protocols import usable_photos
    from train.datasets.reading import read_dataset
    from train.datasets.remarks import remarks
    from train.datasets.table import labelled_digest
    from train.evaluation.evaluate import relative_path
    from train.fitting.run_folder import check_run_folder, prepare
    from train.recipes.recipe import load_recipe

    chosen = load_recipe(recipe, settings or ())
    folder = run or Path("runs", f"cross-{chosen.name}")
    check_run_folder(folder, chosen.to_dict(), products=_PRODUCTS, resume=False, force=force)
    check_output_folder(cache or cache_home())
    dataset = read_dataset(data, None, labels=labels)
    print_remarks(remarks(dataset))
    # An impossible request is refused before stimuli are selected for an hour.
    photos, _ = usable_photos(dataset.table, dataset.wheel, folds=folds, least=least)
    facts = {
        "recipe": chosen.to_dict(),
        "photos": labelled_digest(photos),
        "protocol": {"name": protocol, "learner": learner, "folds": folds, "least": least},
    }
    prepare(folder, facts, products=_PRODUCTS, resuming=False, force=force)
    with progress_bars() as on_progress:
        train_and_score: TrainAndScore
        if learner is Learner.LINEAR:
            from train.crossval.linear_probe import build_linear_probe

            train_and_score = build_linear_probe(
                chosen,
                photos,
                cache_root=cache or cache_home(),
                workers=workers,
                on_progress=on_progress,
            )
        else:
            from train.crossval.network import FittedNetwork

            train_and_score = FittedNetwork(
                chosen,
                folder,
                cache_root=cache or cache_home(),
                workers=workers,
                on_progress=on_progress,
            )
        result = measure(
            dataset.table,
            dataset.wheel,
            train_and_score,
            protocol=protocol.value,
            folds=folds,
            least=least,
            on_progress=lambda done, total: on_progress("trainings", done, total),
        )
    _show_folds(result)  # first: a disk that is full by now takes none of it away
    document = {"recipe": chosen.name, "learner": learner.value, **result.to_dict()}
    (folder / "cross_validation.json").write_text(json.dumps(document, indent=2) + "\n")
    paths = [relative_path(path, dataset.root) for path in result.folds["path"]]
    kept = result.folds.assign(image=paths)[["image", "emotion", "sha256", "fold"]]
    kept.to_csv(folder / "folds.csv", index=False)
    out().print(f"the metrics are in {folder}")


def _show_folds(result: CrossValidation) -> None:
    first = next(iter(result.per_emotion.values()))
    table = Table("emotion", "photos", *(name.replace("_", " ") for name in first))
    photos = result.folds["emotion"].value_counts()
    for label, figures in result.per_emotion.items():
        table.add_row(label, str(photos[label]), *map(_mean_and_std, figures.values()))
    console = out()
    console.print(table)
    console.print(f"{result.protocol}, mean and standard deviation over {result.count} folds:")
    for name, values in result.overall.items():
        console.print(f"  {name.replace('_', ' '):<20}{_mean_and_std(values)}")
    left_out = ", ".join(f"{label} ({count})" for label, count in result.left_out.items())
    console.print(f"left out for too few photos: {left_out or 'none'}; refused: {result.refused}")


def _mean_and_std(values: list[float]) -> str:
    from train.evaluation.intervals import mean_and_std

    mean, deviation = mean_and_std(values)
    return f"{mean:.1%} ± {deviation:.1%}"
