"""A report as tables in the terminal."""

from __future__ import annotations

import statistics

from rich.console import Console
from rich.table import Table

from tests.bench.results import Measurement, Report

SECTIONS = {
    "stages": "Stages, one thread",
    "predictor": "Photos in memory",
    "jobs": "From a list on S3 to parquet on S3, without the start",
    "serving": "TorchServe, 16 client threads",
    "megapixels": "Growth with megapixels",
    "batch": "Growth with the batch",
    "threads": "Growth with threads",
    "list": "Growth with the list, start included",
}


def show(report: Report, console: Console) -> None:
    """Print every section, and the ratios."""
    for section, title in SECTIONS.items():
        rows = [one for one in report.measurements if one.section == section]
        if rows:
            console.print(_section(title, rows))
    starts = [one for one in report.measurements if one.section == "start"]
    if starts:
        console.print(_starts(starts))
    if report.ratios:
        console.print(_ratios(report))


def _section(title: str, rows: list[Measurement]) -> Table:
    columns = {
        "at": ["" if one.x is None else f"{one.x:g}" for one in rows],
        "threads": [str(one.threads) for one in rows],
        "CPU ms/photo": [f"{one.cpu_ms:.2f}" for one in rows],
        "lowest": [f"{min(one.cpu) / one.photos * 1e3:.2f}" for one in rows],
        "wall ms": [f"{one.wall_ms:.2f}" for one in rows],
        "start CPU s": [
            f"{statistics.median(one.start_cpu):.1f}" if one.start_cpu else "" for one in rows
        ],
        "peak MiB": [f"{one.peak_mib:.0f}" if one.peak_mib else "" for one in rows],
    }
    table = Table(title=title, title_justify="left")
    table.add_column("", no_wrap=True)
    known = {head: cells for head, cells in columns.items() if any(cells)}
    for head in known:
        table.add_column(head, justify="right")
    for one, *cells in zip(rows, *known.values(), strict=True):
        table.add_row(one.name, *cells)
    return table


def _starts(rows: list[Measurement]) -> Table:
    table = Table(title="Start-up", title_justify="left")
    table.add_column("")
    for head in ("CPU s", "wall s", "peak MiB"):
        table.add_column(head, justify="right")
    for one in rows:
        peak = f"{one.peak_mib:.0f}" if one.peak_mib else ""
        table.add_row(one.name, f"{one.cpu_ms / 1e3:.2f}", f"{one.wall_ms / 1e3:.2f}", peak)
    return table


def _ratios(report: Report) -> Table:
    table = Table(title="Ratios of CPU time a photo, within this run", title_justify="left")
    for head in ("way", "beside", "threads"):
        table.add_column(head)
    for head in ("times cheaper", "lowest", "highest"):
        table.add_column(head, justify="right")
    for one in report.ratios:
        values = (f"{value:.2f}" for value in (one.value, one.low, one.high))
        table.add_row(one.way, one.reference, str(one.threads), *values)
    return table
