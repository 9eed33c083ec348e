"""Progress of a running job: a bar for people, lines of JSON for logs.

On a terminal there is a bar with the rate, the time left and the failures. Otherwise, under cron or
in a container, a line of JSON is written to standard error every few seconds and at the end, also
while nothing happens, because that is when people look at the log. Other listeners are possible
(see `jobs.monitoring.metrics`).
"""

from __future__ import annotations

import json
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn
from rich.progress import Progress as Bars

from jobs.monitoring.counter import Progress

EVERY = 5.0
_WINDOW = (
    60.0  # seconds that the rate is averaged over, so that loading the model soon no longer counts
)


@dataclass(frozen=True)
class Status:
    """Progress of a job, with its rate.

    Attributes:
        done: Number of finished images, those of earlier attempts included.
        total: Number of images of the job.
        failed: Number of images of ``done`` without a prediction.
        reasons: Number of failed images for each ``stage/reason_kind``.
        images_per_second: Rate of this attempt over the last minute.
        seconds: Seconds since the attempt began.
        eta_seconds: Seconds that remain at this rate; None while nothing moves.
    """

    done: int
    total: int
    failed: int
    reasons: Mapping[str, int] = field(default_factory=dict)
    images_per_second: float = 0.0
    seconds: float = 0.0
    eta_seconds: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON; times and rates are rounded."""
        values = asdict(self)
        for name in ("images_per_second", "seconds", "eta_seconds"):
            values[name] = values[name] if values[name] is None else round(values[name], 1)
        return values


class Watch:
    """Turns counts of images into a rate and a time; safe to share between threads.

    Args:
        clock: Monotonic clock, in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._began = clock()
        self._seen: Progress | None = None
        # Images of this attempt at moments of the last minute, and at the last one before it.
        self._moments = deque([(self._began, 0)])
        self._lock = threading.Lock()

    def see(self, progress: Progress) -> None:
        """Note the progress of the job."""
        with self._lock:
            self._seen = progress
            self._moments.append((self._clock(), progress.done - progress.earlier))

    def status(self) -> Status | None:
        """The current status; None before the first progress."""
        with self._lock:
            now, seen = self._clock(), self._seen
            if seen is None:
                return None
            while len(self._moments) > 1 and self._moments[1][0] <= now - _WINDOW:
                self._moments.popleft()
            then, before = self._moments[0]
            # Images of a worker that dies no longer count as done.
            moved = max(0, self._moments[-1][1] - before)
        rate = moved / (now - then) if now > then else 0.0
        left = seen.total - seen.done
        return Status(
            done=seen.done,
            total=seen.total,
            failed=seen.failed,
            reasons=seen.reasons,
            images_per_second=rate,
            seconds=now - self._began,
            eta_seconds=0.0 if not left else left / rate if rate else None,
        )


Listener = Callable[[Status], None]


@contextmanager
def reporting(
    listeners: Sequence[Listener] = (), *, console: Console | None = None, every: float = EVERY
) -> Iterator[Callable[[Progress], None]]:
    """Show progress as long as the context lasts.

    Args:
        listeners: Functions that receive the progress every few seconds, from a thread, and once
            more at the end.
        console: Console to show the progress on; standard error by default.
        every: Seconds between lines, where the console is not a terminal.

    Yields:
        What to tell of progress.
    """
    watch = Watch()
    console = console or Console(stderr=True)
    bar = _Bar(console) if console.is_terminal else None
    show = bar.show if bar else lambda status: _write_line(console, status)

    def tick() -> None:
        if status := watch.status():
            for tell in (show, *listeners):
                tell(status)

    def see(progress: Progress) -> None:
        watch.see(progress)
        if bar and (status := watch.status()):
            bar.show(status)

    try:
        with _ticking(tick, every):
            yield see
    finally:
        tick()
        if bar:
            bar.close()


@contextmanager
def _ticking(tick: Callable[[], None], every: float) -> Iterator[None]:
    """Call something every few seconds from a thread, however busy this one is."""
    over = threading.Event()

    def run() -> None:
        while not over.wait(every):
            tick()

    thread = threading.Thread(target=run, name="vea-progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _write_line(console: Console, status: Status) -> None:
    console.file.write(json.dumps(status.to_dict()) + "\n")
    console.file.flush()


class _Bar:
    """The bar on a terminal; shown from the first status on."""

    def __init__(self, console: Console) -> None:
        self._bars = Bars(
            TextColumn("images"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TextColumn("{task.fields[left]}"),
            TextColumn("[red]{task.fields[failed]}[/red]"),
            console=console,
        )
        self._task: TaskID | None = None
        self._lock = threading.Lock()

    def show(self, status: Status) -> None:
        texts: dict[str, Any] = {
            "rate": f"{status.images_per_second:.1f}/s",
            "left": f"{_duration(status.eta_seconds)} left",
            "failed": _failed(status.reasons),
        }
        with self._lock:
            if self._task is None:
                self._bars.start()
                self._task = self._bars.add_task("images", total=status.total, **texts)
            self._bars.update(self._task, completed=status.done, total=status.total, **texts)

    def close(self) -> None:
        if self._task is not None:
            self._bars.stop()


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return "?"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}"


def _failed(reasons: Mapping[str, int]) -> str:
    """The most frequent reasons, as many as fit a line."""
    most = sorted(reasons.items(), key=lambda item: -item[1])
    listed = [f"{count} {reason}" for reason, count in most[:3]]
    rest = sum(count for _, count in most[3:])
    return ", ".join([*listed, f"{rest} other"] if rest else listed)
