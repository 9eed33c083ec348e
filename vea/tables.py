"""Tables of predictions, for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:
    from handler.values.prediction import AttendedObject, Prediction, Refusal
    from handler.values.things import DetectedThing

if TYPE_CHECKING:
    from jobs.monitoring.summary import Summary

_REASONS = 3  # objects listed for each photo
_THINGS = 2  # and detected things beside them


def show(console: Console, answers: Mapping[str, Prediction | Refusal]) -> None:
    """A table for people: what each photo evokes, by name."""
    from handler.values.prediction import Refusal

    table = Table()
    table.add_column("photo", overflow="fold")
    for heading in ("emotion", "p", "then", "polarity", "p"):
        table.add_column(heading)
    with_faces = any(getattr(answer, "face_count", None) is not None for answer in answers.values())
    if with_faces:
        table.add_column("faces")
    for name, answer in answers.items():
        if isinstance(answer, Refusal):
            table.add_row(escape(name), "[red]refused[/red]", "", escape(answer.reason))
            continue
        ranked = sorted(answer.probabilities.items(), key=lambda item: -item[1])
        others = ", ".join(f"{label} {p:.0%}" for label, p in ranked[1:3])
        table.add_row(
            escape(name),
            answer.emotion,
            f"{ranked[0][1]:.0%}",
            others,
            answer.polarity,
            f"{answer.polarity_probability:.0%}",
            *([str(answer.face_count)] if with_faces else ()),
        )
    console.print(table)


def show_reasons(console: Console, answers: Mapping[str, Prediction | Refusal]) -> None:
    """A table for people: the objects of each photo that were attended to most.

    Things that a detector found stand among them, by the attention that their boxes hold.
    """
    from handler.values.prediction import Prediction

    table = Table(title="reasons", title_justify="left")
    table.add_column("photo", overflow="fold")
    table.add_column("object, or place")
    for heading in ("attention", "confidence"):
        table.add_column(heading, justify="right")
    table.add_column("box (x1 y1 x2 y2)", justify="right")
    for name, answer in answers.items():
        if not isinstance(answer, Prediction):
            continue
        for place, item in enumerate(_reasons(answer)):
            words, sure = _words(answer, item)
            table.add_row(
                "" if place else escape(name),
                words,
                f"{item.attention:.0%}",
                f"{item.score:.0%}" if sure else "",
                " ".join(f"{edge:.0f}" for edge in item.box),
            )
    if table.row_count:
        console.print(table)


def _reasons(answer: Prediction) -> list[AttendedObject | DetectedThing]:
    """The reasons of a photo that are listed, most attended first."""
    things = (answer.detected or ())[:_THINGS]
    return sorted([*things, *answer.objects[:_REASONS]], key=lambda item: -item.attention)


def _words(answer: Prediction, item: AttendedObject | DetectedThing) -> tuple[str, bool]:
    """What to call a reason, and whether that is a name."""
    from handler.values.things import DetectedThing

    if isinstance(item, DetectedThing):
        return f"{item.label} [dim](detected)[/dim]", True
    return item.name or f"[dim]{answer.words_for(item)}[/dim]", item.name is not None


def summary_table(summary: Summary) -> Table:
    """A table for people: what a job of `vea score` came to."""
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    table.add_row("images", f"{summary.rows}")
    table.add_row("scored", f"{summary.ok}")
    if summary.copied:
        table.add_row("  by earlier runs", f"{summary.copied}")
    table.add_row("failed", f"{summary.failed}")
    for reason, count in sorted(summary.reasons.items(), key=lambda item: -item[1]):
        table.add_row(f"  {reason}", f"{count}")
    if summary.left_out:
        table.add_row("left out", f"{sum(summary.left_out.values())}")
        for reason, count in sorted(summary.left_out.items(), key=lambda item: -item[1]):
            table.add_row(f"  {reason}", f"{count}")
    if summary.scored:
        rate = f"{summary.images_per_second:.1f} images/s over {summary.seconds:.1f} s"
        busy = f"the model worked {summary.busy_fraction:.0%} of the time"
        table.add_row("this attempt", f"{summary.scored} images, {rate}; {busy}")
    else:
        table.add_row("this attempt", "nothing left to do")
    skipped = f", {summary.parts_skipped} of them from before" if summary.parts_skipped else ""
    table.add_row("chunks", f"{summary.parts}{skipped}")
    files = f"{summary.files} files" if summary.files > 1 else "one file"
    where = escape(summary.out)
    table.add_row("in", f"{where}, {files}" if summary.complete else where)
    if not summary.complete:
        table.add_row("", "other shards are missing; the last attempt to finish writes the result")
    return table
