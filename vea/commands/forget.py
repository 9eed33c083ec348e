"""`vea forget` and `vea retain`: rows that must go, and runs that have been kept long enough."""

from __future__ import annotations

import datetime
import json
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from handler.values.errors import VeaError
from vea.terminal import out, progress_bars

if TYPE_CHECKING:
    from jobs.output.erasure import Plan
    from jobs.output.finished_runs import FoundRun
    from jobs.output.selection import Selection
    from jobs.storage.stores import Stores

Root = Annotated[
    str,
    typer.Argument(
        help="Folder of a run, or of many: a path, or s3://bucket/prefix (also gs:// and az://)."
    ),
]
DeltaTable = Annotated[
    str | None,
    typer.Option(
        "--delta",
        metavar="TABLE",
        help="Also remove the rows from this Delta table: a path, or s3://bucket/prefix (also "
        "gs:// and az://).",
    ),
]
Vacuum = Annotated[
    bool,
    typer.Option(
        "--vacuum",
        help="Then delete the files of earlier versions of the Delta table, which still hold the "
        "rows.",
    ),
]
Yes = Annotated[
    bool,
    typer.Option("--yes", help="Do it. Without this option, only what would be done is shown."),
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(forget)
    app.command()(retain)


def forget(
    root: Root,
    where: Annotated[
        list[str] | None,
        typer.Option(
            metavar="COLUMN=VALUE",
            help="Remove the rows with this value; several conditions must all hold.",
        ),
    ] = None,
    image: Annotated[
        list[str] | None,
        typer.Option(help="Remove the rows of this image, as the list spelled it; repeatable."),
    ] = None,
    images: Annotated[
        Path | None, typer.Option(help="Text file of such images, one a line.")
    ] = None,
    delta: DeltaTable = None,
    vacuum: Vacuum = False,
    yes: Yes = False,
) -> None:
    """Remove rows from finished runs, for example because a person asked for it.

        vea forget s3://results --where author=alice

        vea forget s3://results --where author=alice --delta s3://tables/emotions --vacuum --yes

    Without --yes nothing is changed. A killed command is completed by the same command. Each
    parquet file is replaced in one step, and the manifest says how many rows were removed, not
    which. Runs that are being written are not touched, and then nothing is. The list that was
    scored, old versions in a versioned bucket, and pages of `vea report` are not covered.
    """
    from jobs.output.erasure import erase, plan
    from jobs.output.finished_runs import find_runs
    from jobs.output.selection import Selection
    from jobs.storage.folders import open_folder
    from jobs.storage.stores import Stores

    selection = Selection.parse(where or (), [*(image or ()), *_listed(images)])
    with closing(Stores(threads=4)) as stores:
        runs = _finished(find_runs(root, stores))
        plans: dict[str, Plan] = {}
        with progress_bars() as on_progress:
            for run in runs:
                plans[run.location] = plan(open_folder(run.location, stores), selection)
                on_progress("runs", len(plans), len(runs))
        if plans and not any(found.fits for found in plans.values()):
            raise VeaError(f"no run below {root} has the column {', '.join(selection.columns)}")
        in_table = _count_in_table(delta, selection, stores)
        _show(plans, delta, in_table)
        affected = [place for place, found in plans.items() if found.selected or found.interrupted]
        if not yes:
            if affected or in_table:
                out().print("nothing was changed; add --yes to remove these rows")
            return
        for location in affected:
            lost = erase(open_folder(location, stores), selection)
            out().print(f"{location}: {lost} rows removed", soft_wrap=True, markup=False)
        if delta is not None:
            from jobs.output.delta_erasure import delete_rows

            removed = delete_rows(delta, selection, stores) if in_table else 0
            out().print(f"{delta}: {removed} rows removed", soft_wrap=True, markup=False)
            _vacuum(delta, vacuum, stores)


def retain(
    root: Root,
    days: Annotated[int, typer.Option(min=1, help="Keep the runs of so many days.")],
    date: Annotated[
        str | None,
        typer.Option(help="Count back from this day, YYYY-MM-DD. [default: today]"),
    ] = None,
    delta: DeltaTable = None,
    vacuum: Vacuum = False,
    yes: Yes = False,
) -> None:
    """Delete the runs that are older than so many days.

        vea retain s3://results --days 90

        vea retain s3://results --days 90 --delta s3://tables/emotions --yes

    A run's day is the date in its folder's name, such as dt=2026-11-23. Runs without a date and
    runs that are being written are named and kept. Without --yes nothing is deleted. A killed
    command is completed by the same command.
    """
    from jobs.output.erasure import delete_run
    from jobs.output.finished_runs import find_runs
    from jobs.report.finished_run import date_in
    from jobs.storage.folders import open_folder
    from jobs.storage.stores import Stores
    from jobs.values.templates import parse_date

    today = datetime.date.today()
    first_kept = (parse_date(date, today=today) if date else today) - datetime.timedelta(days=days)
    with closing(Stores(threads=4)) as stores:
        old: list[FoundRun] = []
        for run in find_runs(root, stores):
            day = date_in(run.location)
            if day is None:
                out().print(f"kept, no date in its name: {run.location}", markup=False)
            elif day < first_kept and not (run.finished or run.failed or run.erasing):
                out().print(f"kept, not finished: {run.location}", markup=False)
            elif day < first_kept:
                old.append(run)
        for run in old:
            removed = ""
            if yes:
                folder = open_folder(run.location, stores)
                if delta is not None:
                    removed = f", {_drop_from_table(delta, run, stores)} rows of the table"
                delete_run(folder)
            what = "deleted" if yes else "would be deleted"
            out().print(f"{what}: {run.location}{removed}", soft_wrap=True, markup=False)
        out().print(f"{len(old)} runs before {first_kept}")
        if yes and delta is not None:
            _vacuum(delta, vacuum, stores)


def _listed(images: Path | None) -> list[str]:
    if images is None:
        return []
    try:
        return [line for line in images.read_text().splitlines() if line]
    except (OSError, UnicodeDecodeError) as error:
        raise VeaError(f"cannot read {images}: {error}") from None


def _finished(runs: list[FoundRun]) -> list[FoundRun]:
    """The finished runs; what `vea retain` is deleting is passed over."""
    unfinished = [run.location for run in runs if not run.finished and not run.erasing]
    if unfinished:
        raise VeaError(
            f"{unfinished[0]} is not finished ({len(unfinished)} such runs): its rows could not be "
            "found; let `vea score` finish it, or name the folders of finished runs"
        )
    return [run for run in runs if run.finished]


def _count_in_table(delta: str | None, selection: Selection, stores: Stores) -> int:
    if delta is None:
        return 0
    from jobs.output.delta_erasure import count_rows

    return count_rows(delta, selection, stores)


def _drop_from_table(delta: str, run: FoundRun, stores: Stores) -> int:
    from jobs.output.delta_erasure import delete_run_rows
    from jobs.storage.folders import ObjectMissing, open_folder
    from jobs.values.layout import IDENTITY

    try:
        identity = json.loads(open_folder(run.location, stores).read(IDENTITY))
    except (ObjectMissing, ValueError):
        identity = {}
    return delete_run_rows(delta, run.location, str(identity.get("run_id", "")), stores)


def _vacuum(delta: str, wanted: bool, stores: Stores) -> None:
    from jobs.output.delta_erasure import vacuum

    if wanted:
        out().print(f"{delta}: {vacuum(delta, stores)} files of earlier versions deleted")
    else:
        out().print(f"{delta}: earlier versions still hold the rows; --vacuum deletes them")


def _show(plans: dict[str, Plan], delta: str | None, in_table: int) -> None:
    table = Table("run", "rows", "to remove", "")
    for location, found in plans.items():
        note = "an earlier removal was interrupted" if found.interrupted else ""
        if found.selected or found.interrupted:
            table.add_row(location, str(found.rows), str(found.selected), note)
    if in_table:
        table.add_row(delta, "", str(in_table), "Delta table")
    selected = sum(found.selected for found in plans.values())
    if table.row_count:
        out().print(table)
    out().print(f"{selected} rows of {sum(f.rows for f in plans.values())} in {len(plans)} runs")
