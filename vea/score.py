"""`vea score`: a list of images -> predictions in parquet."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from vea.terminal import out as terminal_out
from vea.terminal import print_json, progress_bars

if TYPE_CHECKING:
    from jobs.engine import Summary

_TOO_MANY_FAILED = 3


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command()(score)


def score(
    manifest: Annotated[
        str,
        typer.Argument(help="The list of images: .txt or .csv (also .gz), a path or s3://…"),
    ],
    out: Annotated[
        str, typer.Option(help="Folder of the parquet parts: a path or s3://bucket/prefix.")
    ],
    model: Annotated[Path, typer.Option(help="The archive to score with (.mar or folder).")],
    column: Annotated[str, typer.Option(help="Column of the images in a .csv list.")] = "image",
    chunk_size: Annotated[int, typer.Option(min=1, help="Images in a part.")] = 1000,
    fetch_threads: Annotated[
        int, typer.Option(min=1, max=256, help="Images fetched at a time.")
    ] = 16,
    max_error_share: Annotated[
        float,
        typer.Option(min=0.0, max=1.0, help="Exit with 3 if a larger share of images failed."),
    ] = 1.0,
    as_json: Annotated[bool, typer.Option("--json", help="The summary as JSON.")] = False,
) -> None:
    """Score a list of images, on S3 or on this machine, into parquet.

    Every listed image gives one row: its emotion, all probabilities and the largest face, or why it
    failed. Start the same command again after an interruption and it continues where it stopped.

    **Example**, where each line of `photos.txt` is `s3://photos/2026/beach.jpg` or a path:

    `vea score photos.txt --out s3://results/photos --model model_store/vea-lite-1.0.mar`

    Then read the folder with `pandas.read_parquet("s3://results/photos")`. S3 is reached with the
    usual AWS settings; AWS_ENDPOINT_URL_S3 names a server of your own.
    """
    from jobs.engine import ScoreJob, score_list

    job = ScoreJob(
        manifest=manifest,
        out=out,
        model=model,
        column=column,
        chunk_size=chunk_size,
        fetch_threads=fetch_threads,
    )
    with progress_bars() as show:
        summary = score_list(job, on_progress=lambda now: show("images", now.done, now.total))
    if as_json:
        print_json(summary.to_dict())
    else:
        terminal_out().print(_table(summary))
    if summary.failed_share > max_error_share:
        Console(stderr=True, highlight=False).print(
            f"[red]vea:[/red] {summary.failed} of {summary.rows} images failed "
            f"({summary.failed_share:.1%}), more than --max-error-share {max_error_share:g}",
            soft_wrap=True,
        )
        raise typer.Exit(_TOO_MANY_FAILED)


def _table(summary: Summary) -> Table:
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    table.add_row("images", f"{summary.rows}")
    table.add_row("scored", f"{summary.ok}")
    table.add_row("failed", f"{summary.failed}")
    for reason, count in sorted(summary.reasons.items(), key=lambda item: -item[1]):
        table.add_row(f"  {reason}", f"{count}")
    if summary.scored:
        rate = f"{summary.images_per_second:.1f} images/s over {summary.seconds:.1f} s"
        table.add_row("this start", f"{summary.scored} images, {rate}")
    else:
        table.add_row("this start", "nothing left to do")
    skipped = f", {summary.parts_skipped} of them from before" if summary.parts_skipped else ""
    table.add_row("parts", f"{summary.parts}{skipped}")
    table.add_row("in", summary.out)
    return table
