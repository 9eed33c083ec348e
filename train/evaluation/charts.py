"""An evaluation as pictures, and the folder that holds all of it.

Three charts: the confusion matrix, the accuracy of each emotion with its interval, and the
reliability diagram. The title of each gives the metric that sums it up.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from handler.values.emotions import Wheel
from train.evaluation.evaluate import Evaluation, write_predictions
from train.evaluation.metrics import Scores

EVALUATION, PREDICTIONS = "evaluation.json", "predictions.csv"
_DPI = 150
_POSITIVE, _NEGATIVE = "#c8761d", "#3b6ea5"  # orange and blue: apart for every kind of eye
_INK, _SOFT = "#222222", "#9a9a9a"
_DARK_CELL = 0.55  # fraction of a row above which its number is written in white


def write_report(evaluation: Evaluation, folder: Path) -> list[Path]:
    """Write metrics, predictions and charts of an evaluation.

    Args:
        evaluation: Evaluation to report.
        folder: Folder of the output, created if it does not exist; files of the same names are
            replaced.

    Returns:
        Paths of the files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    metrics = folder / EVALUATION
    metrics.write_text(json.dumps(evaluation.to_dict(), indent=2) + "\n")
    predictions = folder / PREDICTIONS
    write_predictions(evaluation.table, predictions)
    scores = evaluation.scores
    charts = {
        "confusion.png": confusion_chart(scores),
        "per_class.png": per_class_chart(scores),
        "reliability.png": reliability_chart(scores),
    }
    for name, figure in charts.items():
        figure.savefig(folder / name, dpi=_DPI)
    return [metrics, predictions, *(folder / name for name in charts)]


def confusion_chart(scores: Scores) -> Figure:
    """Confusion matrix: colours and percentages are fractions of a row, counts stand below."""
    labels = scores.wheel.labels
    counts = np.array(scores.confusion)
    of_row = counts.sum(axis=1, keepdims=True)
    fractions = counts / np.maximum(of_row, 1)
    side = max(2.4 + 0.72 * len(labels), 5.5)  # the title needs that much
    figure, axes = _canvas(side, side)
    axes.imshow(fractions, cmap="Greys", vmin=0, vmax=1)
    for row in range(len(labels)):
        for column in range(len(labels)):
            if counts[row, column]:
                axes.text(
                    *(column, row, f"{fractions[row, column]:.0%}\n{counts[row, column]}"),
                    ha="center",
                    va="center",
                    fontsize=8,
                    color="white" if fractions[row, column] > _DARK_CELL else _INK,
                )
    axes.set_xticks(range(len(labels)), labels, rotation=40, ha="right", rotation_mode="anchor")
    totals = [
        f"{label} ({total})" for label, total in zip(labels, of_row[:, 0].tolist(), strict=True)
    ]
    axes.set_yticks(range(len(labels)), totals)
    axes.tick_params(length=0)
    border = scores.wheel.positives - 0.5
    axes.axhline(border, color=_INK, linewidth=1)
    axes.axvline(border, color=_INK, linewidth=1)
    axes.set_xlabel("predicted")
    axes.set_ylabel("labelled (images)")
    _title(
        axes,
        f"Accuracy {_percent(scores.accuracy)}, polarity {_percent(scores.polarity_accuracy)}",
        "per cent of the row, and images; lines part positive from negative",
    )
    return figure


def per_class_chart(scores: Scores) -> Figure:
    """Accuracy of each emotion with its 95 % interval, and of all images as a line."""
    wheel = scores.wheel
    rows = scores.per_class()
    figure, axes = _canvas(7.2, 1.6 + 0.42 * len(wheel))
    for place, (label, row) in enumerate(rows.items()):
        if not row["images"]:
            continue
        low, high = scores.intervals[label]
        axes.barh(place, row["accuracy"], height=0.62, color=_colour(wheel, place), alpha=0.85)
        axes.hlines(place, low, high, color=_INK, linewidth=1.4)
        axes.text(
            *(max(high, row["accuracy"]) + 0.015, place, _percent(row["accuracy"])),
            va="center",
            fontsize=9,
            color=_INK,
        )
    axes.axvline(scores.accuracy, color=_SOFT, linewidth=1.2, linestyle="--", zorder=0)
    names = [f"{label} ({int(row['images'])})" for label, row in rows.items()]
    axes.set_yticks(range(len(wheel)), names)
    axes.invert_yaxis()
    axes.set_xlim(0, 1.12)
    _percent_ticks(axes.xaxis)
    axes.set_xlabel("accuracy (fraction of the emotion's images that are predicted as it)")
    _bare(axes)
    axes.spines["bottom"].set_bounds(0, 1)
    _title(
        axes,
        f"All images {_percent(scores.accuracy)}, mean of emotions "
        f"{_percent(scores.macro_accuracy)}",
        "black: 95 % interval; dashed: all images; orange positive, blue negative emotions",
    )
    return figure


def reliability_chart(scores: Scores) -> Figure:
    """Accuracy against confidence in bins; below, how many images are in each."""
    filled = [b for b in scores.bins() if b.images]
    figure = Figure(figsize=(6.2, 6.8), layout="constrained")
    above, below = figure.subplots(
        2, 1, sharex=True, gridspec_kw={"height_ratios": [3.2, 1], "hspace": 0.02}
    )
    above.plot([0, 1], [0, 1], color=_SOFT, linewidth=1.2, linestyle="--")
    for b in filled:
        above.vlines(b.confidence, *b.interval, color=_NEGATIVE, linewidth=1.4, alpha=0.6)
    above.plot(
        *([b.confidence for b in filled], [b.accuracy for b in filled]),
        color=_NEGATIVE,
        marker="o",
        markersize=5,
        linewidth=1.4,
    )
    above.set_ylim(0, 1.02)
    above.set_xlim(0, 1.02)
    above.set_ylabel("accuracy")
    _percent_ticks(above.yaxis)
    below.bar(
        [b.low for b in filled],
        [b.images for b in filled],
        width=[(b.high - b.low) * 0.92 for b in filled],
        align="edge",
        color=_SOFT,
    )
    below.set_ylabel("images")
    below.set_xlabel("confidence (probability of the predicted emotion)")
    _percent_ticks(below.xaxis)
    for axes in (above, below):
        _bare(axes)
    _title(
        above,
        f"Expected calibration error {_percent(scores.calibration_error)}",
        "bars: 95 % interval of the bin; dashed: perfect calibration; below it: overconfident",
    )
    return figure


def _canvas(width: float, height: float) -> tuple[Figure, Axes]:
    # Not pyplot: it keeps every figure alive and looks for a screen.
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots()


def _title(axes: Axes, finding: str, legend: str) -> None:
    axes.set_title(f"{finding}\n", fontsize=12, loc="left", color=_INK)
    axes.text(0, 1.02, legend, transform=axes.transAxes, fontsize=8.5, color="#666666")


def _bare(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)


def _percent_ticks(axis: object) -> None:
    ticks = [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    axis.set_ticks(ticks, [f"{tick:.0%}" for tick in ticks])  # type: ignore[attr-defined]


def _percent(fraction: float) -> str:
    return "unknown" if np.isnan(fraction) else f"{fraction:.1%}"


def _colour(wheel: Wheel, index: int) -> str:
    return _POSITIVE if wheel.polarity(index) == "positive" else _NEGATIVE
