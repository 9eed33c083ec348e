"""The figures of the page of performance: how the cost of a photo grows."""

from __future__ import annotations

from collections.abc import Callable

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from docs.generate import performance
from docs.generate.performance import Measured, Run

_COLOURS = {
    "Predictor": "#3b6ea5",
    "naive script": "#c8761d",
    "vea score": "#3b6ea5",
    "decode": "#5b8c5a",
    "faces": "#8a5a8c",
    "objects": "#9a9a9a",
}
_STYLES = {"before": "--", "after": "-"}
_DPI = 120


def write() -> None:
    """Write the figures that `performance.page` shows, for the runs that there are."""
    runs = {
        name: performance.read(name)
        for name in performance.RUNS
        if (performance.FOLDER / f"{name}.json").is_file()
    }
    for name in performance.shown():
        figure = Figure(figsize=(7.2, 4.2), layout="constrained")
        axes = figure.subplots()
        for run, document in runs.items():
            if performance.measurements(document, name):
                _FIGURES[name](axes, run, document)
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_ylim(bottom=0)
        axes.legend(frameon=False, fontsize=8)
        # Without a date, the same values give the same bytes.
        figure.savefig(performance.FOLDER / f"{name}.png", dpi=_DPI, metadata={"Software": None})


def _curves(
    axes: Axes, run: str, document: Run, section: str, value: Callable[[Measured], float]
) -> None:
    found = performance.measurements(document, section)
    for name in dict.fromkeys(one["name"] for one in found):
        points = [(one["x"], value(one)) for one in found if one["name"] == name]
        axes.plot(
            *zip(*points, strict=True),
            marker="o",
            markersize=4,
            linewidth=1.4,
            linestyle=_STYLES[run],
            color=_COLOURS.get(name, "#222222"),
            label=f"{name}, {run}",
        )


def _megapixels(axes: Axes, run: str, document: Run) -> None:
    _curves(axes, run, document, "megapixels", lambda one: one["cpu_ms"])
    axes.set_xlabel("megapixels of the photo")
    axes.set_ylabel("CPU milliseconds a photo, one thread")


def _batch(axes: Axes, run: str, document: Run) -> None:
    _curves(axes, run, document, "batch", lambda one: one["cpu_ms"])
    axes.set_xscale("log", base=2)
    sizes = [one["x"] for one in performance.measurements(document, "batch")]
    axes.set_xticks(sizes, [f"{size:g}" for size in sizes])
    axes.set_xlabel("photos in a forward pass")
    axes.set_ylabel("CPU milliseconds a photo, one thread")


def _threads(axes: Axes, run: str, document: Run) -> None:
    found = performance.measurements(document, "threads")
    x = [one["x"] for one in found]
    for key, colour in (("cpu_ms", "#3b6ea5"), ("wall_ms", "#c8761d")):
        kind = "CPU" if key == "cpu_ms" else "wall-clock"
        y = [one[key] for one in found]
        axes.plot(x, y, marker="o", linestyle=_STYLES[run], color=colour, label=f"{kind}, {run}")
    axes.set_xticks(x, [f"{count:g}" for count in x])
    axes.set_xlabel("threads of Predictor")
    axes.set_ylabel("milliseconds a photo")


def _list(axes: Axes, run: str, document: Run) -> None:
    found = performance.measurements(document, "list")
    x = [one["x"] for one in found]
    for key, colour in (("cpu_ms", "#3b6ea5"), ("wall_ms", "#c8761d")):
        kind = "CPU" if key == "cpu_ms" else "wall-clock"
        y = [one[key] * one["photos"] / 1e3 for one in found]
        axes.plot(x, y, marker="o", linestyle=_STYLES[run], color=colour, label=f"{kind}, {run}")
    axes.set_xlim(left=0)
    axes.set_xlabel("photos in the list")
    axes.set_ylabel("seconds, start included")


_FIGURES = {"megapixels": _megapixels, "batch": _batch, "threads": _threads, "list": _list}
