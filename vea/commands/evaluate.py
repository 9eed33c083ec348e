"""`vea evaluate`: metrics on labelled photos."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.box import SIMPLE
from rich.markup import escape
from rich.table import Table

from vea.commands.cache import LabelledData, Labels
from vea.commands.runtime import Runtime, RuntimeChoice
from vea.face_option import Faces, FacesChoice
from vea.local_paths import check_output_file, check_output_folder
from vea.stopping import stoppable
from vea.terminal import out, print_remarks, progress_bars

if TYPE_CHECKING:
    from train.evaluation.evaluate import Evaluation
    from train.evaluation.groups import GroupScores

_REASONS = 5  # most frequent ones that are shown


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("evaluate")(evaluate)


@stoppable("nothing was measured")
def evaluate(
    archive: Annotated[Path, typer.Argument(help="A .mar file, or the model folder of a run.")],
    data: LabelledData,
    split: Annotated[
        str | None,
        typer.Option(help="train, val, test or all. [default: test if there is one, else val]"),
    ] = None,
    labels: Labels = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Also write the metrics to this JSON file.")
    ] = None,
    predictions: Annotated[
        Path | None,
        typer.Option(help="Write the prediction for each photo to this .csv or .parquet file."),
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option(help="Folder for metrics, predictions and three charts."),
    ] = None,
    by: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN", help="Also report the accuracy by group: a column of --groups."
        ),
    ] = None,
    groups: Annotated[
        Path | None,
        typer.Option(
            help="Table of groups, .csv or .parquet: a column image with paths relative to --data, "
            "and the column of --by."
        ),
    ] = None,
    device: Annotated[str, typer.Option(help="Device of the networks, e.g. cuda:0.")] = "cpu",
    runtime: Runtime = RuntimeChoice.AUTO,
    faces: Faces = FacesChoice.ON,
) -> None:
    """Measure the accuracy of a model on labelled photos.

    Prints accuracy over all photos and for each emotion with 95 % intervals, polarity accuracy,
    easy and hard errors, calibration, the confusion matrix, speed, and the number of files that
    could not be read:

        vea evaluate model_store/vea-lite-3.1.mar --data FI --report report

    On photos labelled with other emotions than the model's, or with positive and negative only,
    the polarity accuracy is measured.

    Whether the model is worse for some groups of photos than for others is measured with a table of
    groups:

        vea evaluate model_store/vea-lite-3.1.mar --data FI --by region --groups regions.csv
    """
    from handler.predictor import Predictor
    from train.evaluation.evaluate import check_predictions_file, write_predictions
    from train.evaluation.evaluate import evaluate as measure
    from train.evaluation.groups import read_groups, scores_by_group

    # What a chart or a file needs is checked before the work begins.
    if json_file:
        check_output_file(json_file)
    if predictions:
        check_predictions_file(predictions)
        check_output_file(predictions)
    if report:
        from train.evaluation.charts import write_report

        check_output_folder(report)
    if (by is None) != (groups is None):
        raise typer.BadParameter("--by and --groups belong together: a column and its table")
    group_of = read_groups(groups, by) if groups is not None and by is not None else {}
    predictor = Predictor.load(archive, device=device, runtime=runtime.value, faces=faces.on)
    with progress_bars() as on_progress:
        result = measure(
            predictor,
            data,
            split=split,
            labels=labels,
            on_progress=lambda done, total: on_progress("images", done, total),
            on_remarks=print_remarks,
        )
    document = result.to_dict()
    by_group = scores_by_group(result.table, result.scores.wheel, group_of) if group_of else {}
    if by_group:
        document["groups"] = {
            "column": by,
            "values": {name: scores.to_dict() for name, scores in by_group.items()},
        }
    _show(result)  # before files are written: a disk that is full by now takes no figures away
    if by_group:
        _show_groups(by or "", by_group)
    if json_file:
        json_file.write_text(json.dumps(document, indent=2) + "\n")
    if predictions:
        write_predictions(result.table, predictions)
    if report:
        write_report(result, report)
        out().print(f"the report is in {report}")


def _show(result: Evaluation) -> None:
    scores = result.scores
    document = result.to_dict()
    labels = scores.wheel.labels
    console = out()
    figures = Table("emotion", "images", "accuracy", "95 % interval", "precision", "F1")
    for label, values in document["per_class"].items():
        figures.add_row(
            label,
            str(values["images"]),
            _percent(values["accuracy"]),
            _interval(values["accuracy_interval_95"]),
            _percent(values["precision"]),
            _number(values["f1"]),
        )
    console.print(figures)
    calls = Table("is / called", *(label[:3] for label in labels), box=SIMPLE, pad_edge=False)
    for label, row in zip(labels, scores.confusion, strict=True):
        calls.add_row(label, *map(str, row))
    console.print(calls)
    console.print(
        f"{result.split}: {scores.images} images on {scores.wheel.name}, "
        f"{result.images_per_second:.1f} images/s"
    )
    for name, key in (
        ("accuracy", "accuracy"),
        ("polarity", "polarity_accuracy"),
        ("mean of emotions", "macro_accuracy"),
        ("among the first two", "top2_accuracy"),
    ):
        if document[key] is not None:  # there is no second guess between two
            interval = _interval(document[f"{key}_interval_95"])
            console.print(f"  {name:<20}{_percent(document[key]):>7}  ({interval})")
    kinds = document["false_examples"]
    console.print(
        f"  errors: {_percent(kinds['easy']['share_of_images'])} of the images easy (right "
        f"polarity), {_percent(kinds['hard']['share_of_images'])} hard (wrong polarity)",
        soft_wrap=True,
    )
    console.print(f"  macro F1 {_number(document['macro_f1'])}")
    console.print(
        f"  probabilities: calibration error {_percent(document['expected_calibration_error'])}, "
        f"negative log-likelihood {_number(document['negative_log_likelihood'])}, "
        f"Brier score {_number(document['brier_score'])}",
        soft_wrap=True,
    )
    refused = result.refused
    console.print(f"refused: {sum(refused.values())}; placeholders skipped: {result.placeholders}")
    for reason, count in sorted(refused.items(), key=lambda item: -item[1])[:_REASONS]:
        console.print(f"  {count} x {reason}", markup=False)


def _show_groups(column: str, groups: dict[str, GroupScores]) -> None:
    from train.evaluation.groups import FEW

    table = Table(column, "images", "accuracy", "95 % interval", "polarity", "against the others")
    for name, scores in groups.items():
        low, high = scores.difference_interval
        known = not math.isnan(scores.difference)
        table.add_row(
            escape(name),
            f"{scores.images}*" if scores.few else str(scores.images),
            _percent(scores.accuracy),
            _interval(list(scores.accuracy_interval)),
            _percent(scores.polarity_accuracy),
            f"{scores.difference:+.1%} ({low:+.1%} to {high:+.1%})" if known else "-",
        )
    console = out()
    console.print(table)
    if any(scores.few for scores in groups.values()):
        console.print(f"* fewer than {FEW} images: too few for a conclusion")


def _percent(fraction: float | None) -> str:
    return "-" if fraction is None else f"{fraction:.1%}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _interval(bounds: list[float | None] | None) -> str:
    low, high = bounds or (None, None)
    return "-" if low is None or high is None else f"{low:.1%} to {high:.1%}"
