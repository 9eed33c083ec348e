"""The results of a study as a Markdown table, a CSV file and a chart."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from train.ablation.chart import chart
from train.ablation.studies import Study
from train.ablation.summary import Metric, RowSummary

TABLE, CSV, PLOT = "table.md", "table.csv", "plot.png"
_DPI = 150


def write_report(
    study: Study, rows: Sequence[RowSummary], folder: Path, *, facts: Mapping[str, Any]
) -> list[Path]:
    """Write table, CSV file and chart; files of the same names are replaced.

    Args:
        study: Study that is reported.
        rows: Rows that `summarise` made.
        folder: Folder of the report, created if it does not exist.
        facts: Facts about the run for the notes of the table.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / TABLE).write_text(markdown(study, rows, facts))
    to_frame(rows).to_csv(folder / CSV, index=False)
    chart(study, rows).savefig(folder / PLOT, dpi=_DPI)
    return [folder / name for name in (TABLE, CSV, PLOT)]


def to_frame(rows: Sequence[RowSummary]) -> pd.DataFrame:
    """All results as numbers; fractions are 0 to 1, with six decimals."""
    table = []
    for row in rows:
        values: dict[str, Any] = {"row": row.name, "seeds": row.seeds}
        for name in ("accuracy", "polarity", "hard", "difference", "polarity_difference"):
            metric: Metric | None = getattr(row, name)
            values[name] = metric.value if metric else math.nan
            values[f"{name}_low"] = metric.interval[0] if metric else math.nan
            values[f"{name}_high"] = metric.interval[1] if metric else math.nan
            values[f"{name}_spread"] = metric.std if metric else math.nan
        values |= {"easy": row.easy, "reading": row.reading}
        table.append(values | {"seconds": row.seconds, "paper_percent": row.paper})
    return pd.DataFrame(table).round(6)


def markdown(study: Study, rows: Sequence[RowSummary], facts: Mapping[str, Any]) -> str:
    """The Markdown table, with the notes that are needed to read it."""
    heads = table_heads(study)
    lines = [
        f"# {study.title}",
        "",
        *(f"- {name}: {value}" for name, value in facts.items()),
        "",
        f"| {' | '.join(heads)} |",
        "|" + " --- |" * len(heads),
        *(f"| {' | '.join(table_cells(row, study))} |" for row in rows),
        "",
        "Rates in per cent, means over seeds; in brackets the 95 % interval over photos, ± the",
        "standard deviation between seeds. The difference is that of the accuracy from the row",
        f"`{study.reference}`, taken photo by photo: where its interval holds 0, these photos and",
        "seeds show no difference. Of twenty such intervals one misses by chance. Hard false",
        "examples have the wrong polarity, easy ones only the wrong emotion.",
        "",
        "All backbones are frozen: what is trained is one layer over Global-Net's feature, all of",
        "Semantic-Net, Expression-Net where its trunk begins at random, and the response. So these",
        "figures compare rows with each other; the same network fine-tuned from pixels is better,",
        "and G(Y) looks at the luminance through a backbone that has only learned in colour.",
    ]
    return "\n".join(lines) + "\n"


def table_heads(study: Study) -> list[str]:
    """Column names of the Markdown table."""
    heads = [study.axis or "branches", "accuracy", "± seeds", "polarity", "hard", "easy"]
    return heads + ["difference", "± seeds", "reading"] + (["paper"] if study.paper else [])


def table_cells(row: RowSummary, study: Study) -> list[str]:
    """A row of the Markdown table."""
    cells = [
        row.name,
        _with_interval(row.accuracy),
        _std(row.accuracy),
        _with_interval(row.polarity),
        _percent(row.hard.value),
        _percent(row.easy),
        _difference(row),
        "-" if row.difference is None or row.is_reference else _std(row.difference),
        row.reading or "-",
    ]
    return cells + ([row.paper or "-"] if study.paper else [])


def short_table(study: Study, rows: Sequence[RowSummary]) -> list[list[str]]:
    """Column names and rows of a table that fits a terminal."""
    heads = [study.axis or "branches", "accuracy", "± seeds", "polarity", "hard", "difference"]
    cells = [
        [
            row.name,
            _percent(row.accuracy.value),
            _std(row.accuracy),
            _percent(row.polarity.value),
            _percent(row.hard.value),
            _difference(row),
        ]
        for row in rows
    ]
    return [heads, *cells]


def _with_interval(metric: Metric) -> str:
    low, high = metric.interval
    return f"{_percent(metric.value)} [{_percent(low)} to {_percent(high)}]"


def _difference(row: RowSummary) -> str:
    if row.difference is None or row.is_reference:
        return "-"
    low, high = row.difference.interval
    return f"{100 * row.difference.value:+.1f} [{100 * low:+.1f} to {100 * high:+.1f}]"


def _std(metric: Metric) -> str:
    return "-" if math.isnan(metric.std) else _percent(metric.std)


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.1f}"
