"""`vea score --dry-run`: what the command would read and write, and what it would take."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from vea.commands.score_table import columns_check
from vea.terminal import complain, print_json
from vea.terminal import out as terminal_out

if TYPE_CHECKING:
    from jobs.report.build import Price
    from jobs.run.plan import RunPlan
    from jobs.scoring.sources import OnDevice
    from jobs.values.job import ScoreJob

_WATCH = "Watching and stopping"

DryRun = Annotated[
    bool,
    typer.Option(
        "--dry-run",
        help="Write nothing and score nothing: show what would be read and written, and how long "
        "it would take by the rate of the latest run of this model beside --out.",
        rich_help_panel=_WATCH,
    ),
]
PricePerHour = Annotated[
    str | None,
    typer.Option(
        help="With --dry-run: what the machine costs, such as '0.34 USD'; gives the cost.",
        metavar="PRICE",
        rich_help_panel=_WATCH,
    ),
]


def price_of(text: str | None, *, dry_run: bool) -> Price | None:
    """The price that was given; refused where there is no dry run to use it."""
    from jobs.report.build import Price

    if text is None:
        return None
    if not dry_run:
        raise typer.BadParameter(
            "only with --dry-run; `vea report` has it for a finished run",
            param_hint="--price-per-hour",
        )
    return Price.parse(text)


def show(
    job: ScoreJob, load: OnDevice, *, delta: str | None, price: Price | None, as_json: bool
) -> None:
    """Print the plan of a job.

    Args:
        job: Job whose locations are filled in.
        load: Function that reads the archive.
        delta: Delta Lake table that the run would be committed to.
        price: Price of the machine.
        as_json: Whether the plan is printed as JSON.
    """
    from jobs.run.plan import plan_run

    accept = columns_check(job.out, delta, dry=True) if delta else None
    plan = plan_run(job, load=load, warn=complain, accept=accept)
    cost = None if price is None or plan.seconds is None else price.amount * plan.seconds / 3600
    if as_json:
        currency = price.currency if price and cost is not None else None
        print_json({**plan.to_dict(), "estimated_cost": cost, "currency": currency})
        return
    terminal_out().print(_table(plan, delta, price, cost))


def _table(plan: RunPlan, delta: str | None, price: Price | None, cost: float | None) -> Table:
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, value in _lines(plan, delta):
        table.add_row(name, escape(value))
    if plan.rate is None:
        unknown = (
            "unknown: no finished run of this model and runtime was found beside --out; to have "
            "one, score some hundred of the images into a folder beside it"
        )
        table.add_row("takes", unknown)
        return table
    took = timedelta(seconds=round(plan.seconds or 0.0))
    table.add_row("takes", f"about {took}, at {plan.rate.images_per_second:.1f} images/s")
    table.add_row("", escape(f"as {plan.rate.images} images of {plan.rate.location} were scored"))
    if price is not None:
        table.add_row("costs", f"about {cost:.2f} {price.currency}".rstrip())
    return table


def _lines(plan: RunPlan, delta: str | None) -> list[tuple[str, Any]]:
    sources = [(f"  {place}", f"{count}") for place, count in plan.sources.items()]
    left_out = [(f"  {reason}", f"{count}") for reason, count in plan.left_out.items()]
    files = f"{plan.files} files" if plan.files > 1 else "one file"
    size = "" if plan.bytes is None else f", about {plan.bytes / 2**20:.1f} MiB"
    return [
        ("dry run", "nothing is written"),
        ("list", plan.image_list),
        ("images", f"{plan.rows}"),
        *sources,
        *([("left out", f"{sum(plan.left_out.values())}")] if plan.left_out else []),
        *left_out,
        ("model", f"{plan.model.name} {plan.model.version}, runtime {plan.model.runtime}"),
        ("in", f"{plan.out}, {files}{size}"),
        *([("and in", f"the Delta table {delta}")] if delta else []),
        ("run", f"{plan.run_id}, {plan.state}"),
        ("chunks", f"{plan.chunks}, {plan.chunks_done} of them done"),
        ("to score", f"{plan.images} images"),
        ("columns", ", ".join(f"{name} {kind}" for name, kind in plan.columns.items())),
    ]
