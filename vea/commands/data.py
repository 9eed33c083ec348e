"""`vea data check`: the content of a data set, checked before hours of training."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from handler.values.errors import VeaError
from vea.commands.cache import Labels
from vea.local_paths import check_output_file
from vea.terminal import out, progress_bars

if TYPE_CHECKING:
    from handler.values.emotions import Wheel
    from train.datasets.checking import Check

_FIRST = 3  # names that are printed for each reason

_SPLIT_SOURCES = {
    "given": "the split is the data set's own",
    "file": "the split is that of vea-split.csv",
    "random": "the split is random (80/5/15 of each emotion): --write-split keeps it",
}


def register(app: typer.Typer) -> None:
    """Add the command group."""
    group = typer.Typer(no_args_is_help=True, rich_markup_mode="markdown")
    # Without a callback, typer would drop the name of a group's only command.
    group.callback()(data)
    group.command("check")(check)
    app.add_typer(group, name="data")


def data() -> None:
    """Check data sets, as in `vea data check FI`."""


def check(
    root: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of the data set.")],
    wheel: Annotated[
        str | None,
        typer.Option(help="mikels-8, ekman-6 or polarity-2. [default: the data set's own]"),
    ] = None,
    labels: Labels = None,
    decode: Annotated[
        bool, typer.Option("--decode", help="Decode every image, to find damaged ones.")
    ] = False,
    write_split: Annotated[
        Path | None,
        typer.Option(
            help="Write the split to this CSV file, or to vea-split.csv in this folder. "
            "In DIR, later runs use it."
        ),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Replace another split in that file.")
    ] = False,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Also write the result to this file.")
    ] = None,
) -> None:
    """Check a data set before training on it.

    Prints the layout (FI, EmoSet, EmotionROI, Emotion6, ArtPhoto, Abstract, IAPSa, Twitter, LDL,
    FER2013, or any folder of emotion-named folders), the number of images of each emotion in each
    split, the files that are left out with the reason, and duplicate photos:

        vea data check FI

        vea data check FI --decode --json check.json

        vea data check FI --write-split FI

    Lists may have a column split (train, val, test), and folders may be named so. Classes that are
    numbers need a file that says which emotions they are, unless info.json in DIR does:

        vea data check photos --labels classes.txt

    with a line such as `0 amusement` for each number, or JSON; names alone count from 0.

    `--write-split FI` writes FI/vea-split.csv (path, label, split, sha256), with which anybody who
    has the photos trains and evaluates on the same split. Duplicates are files with the same bytes;
    near-duplicates are not searched for.
    """
    from train.datasets import checking
    from train.datasets.layouts.fer2013 import find_fer2013, read_fer2013
    from train.datasets.reading import read_dataset
    from train.datasets.split_file import NAME as SPLIT_FILE
    from train.datasets.split_file import write_split as write

    split_file = write_split / SPLIT_FILE if write_split and write_split.is_dir() else write_split
    for file in (json_file, split_file):
        if file:
            check_output_file(file)
    written = None
    with progress_bars() as on_progress:
        if find_fer2013(root):
            if wheel or write_split or labels:
                raise VeaError(
                    f"{root} is FER2013: --wheel, --labels and --write-split are for photos"
                )
            faces = read_fer2013(
                root, on_progress=lambda done, total: on_progress("faces", done, total)
            )
            found = checking.check_fer2013(faces)
        else:
            dataset = read_dataset(
                root,
                _wheel(wheel) if wheel else None,
                labels=labels,
                on_progress=lambda done, total: on_progress("reading", done, total),
            )
            found = checking.check_dataset(
                dataset,
                decode_images=decode,
                on_progress=lambda done, total: on_progress("decoding", done, total),
            )
            written = write(dataset, write_split, force=force) if write_split else None
    if json_file:
        _write_json(found, json_file)
    _show(found)
    if written:
        out().print(f"the split is in {written}", soft_wrap=True)


def _wheel(name: str) -> Wheel:
    from handler.values.emotions import wheel

    try:
        return wheel(name)
    except ValueError as error:
        raise VeaError(str(error)) from None


def _show(found: Check) -> None:
    console = out()
    console.print(found.layout, soft_wrap=True, markup=False)
    table = Table(found.wheel)
    for split in (*found.splits, "all"):
        table.add_column(split, justify="right")
    for label in found.labels:
        counts = [found.counts[label][split] for split in found.splits]
        table.add_row(label, *(f"{count:,}" for count in (*counts, sum(counts))))
    table.add_section()
    sums = [sum(found.counts[label][split] for label in found.labels) for split in found.splits]
    table.add_row("images", *(f"{count:,}" for count in (*sums, found.images)))
    console.print(table)
    copies = found.copies
    lines = [
        _SPLIT_SOURCES[found.split_source],
        *found.notes,
        f"copies: {copies.within:,} within a split, {copies.across:,} across splits, "
        f"{copies.conflicting:,} with another label{_first(copies.names)}",
        *_reasons("left out", found.refused),
        *(_reasons("undecodable", found.undecodable) if found.undecodable is not None else ()),
    ]
    for line in lines:
        console.print(line, soft_wrap=True, markup=False)


def _reasons(what: str, names: Mapping[str, Sequence[str]]) -> list[str]:
    lines = [f"{what}: {sum(map(len, names.values())):,}"]
    for reason, found in sorted(names.items(), key=lambda item: -len(item[1])):
        lines.append(f"  {len(found):,} x {reason}{_first(found)}")
    return lines


def _first(names: Sequence[str]) -> str:
    if not names:
        return ""
    more = ", ..." if len(names) > _FIRST else ""
    return f": {', '.join(names[:_FIRST])}{more}"


def _write_json(found: Check, target: Path) -> None:
    try:
        target.write_text(json.dumps(found.to_dict(), indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise VeaError(f"cannot write {target}: {error.strerror}") from None
