"""What the commands show to people: progress bars and tables, on a terminal only."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.segment import Segment

OnProgress = Callable[[str, int, int], None]


class _Spelled(Console):
    """A console on which names of files and of columns cannot move the cursor or set colours."""

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterator[Segment]:
        """Segments of a renderable; control characters in its text are spelled out."""
        for segment in super().render(renderable, options):
            if segment.control or segment.text.isprintable():
                yield segment
            else:
                yield Segment(printable(segment.text), segment.style)


def out() -> Console:
    """Standard output, for results."""
    return _Spelled(highlight=False)


def print_remarks(remarks: Iterable[str]) -> None:
    """Remarks on the input, one a line, on standard error: results alone go to standard output."""
    console = _Spelled(stderr=True, highlight=False)
    for remark in remarks:
        console.print(f"note: {remark}", soft_wrap=True, markup=False)


def complain(line: str) -> None:
    """One line of the program itself on standard error.

    Lines quote paths, keys and servers: brackets in them are no markup, and what would move a
    terminal's cursor or change its colours is spelled out.
    """
    console = Console(stderr=True, highlight=False, markup=False)
    console.print(f"vea: {printable(line)}", soft_wrap=True)


def printable(text: str) -> str:
    """The text with control characters spelled out as escapes; line ends stay."""
    return "".join(
        letter if letter.isprintable() or letter in "\n\t" else _spelled(letter) for letter in text
    )


def _spelled(letter: str) -> str:
    return letter.encode("unicode_escape").decode("ascii")


def print_json(document: Any) -> None:
    """One JSON document on standard output, for programs."""
    sys.stdout.write(json.dumps(document, indent=2) + "\n")


@contextmanager
def progress_bars() -> Iterator[OnProgress]:
    """Yields a function to call with (what, done, total); draws a bar for each ``what``.

    Bars go to standard error and only to a terminal, so that output can be piped.
    """
    console = Console(stderr=True)
    bars = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
    )
    tasks: dict[str, TaskID] = {}
    with bars:

        def on_progress(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what, total=total)
            bars.update(tasks[what], completed=done)

        yield on_progress
