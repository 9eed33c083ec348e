"""The report as a page: one HTML file that needs no other file, no script and no network.

Names of images come from strangers: all values are escaped, and the page's content security policy
allows nothing to be loaded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

import jinja2

from handler.values.emotions import is_positive
from jobs.report.build import Report, RunMetrics
from jobs.report.finished_run import Example

_TEMPLATE = "pages/report.html"
_MIN_FRACTION = 1e-12  # below it a bar has no length
_NOTHING = "\N{EN DASH}"


def render(
    report: Report, *, most_confident: Sequence[Shown] = (), least_confident: Sequence[Shown] = ()
) -> str:
    """The page.

    Args:
        report: Report to show.
        most_confident: Most confident images.
        least_confident: Least confident images.
    """
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.filters |= {
        "percent": _percent,
        "count": _count,
        "points": _points,
        "distance": _distance,
        "time": _time,
    }
    template = resources.files("jobs.report").joinpath(_TEMPLATE).read_text(encoding="utf-8")
    return environment.from_string(template).render(
        report=report,
        run=report.run,
        figures=report.figures,
        reference=report.reference,
        emotions=_emotions(report),
        reasons=_reasons(report.figures, report.reference),
        runs=_runs(report),
        examples=[("Most confident", most_confident), ("Least confident", least_confident)],
        facts=report.run.manifest.get("facts", {}),
        model=report.run.manifest["model"],
        is_positive=is_positive,
    )


def _emotions(report: Report) -> list[dict[str, Any]]:
    """The lines of the table of emotions, with the lengths of their bars."""
    labels = list(report.figures.emotions)
    fractions = {label: report.figures.emotion_fraction(label) for label in labels}
    earlier = report.reference
    before = {label: earlier.emotion_fraction(label) if earlier else None for label in labels}
    longest = max((value or 0.0 for value in (*fractions.values(), *before.values())), default=0.0)
    scale = 100 / max(longest, _MIN_FRACTION)
    return [
        {
            "label": label,
            "count": report.figures.emotions[label],
            "fraction": fractions[label],
            "before": before[label],
            "change": _difference(fractions[label], before[label]),
            "bar": (fractions[label] or 0.0) * scale,
            "mark": None if before[label] is None else (before[label] or 0.0) * scale,
        }
        for label in labels
    ]


def _reasons(figures: RunMetrics, reference: RunMetrics | None) -> list[dict[str, Any]]:
    names = sorted(figures.reasons, key=lambda name: (-figures.reasons[name], name))
    return [
        {
            "name": name,
            "count": figures.reasons[name],
            "fraction": figures.reason_fraction(name),
            "before": reference and reference.reason_fraction(name),
        }
        for name in names
    ]


def _runs(report: Report) -> list[dict[str, Any]]:
    """The lines of the table of runs, this one first."""
    own = report.drift and report.drift.distance
    lines = [
        (report.run, own, True),
        *((n, d, False) for n, d in zip(report.earlier, report.distances, strict=True)),
    ]
    largest = max(1, *(run.rows for run, _, _ in lines))
    return [
        {
            "title": run.title,
            "figures": RunMetrics.of([run]),
            "distance": distance,
            "bar": 100 * run.rows / largest,
            "is_this": is_this,
            "model": run.manifest["model"],
        }
        for run, distance, is_this in lines
    ]


def _difference(now: float | None, before: float | None) -> float | None:
    return None if now is None or before is None else now - before


def _percent(fraction: float | None) -> str:
    """A fraction as a percentage with one decimal; one above 0 is not shown as 0."""
    if fraction is None:
        return _NOTHING
    if 0 < fraction < 0.0005:
        return "< 0.1 %"
    if 0.9995 <= fraction < 1:
        return "> 99.9 %"
    return f"{100 * fraction:.1f} %"


def _count(number: float) -> str:
    return f"{number:,.0f}"


def _points(change: float | None) -> str:
    """A difference of fractions, in percentage points."""
    if change is None:
        return _NOTHING
    points = round(100 * change, 1)
    sign = "+" if points > 0 else "\N{MINUS SIGN}" if points < 0 else "±"
    return f"{sign}{abs(points):.1f}"


def _distance(value: float | None) -> str:
    return _NOTHING if value is None else f"{value:.3f}"


def _time(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


@dataclass(frozen=True)
class Shown:
    """An example on the page.

    Attributes:
        example: Image, with what is known of it.
        pictures: Pictures as pairs of caption and data URL.
        remark: Reason why there are no pictures, or a remark about them.
    """

    example: Example
    pictures: tuple[tuple[str, str], ...] = ()
    remark: str = ""
