"""`vea models compare`: which predictions change if one archive replaces another."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from handler.values.errors import VeaError
from vea.local_paths import check_output_file
from vea.terminal import out, progress_bars

if TYPE_CHECKING:
    from handler.values.emotions import Wheel
    from handler.values.prediction import Prediction, Refusal
    from train.evaluation.comparison import Comparison

_SHOWN = 20  # changed photos that are printed; the JSON file has them all


def register(group: typer.Typer) -> None:
    """Add the command."""
    group.command("compare")(compare)


def compare(
    first: Annotated[Path, typer.Argument(help="The present archive.")],
    second: Annotated[Path, typer.Argument(help="The archive that may replace it.")],
    images: Annotated[
        Path,
        typer.Option(help="Labelled data set, folder of photos, or image list of `vea score`."),
    ],
    split: Annotated[
        str | None,
        typer.Option(help="Split of a labelled data set: train, val or test. [default: all]"),
    ] = None,
    max_changed: Annotated[
        float | None,
        typer.Option(
            min=0.0, max=1.0, help="Exit with code 1 if a larger fraction of the answers changes."
        ),
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Also write all results to this JSON file.")
    ] = None,
    device: Annotated[str, typer.Option(help="Device of the networks, e.g. cuda:0.")] = "cpu",
) -> None:
    """Compare two archives: which answers change, and by how much the probabilities.

        vea models compare old.mar new.mar --images photos/ --max-changed 0.05

    No server is needed. On a labelled data set, the accuracies of both and the interval of their
    difference are printed too.
    """
    from train.evaluation.comparison import compare as measure

    if json_file:
        check_output_file(json_file)
    paths, labels, wheel = _photos(images, split)
    with progress_bars() as on_progress:
        result = measure(
            first,
            second,
            paths,
            labels=labels,
            label_wheel=wheel,
            device=device,
            on_progress=on_progress,
        )
    if json_file:
        json_file.write_text(json.dumps(result.to_dict(), indent=2) + "\n")
    _show(out(), result)
    if max_changed is not None and result.changed_fraction > max_changed:
        raise VeaError(
            f"{result.changed_fraction:.1%} of the answers change; --max-changed allows "
            f"{max_changed:.1%}"
        )


def _photos(images: Path, split: str | None) -> tuple[list[str], list[int] | None, Wheel | None]:
    """Paths, and labels with their wheel where the photos have labels."""
    if images.is_file():
        if split is not None:
            raise VeaError(f"{images} is a list, which has no splits; leave out --split")
        return _listed(images), None, None
    if not images.is_dir():
        raise VeaError(f"there is neither a folder nor a list at {images}")
    from train.datasets.reading import read_dataset
    from train.datasets.table import DatasetError

    try:
        dataset = read_dataset(images, None)
    except DatasetError:
        if split is not None:
            raise
    else:
        rows = dataset.split(split or "all")
        return rows["path"].tolist(), rows["label"].tolist(), dataset.wheel
    from vea.photo_files import photos_in

    return [str(path) for path in photos_in(images)], None, None


def _listed(images: Path) -> list[str]:
    from jobs.lists.image_list import open_list
    from jobs.values.locations import resolve

    with open_list(str(images)) as listed:
        if any(entry.inside for entry in listed):
            raise VeaError(f"{images} holds the photos itself; only photos in files are compared")
        paths = [resolve(entry.image, listed.folder) for entry in listed if entry.image]
    elsewhere = next((path for path in paths if "://" in path), None)
    if elsewhere:
        raise VeaError(f"{images} lists {elsewhere}; only photos on this machine are compared")
    if not paths:
        raise VeaError(f"the list {images} is empty")
    return paths


def _show(console: Console, result: Comparison) -> None:
    document = result.to_dict()
    changed = result.changed
    first, second = result.models
    if changed:
        table = Table(box=SIMPLE, title="answers that change", title_justify="left")
        table.add_column("photo", overflow="fold")
        for model in (first, second):
            table.add_column(f"{model.name} {model.version} ({model.digest[:12]})")
        for pair in changed[:_SHOWN]:
            table.add_row(Path(pair.image).name, _said(pair.first), _said(pair.second))
        console.print(table)
        if len(changed) > _SHOWN:
            console.print(f"and {len(changed) - _SHOWN} more; --json FILE has them all")
    console.print(
        f"changed answers: {len(changed)} of {len(result.pairs)} ({result.changed_fraction:.1%}), "
        f"of which {document['polarity_changed']['images']} in polarity"
    )
    movement = document["movement"]
    if movement["images"]:
        variation = movement["total_variation"]
        console.print(
            f"probabilities move by {movement['mean']:.4f} on average, {movement['max']:.4f} at "
            f"most; total variation {variation['mean']:.4f} on average, {variation['max']:.4f} at "
            "most"
        )
        table = Table("emotion", "moves by", "at most", box=SIMPLE)
        for label, moved in movement["per_emotion"].items():
            table.add_row(label, f"{moved['mean']:.4f}", f"{moved['max']:.4f}")
        console.print(table)
    refused = document["refused"]
    if refused["first"] or refused["second"]:
        console.print(
            f"refused: {refused['first']} by the first, {refused['second']} by the second"
        )
    accuracy = document["accuracy"]
    if accuracy:
        low, high = accuracy["difference_interval_95"]
        console.print(
            f"accuracy of {'emotions' if accuracy['of'] == 'emotion' else 'polarities'}: "
            f"{accuracy['first']:.1%}, then {accuracy['second']:.1%}; difference "
            f"{accuracy['difference']:+.1%} (95 % interval {low:+.1%} to {high:+.1%})"
        )


def _said(answer: Prediction | Refusal) -> str:
    from handler.values.prediction import Refusal

    if isinstance(answer, Refusal):
        return f"refused: {answer.reason}"
    return f"{answer.emotion} {answer.probabilities[answer.emotion]:.0%}"
