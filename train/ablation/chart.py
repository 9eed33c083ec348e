"""The chart of a study: the accuracy of each row, and its difference from the reference."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from train.ablation.studies import Study
from train.ablation.summary import Metric, RowSummary

_INK, _SOFT, _NOTE = "#222222", "#9a9a9a", "#666666"
_ASIDE = 0.06  # between series, on the axis of the study
_COLOURS = ("#3b6ea5", "#c8761d")  # blue and orange: apart for every kind of eye


def chart(study: Study, rows: Sequence[RowSummary]) -> Figure:
    """Accuracy, and its difference from the reference, row by row or along the study's axis."""
    return _curves(study, rows) if study.axis else _bars(study, rows)


def _bars(study: Study, rows: Sequence[RowSummary]) -> Figure:
    # Not pyplot: it keeps every figure alive and looks for a screen.
    figure = Figure(figsize=(9.5, 1.7 + 0.38 * max(len(rows), 1)), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    for place, row in enumerate(rows):
        _horizontal(left, place, row.accuracy, f"{100 * row.accuracy.value:.1f}")
        if row.difference is not None and not row.is_reference:
            text = f"{100 * row.difference.value:+.1f}"
            _horizontal(right, place, row.difference, text)
    left.set_yticks(range(len(rows)), [row.name for row in rows])
    left.set_ylim(len(rows) - 0.5, -0.6)
    left.set_xlabel("accuracy, per cent")
    right.set_xlabel(f"difference from {study.reference}, percentage points")
    right.axvline(0, color=_SOFT, linewidth=1.2, linestyle="--", zorder=0)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
        axes.margins(x=0.12)
    _title(left, study.title, "bars: 95 % interval over photos; right: taken photo by photo")
    return figure


def _horizontal(axes: Axes, place: int, metric: Metric, text: str) -> None:
    low, high = (100 * bound for bound in metric.interval)
    axes.hlines(place, low, high, color=_COLOURS[0], linewidth=1.6)
    axes.plot(100 * metric.value, place, "o", color=_COLOURS[0], markersize=5.5)
    axes.annotate(
        text,
        (100 * metric.value, place),
        xytext=(0, 6),
        textcoords="offset points",
        ha="center",
        fontsize=8,
        color=_INK,
    )


def _curves(study: Study, rows: Sequence[RowSummary]) -> Figure:
    figure = Figure(figsize=(6.8, 8.0), layout="constrained")
    panels = figure.subplots(3, 1, sharex=True)
    series: dict[str, list[RowSummary]] = {}
    for row in rows:
        series.setdefault(study.points[row.name][0], []).append(row)
    for number, (colour, (label, members)) in enumerate(
        zip(_COLOURS, series.items(), strict=False)
    ):
        aside = _ASIDE * (number - (len(series) - 1) / 2)  # so that bars do not cover each other
        x = [study.points[row.name][1] + aside for row in members]
        _curve(panels[0], x, [row.accuracy for row in members], colour, label)
        _curve(panels[1], x, [row.difference for row in members], colour, label)
        _curve(panels[2], x, [row.hard for row in members], colour, label)
    difference = f"difference from {study.axis} = {study.reference}"
    labels = ("accuracy", difference, "hard false examples")
    for axes, label in zip(panels, labels, strict=True):
        axes.set_ylabel(f"{label}, per cent" if axes is not panels[1] else f"{label}, points")
        axes.spines[["top", "right"]].set_visible(False)
    panels[1].axhline(0, color=_SOFT, linewidth=1.2, linestyle="--", zorder=0)
    panels[2].set_xlabel(study.axis or "")
    panels[2].set_xticks(sorted({point for _, point in study.points.values()}))
    if len(series) > 1:
        panels[0].legend(frameon=False, fontsize=9)
    _title(panels[0], study.title, "bars: 95 % interval over photos; middle: taken photo by photo")
    return figure


def _curve(
    axes: Axes, x: Sequence[float], metrics: Sequence[Metric | None], colour: str, label: str
) -> None:
    known = [(at, one) for at, one in zip(x, metrics, strict=True) if one is not None]
    if not known:
        return
    places = [at for at, _ in known]
    values = np.array([100 * one.value for _, one in known])
    bounds = np.array([one.interval for _, one in known]).T * 100
    axes.plot(places, values, marker="o", markersize=5, linewidth=1.4, color=colour, label=label)
    axes.vlines(places, bounds[0], bounds[1], color=colour, linewidth=1.4, alpha=0.6)


def _title(axes: Axes, finding: str, legend: str) -> None:
    axes.set_title(f"{finding}\n", fontsize=12, loc="left", color=_INK)
    axes.text(0, 1.02, legend, transform=axes.transAxes, fontsize=8.5, color=_NOTE)
