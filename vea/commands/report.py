"""`vea report`: the figures of a run, compared with those of the runs before it."""

from __future__ import annotations

import datetime
import json
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from vea.terminal import out as terminal_out
from vea.terminal import progress_bars

if TYPE_CHECKING:
    from jobs.report.build import Report
    from jobs.report.finished_run import FinishedRun
    from jobs.storage.stores import Stores

_DRIFT = 4  # exit code
_DAYS = 14


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(report)


def report(
    out: Annotated[
        str,
        typer.Argument(
            help="Folder of a finished run: a path, or s3://bucket/prefix (also gs:// and az://)."
        ),
    ],
    date: Annotated[
        str | None,
        typer.Option(
            help="yesterday, today or YYYY-MM-DD: what {date}, {yyyy}, {mm} and {dd} stand for in "
            "OUT, --html and --json."
        ),
    ] = None,
    against: Annotated[
        list[str] | None,
        typer.Option(
            help="Folder of a run to compare with, whatever its model; repeatable.",
            metavar="OUT",
        ),
    ] = None,
    last: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=3_660,
            help="Compare with so many days before, found by the date in OUT, such as "
            "dt=2026-11-23. Days that are not there, and those of another model, are passed over. "
            f"[default: {_DAYS}, if there is a date]",
        ),
    ] = None,
    html: Annotated[
        str | None,
        typer.Option(
            help="Write a page there: a path, or s3://bucket/key (also gs:// and az://).",
            metavar="FILE",
        ),
    ] = None,
    json_file: Annotated[
        str | None,
        typer.Option("--json", help="Write the figures there, likewise.", metavar="FILE"),
    ] = None,
    threshold: Annotated[
        float,
        typer.Option(
            min=0.0,
            max=1.0,
            help="Jensen-Shannon distance of the emotions from which on they have drifted.",
        ),
    ] = 0.1,
    fail_on_drift: Annotated[
        bool,
        typer.Option(
            "--fail-on-drift", help="Exit with code 4 if they have, or if no image was scored."
        ),
    ] = False,
    examples: Annotated[
        int,
        typer.Option(min=0, help="Images to show, of the most confident and of the least."),
    ] = 6,
    thumbnails: Annotated[
        bool,
        typer.Option(
            "--thumbnails/--no-thumbnails",
            help="Fetch these images and put small copies into the page, which then outlive them; "
            "otherwise they are only named.",
        ),
    ] = False,
    model: Annotated[
        Path | None,
        typer.Option(
            help="The archive that scored: draw the reasons on thumbnails. Its name and version "
            "are what {model_name} and {model_version} stand for."
        ),
    ] = None,
    price_per_hour: Annotated[
        str | None,
        typer.Option(
            help="What the machine costs, such as '0.34 USD': gives the cost of a thousand images.",
            metavar="PRICE",
        ),
    ] = None,
) -> None:
    """Report on a run: failures, emotions, drift, speed, cost, and the images to look at.

        vea report s3://results/dt=2026-11-23 --html report.html

    **Every night**, after `vea score`, with the same model and templates:

    `vea report s3://results/dt={date}/model_version={model_version} --date yesterday --model
    vea.mar --html s3://reports/{date}.html --fail-on-drift`

    The emotions are compared with those of earlier runs, which are found by the date in the
    folder's name. They have drifted if their distance is above the threshold and larger than chance
    explains for this number of images.

    The page needs no other file and no network. With --thumbnails it shows the most and the least
    confident images as small copies, with --model their reasons too. Credentials
    and servers of your own are those of `vea score`.
    """
    from jobs.report.build import Price, make_report
    from jobs.report.reading import read_run
    from jobs.storage.stores import Stores

    fill = _filler(date, model)
    out = fill(out)
    html, json_file = html and fill(html), json_file and fill(json_file)
    price = None if price_per_hour is None else Price.parse(price_per_hour)
    with closing(Stores(threads=4)) as stores:
        run = read_run(out, stores, examples=examples)
        earlier = _earlier(out, against, last, stores)
        found = make_report(run, earlier, any_model=bool(against), threshold=threshold, price=price)
        if html:
            _write(html, _page(found, stores, model, thumbnails), stores)
        if json_file:
            _write(json_file, json.dumps(found.to_dict(), indent=2) + "\n", stores)
    terminal_out().print(_table(found))
    for what, where in (("page", html), ("figures", json_file)):
        if where:
            terminal_out().print(f"{what}: {where}", soft_wrap=True, markup=False)
    if fail_on_drift and found.alert:
        raise typer.Exit(_DRIFT)


