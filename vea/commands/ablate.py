"""`vea ablate`: what each part of the model contributes (the paper's Table II, Fig. 10 and 11)."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from vea.commands.cache import CacheFolder, Labels, Settings, Workers, cache_home
from vea.local_paths import check_output_folder
from vea.stopping import stoppable
from vea.terminal import out, print_remarks, progress_bars

_OWN = "ablation."  # settings of the studies; all others are the recipe's


class StudyName(StrEnum):
    """As `train.ablation.studies.STUDIES`, for the command line."""

    BRANCHES = "branches"
    LAMBDA = "lambda"
    OBJECTS = "objects"
    STEPS = "steps"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("ablate")(ablate)


@stoppable("the same command goes on; trainings that ended are kept")
def ablate(
    study: Annotated[StudyName, typer.Argument(help="Study: what is varied.", show_choices=True)],
    data: Annotated[
        Path, typer.Option("--data", help="Data set in any layout that `vea data check` knows.")
    ],
    recipe: Annotated[
        str, typer.Option(help="Recipe of the full model: its name, or path of a YAML file.")
    ] = "lite",
    seeds: Annotated[
        int, typer.Option(min=1, help="Number of trainings of each row.", metavar="N")
    ] = 3,
    only: Annotated[
        list[str] | None,
        typer.Option(help="Train only this row and the reference. Repeatable.", metavar="ROW"),
    ] = None,
    split: Annotated[
        str, typer.Option(help="Split that the rows are evaluated on: val or test.")
    ] = "val",
    run: Annotated[
        Path | None,
        typer.Option(help="Folder for the results. [default: runs/ablation-RECIPE]"),
    ] = None,
    labels: Labels = None,
    cache: CacheFolder = None,
    workers: Workers = None,
    settings: Settings = None,
) -> None:
    """Measure what each part of a model contributes.

    branches: Table II. lambda: Fig. 10. objects: N, Fig. 11. steps: T of the LSTMs and the feed of
    Eq. 9, which the paper leaves open. For example:

        vea ablate branches --data FI

        vea ablate lambda --data FI --seeds 5 --only 0 --only 2

    Backbones are FROZEN, so that a hundred trainings take hours, not days: their features are
    computed once, and each row trains only what follows them: one layer over Global-Net's feature,
    all of Semantic-Net, Expression-Net where the recipe initialises it at random, and the response.
    Rows can be compared with each other, but not with models of `vea train`, which fine-tunes.

    Rows are evaluated after the last epoch; each has its paired difference from the full model,
    with an interval. RUN/STUDY holds table.md, table.csv and plot.png. Each training writes a file
    to RUN/trainings and is not repeated, so a study that was stopped resumes.

    `--set` overrides values of the recipe and of the trainings, as in `--set ablation.epochs=8`.
    `--set ablation.photos=4000` trains on that many photos, drawn at random: the same for all
    rows, and for all recipes.
    """
    from handler.values import emotions
    from train.ablation.feature_cache import build_features
    from train.ablation.report import short_table, write_report
    from train.ablation.runs import run_study
    from train.ablation.sampling import sample_photos
    from train.ablation.studies import build_study, full_model, largest_count, object_counts
    from train.ablation.summary import summarise
    from train.ablation.training import Experiment, load_ablation_config
    from train.datasets.reading import read_dataset
    from train.datasets.remarks import remarks
    from train.recipes.recipe import load_recipe

    values = settings or []
    config = load_ablation_config([value for value in values if value.startswith(_OWN)])
    chosen = load_recipe(recipe, [value for value in values if not value.startswith(_OWN)])
    full = full_model(chosen)
    counts = object_counts(chosen)
    asked = build_study(study.value, full, counts)
    # An unknown row is reported before an hour of work.
    asked_rows = [asked.rows[row] for row in asked.select(only or ())]
    folder = run or Path("runs", f"ablation-{chosen.name}")
    check_output_folder(folder)
    check_output_folder(cache or cache_home())
    with progress_bars() as on_progress:
        dataset = read_dataset(
            data,
            emotions.wheel(chosen.network.wheel),
            labels=labels,
            on_progress=lambda done, total: on_progress("photos", done, total),
        )
        print_remarks(remarks(dataset, splits=("train", split)))
        features = build_features(
            chosen,
            {
                "train": sample_photos(dataset.split("train"), config.photos),
                split: dataset.split(split),
            },
            count=largest_count(full, counts),
            cache_root=cache or cache_home(),
            spaces={row.colour for row in asked_rows if row.colour},
            mirrored=config.flip,
            workers=workers,
            on_progress=on_progress,
        )
        experiment = Experiment(chosen, config, features["train"], features[split], split)
        outcomes = run_study(
            asked,
            experiment,
            folder,
            seeds=range(1, seeds + 1),
            only=only or (),
            on_progress=lambda done, total: on_progress("trainings", done, total),
        )
    rows = summarise(asked, outcomes)
    written = write_report(
        asked,
        rows,
        folder / study.value,
        facts={
            "recipe": chosen.name,
            "photos": f"{len(experiment.train)} for training, {len(experiment.judged)} of the "
            f"split {split} for evaluation",
            "seeds": seeds,
            "trainings": f"{config.epochs} epochs, evaluated after the last; frozen backbones",
        },
    )
    heads, *lines = short_table(asked, rows)
    table = Table(*heads, title=asked.title)
    for cells in lines:
        table.add_row(*cells)
    console = out()
    console.print(table)
    console.print(f"in per cent; difference from {asked.reference}, with its 95 % interval")
    console.print("written: " + ", ".join(map(str, written)), soft_wrap=True)
