"""`vea train`, `vea evaluate`, `vea package`: data set -> weights -> figures -> archive."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from handler.errors import VeaError
from vea.terminal import out, progress_bars

if TYPE_CHECKING:
    from train.evaluate import Evaluation

Data = Annotated[
    Path,
    typer.Option("--data", help="Folder of emotion-named folders, or of train/val/test with them."),
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("train")(train)
    app.command("evaluate")(evaluate)
    app.command("package")(package)


def train(
    data: Data,
    recipe: Annotated[
        str, typer.Option(help="A recipe's name, or a YAML file of your own.")
    ] = "lite",
    run: Annotated[
        Path | None, typer.Option(help="Folder for this run. [default: runs/RECIPE]")
    ] = None,
    cache: Annotated[
        Path | None, typer.Option(help="Folder for selected stimuli. [default: ~/.cache/vea]")
    ] = None,
    resume: Annotated[bool, typer.Option(help="Go on where an interrupted run stopped.")] = False,
) -> None:
    """Train a model.

    The stimuli of the data set are selected once and kept, then the network learns from them.
    RUN/model is what `vea evaluate` measures and `vea package` packs:

        vea train --recipe lite --data FI

        vea evaluate runs/lite/model --data FI --json evaluation.json

        vea package runs/lite/model --name vea-lite --version 1.1 --evaluation evaluation.json
    """
    from train.fit import fit
    from train.recipe import load_recipe

    chosen = load_recipe(recipe)
    with progress_bars() as on_progress:
        result = fit(
            chosen,
            data,
            run or Path("runs", chosen.name),
            cache_root=cache or _cache_home(),
            resume=resume,
            on_progress=on_progress,
        )
    out().print(
        f"val accuracy {result.val_accuracy:.1%}, polarity {result.val_polarity_accuracy:.1%}; "
        f"with calibrated branches {result.calibration.accuracy_cross_validated:.1%} "
        f"(cross-validated); the model is in {result.model}"
    )


def evaluate(
    archive: Annotated[Path, typer.Argument(help="A .mar file, or the model folder of a run.")],
    data: Data,
    split: Annotated[
        str | None,
        typer.Option(help="train, val, test or all. [default: test if there is one, else val]"),
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the figures to this file too.")
    ] = None,
) -> None:
    """Measure an archive on labelled photos.

    Accuracy, accuracy of each emotion, confusion matrix, polarity accuracy, speed, and how many
    files could not be read:

        vea evaluate model_store/vea-lite-1.0.mar --data FI --json evaluation.json
    """
    from handler.predictor import Predictor
    from train.evaluate import evaluate as measure

    predictor = Predictor.load(archive)
    with progress_bars() as on_progress:
        result = measure(
            predictor,
            data,
            split=split,
            on_progress=lambda done, total: on_progress("images", done, total),
        )
    if json_file:
        json_file.write_text(json.dumps(result.to_dict(), indent=2) + "\n")
    _show(result)


def package(
    model: Annotated[Path, typer.Argument(help="The model folder of a run.")],
    version: Annotated[str, typer.Option(help="Version of the new archive.")],
    name: Annotated[str, typer.Option(help="Name of the model.")] = "vea-lite",
    evaluation: Annotated[
        Path | None, typer.Option(help="Figures for the card, as `vea evaluate --json` wrote them.")
    ] = None,
    card: Annotated[
        Path | None, typer.Option(help="YAML file with the words of the model card.")
    ] = None,
    to: Annotated[Path, typer.Option("--to", help="Folder for the archive.")] = Path("model_store"),
) -> None:
    """Pack a trained model into one .mar file.

    The file holds code, weights, settings and model card, and nothing that executes on loading but
    that code. The same inputs give the same bytes.

        vea package runs/lite/model --version 1.1 --evaluation evaluation.json
    """
    from train.package import package as pack

    words: dict[str, Any] = _read_card(card) if card else {}
    if evaluation:
        try:
            words["evaluation"] = json.loads(evaluation.read_text())
        except (OSError, ValueError) as error:
            raise VeaError(f"cannot read the evaluation {evaluation}: {error}") from None
    target = pack(model, to, name=name, version=version, card=words)
    out().print(f"{target} ({target.stat().st_size / 1e6:.1f} MB)")


def _read_card(path: Path) -> dict[str, Any]:
    import yaml

    try:
        words = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError) as error:
        raise VeaError(f"cannot read the card {path}: {error}") from None
    if not isinstance(words, dict):
        raise VeaError(f"the card {path} is not a YAML mapping")
    return words


def _show(result: Evaluation) -> None:
    from train.evaluate import wilson_interval

    low, high = wilson_interval(result.accuracy, result.images)
    table = Table("emotion", "images", "accuracy", "precision", *_heads(result))
    for row, (label, values) in enumerate(result.per_class().items()):
        table.add_row(
            label,
            str(values["images"]),
            f"{values['accuracy']:.1%}",
            f"{values['precision']:.1%}",
            *(str(count) for count in result.confusion[row]),
        )
    console = out()
    console.print(table)
    console.print("columns on the right: how often each true emotion (row) was called what")
    console.print(
        f"{result.split}: {result.images} images, accuracy {result.accuracy:.1%} "
        f"(95 % interval {low:.1%} to {high:.1%}), polarity {result.polarity_accuracy:.1%}, "
        f"{result.images / result.seconds:.1f} images/s"
    )
    refused = sum(result.refused.values())
    console.print(f"refused: {refused}; placeholders skipped: {result.placeholders}")
    for reason, count in sorted(result.refused.items(), key=lambda item: -item[1])[:5]:
        console.print(f"  {count} x {reason}")


def _heads(result: Evaluation) -> list[str]:
    return [label[:3] for label in result.wheel.labels]


def _cache_home() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vea"