def _filler(date: str | None, model: Path | None) -> Callable[[str], str]:
    """Puts the day and the model in the places of ``{date}`` and so on."""
    from handler.archive.files import read_card
    from jobs.values.templates import fill, parse_date

    day = None if date is None else parse_date(date, today=datetime.date.today())
    name = version = None
    if model:
        config, _, _ = read_card(model)
        name, version = config.name, config.version
    return partial(fill, date=day, model_name=name, model_version=version)


def _earlier(
    out: str, against: list[str] | None, last: int | None, stores: Stores
) -> list[FinishedRun]:
    """The runs to compare with, the latest first."""
    from jobs.report.finished_run import date_in, earlier_locations
    from jobs.report.reading import find_run, read_run

    if against:
        if last is not None:
            raise typer.BadParameter("give either --against or --last", param_hint="--last")
        return [read_run(location, stores) for location in against]
    if last is None:
        last = _DAYS if date_in(out) else 0
    found = []
    with progress_bars() as on_progress:
        for location in earlier_locations(out, last) if last else ():
            found.append(find_run(location, stores))
            on_progress("earlier runs", len(found), last)
    return [run for run in found if run]


def _page(found: Report, stores: Stores, model: Path | None, thumbnails: bool) -> str:
    from jobs.report.gallery import Gallery, explainer
    from jobs.report.page import Shown, render

    most, least = found.run.most_confident, found.run.least_confident
    if not thumbnails:
        return render(
            found, most_confident=[*map(Shown, most)], least_confident=[*map(Shown, least)]
        )
    explain = explainer(model, found.run) if model else None
    gallery = Gallery(found.run, stores, explain=explain)
    return render(found, most_confident=gallery.show(most), least_confident=gallery.show(least))


def _write(location: str, text: str, stores: Stores) -> None:
    """Write a file whole, here or in an object store."""
    from jobs.storage.folders import open_folder
    from jobs.values.locations import is_in_store

    place = location if is_in_store(location) else str(Path(location).absolute())
    folder, _, name = place.rpartition("/")
    if not name or (is_in_store(location) and place.count("/") < 3):
        raise typer.BadParameter(f"'{location}' names no file", param_hint="--html/--json")
    open_folder(folder or "/", stores).write(name, text.encode())


def _table(found: Report) -> Table:
    figures, reference, drift = found.figures, found.reference, found.drift
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    failed = "" if figures.failure_rate is None else f" ({figures.failure_rate:.1%})"
    table.add_row("images", f"{figures.images}, {figures.failed} of them failed{failed}")
    for reason, count in found.run.reasons.items():
        table.add_row(f"  {reason}", f"{count}")
    for label in figures.emotions:
        share = figures.emotion_fraction(label)
        before = reference and reference.emotion_fraction(label)
        if share is not None:
            earlier = "" if before is None else f", {before:.1%} before"
            table.add_row(f"  {label}", f"{share:.1%}{earlier}")
    if found.nothing_scored:
        table.add_row("drift", "[red]not measured[/red]: not one image was scored")
    elif drift is None:
        table.add_row("drift", "not measured: there is nothing to compare")
    else:
        verdict = "[red]yes[/red]" if drift.alert else "no"
        table.add_row(
            "drift",
            f"{verdict}: distance {drift.distance:.3f} to {len(found.earlier)} earlier; the "
            f"threshold is {drift.threshold:g}, chance gives up to {drift.chance:.3f}",
        )
    if found.images_per_second:
        table.add_row("speed", f"{found.images_per_second:.1f} images/s")
    if found.cost_per_thousand and found.price:
        each = f"{found.cost_per_thousand:.4f} {found.price.currency}".rstrip()
        whole = f"{found.cost:.2f} for the run's {figures.images} at the speed measured"
        table.add_row("cost", f"{each} for a thousand images, {whole}")
    return table
