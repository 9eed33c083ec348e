"""Tables of predictions, for people."""

from __future__ import annotations

from collections.abc import Mapping

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from handler.values.prediction import Prediction, Refusal

_REASONS = 3  # objects listed for each photo


def show(console: Console, answers: Mapping[str, Prediction | Refusal]) -> None:
    """A table for people: what each photo evokes, by name."""
    table = Table()
    table.add_column("photo", overflow="fold")
    for heading in ("emotion", "p", "then", "polarity", "p", "faces"):
        table.add_column(heading)
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
            str(answer.face_count),
        )
    console.print(table)


def show_reasons(console: Console, answers: Mapping[str, Prediction | Refusal]) -> None:
    """A table for people: the objects of each photo that were attended to most."""
    table = Table(title="reasons", title_justify="left")
    table.add_column("photo", overflow="fold")
    table.add_column("object")
    for heading in ("attention", "confidence"):
        table.add_column(heading, justify="right")
    table.add_column("box (x1 y1 x2 y2)", justify="right")
    for name, answer in answers.items():
        if not isinstance(answer, Prediction):
            continue
        for place, item in enumerate(answer.objects[:_REASONS]):
            table.add_row(
                "" if place else escape(name),
                item.name,
                f"{item.attention:.0%}",
                f"{item.score:.0%}",
                " ".join(f"{edge:.0f}" for edge in item.box),
            )
    if table.row_count:
        console.print(table)
