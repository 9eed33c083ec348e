"""Assigns chunks to workers that may die: for processes and for Ray.

A `WorkerPool` starts workers, assigns tasks to them, and waits for events. Workers may die at any
moment. `dispatch` gives each chunk to one of them at a time, replaces those that died, finds
the images that kill (see `jobs.engines.quarantine`), and reports each chunk exactly once. It gives
up only when no worker lives long enough to finish a task.
"""

from __future__ import annotations

import logging
from collections import Counter, deque
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Protocol

from handler.values.errors import VeaError
from jobs.engines.quarantine import CrashBisection, WorkersDie
from jobs.engines.signals import StopRequest
from jobs.values.tasks import OnImages, OnPoison

if TYPE_CHECKING:
    # Worker processes import this too, and must not wait for torch before they listen.
    from jobs.values.tasks import PartReport, Task


_MAX_FAILED_STARTS = 3
# For each worker; finding one image that kills in a chunk of 1,000 costs 14 crashes.
_MAX_CONSECUTIVE_CRASHES = 20
_LOG = logging.getLogger(__name__)


class WorkerFailed(VeaError):
    """A worker reports that the job cannot be done; the message is that of the worker."""


@dataclass(frozen=True)
class WorkerReady:
    """A worker has loaded the model."""

    worker_id: int


@dataclass(frozen=True)
class Images:
    """A worker has finished some images of its task."""

    worker_id: int
    count: int
    failed: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Finished:
    """A worker has finished its task and can take another."""

    worker_id: int
    report: PartReport


@dataclass(frozen=True)
class Failed:
    """A worker failed with an error that is not specific to its task."""

    worker_id: int
    message: str


@dataclass(frozen=True)
class Died:
    """The worker died; it sends no further events.

    Attributes:
        worker_id: Number of the worker.
        cause: Reason of the death, in one line.
        begun: Whether it may have begun its task, so that the task may be what killed it.
    """

    worker_id: int
    cause: str
    begun: bool = True


Event = WorkerReady | Images | Finished | Failed | Died


class WorkerPool(Protocol):
    """Workers that can die, known by numbers; no number is used twice."""

    def capacity(self) -> int:
        """Number of workers that can run now, at least 1."""

    def start(self) -> int:
        """Start a worker and return its number; it sends `WorkerReady` or `Died`."""

    def assign(self, worker_id: int, task: Task) -> None:
        """Give a task to an idle worker; a dead one sends `Died`."""

    def wait(self, stop: StopRequest, timeout: float | None) -> Sequence[Event]:
        """Events since the last call; waits for one, for a signal, or for ``timeout`` seconds."""

    def close(self) -> None:
        """Kill all workers."""


def dispatch(
    pool: WorkerPool,
    todo: Iterator[Task],
    *,
    on_images: OnImages,
    on_poison: OnPoison,
    stop: StopRequest,
) -> Generator[PartReport]:
    """Do every task; the pool is closed at the end, whatever happens.

    Args:
        pool: Worker pool that has not been started.
        todo: Whole chunks, taken as they are needed.
        on_images: Called for images as soon as their worker reports them.
        on_poison: Called for images that kill workers.
        stop: Request that ends the run early, with fewer reports.

    Raises:
        WorkerFailed: A worker reports that the job cannot be done.
        WorkersDie: Workers die faster than they finish tasks.
    """
    state = _Dispatch(pool, todo, on_images, on_poison)
    try:
        while state.supply(stop):
            for event in pool.wait(stop, stop.seconds_left()):
                if report := state.take(event):
                    yield report
    finally:
        pool.close()


class _Dispatch:
    """State of the dispatch between two events."""

    def __init__(
        self, pool: WorkerPool, todo: Iterator[Task], on_images: OnImages, on_poison: OnPoison
    ) -> None:
        self._pool = pool
        self._todo = todo
        self._on_images = on_images
        self._on_poison = on_poison
        self._queue: deque[Task] = deque()
        self._starting: set[int] = set()
        self._idle: list[int] = []
        self._busy: dict[int, Task] = {}
        # Images that each worker has reported of its task so far.
        self._through: Counter[int] = Counter()
        self._failed: dict[int, Counter[str]] = {}
        self._bisections: dict[int, CrashBisection] = {}
        self._failed_starts = 0
        self._consecutive_crashes = 0

    def supply(self, stop: StopRequest) -> bool:
        """Assign tasks to idle workers; returns whether there is anything to wait for."""
        if stop.is_set():
            # Probes write nothing, so nobody needs to wait for them.
            under_way = any(task.probe is None for task in self._busy.values())
            return under_way and stop.seconds_left() != 0
        capacity = self._pool.capacity()
        # No more than can be assigned at once: a list of millions stays on disk.
        wanted = capacity - len(self._busy) - len(self._queue)
        self._queue.extend(islice(self._todo, max(0, wanted)))
        while self._idle and self._queue:
            self._assign(self._idle.pop(), self._queue.popleft())
        while len(self._starting) < len(self._queue) and self._alive < capacity:
            self._starting.add(self._pool.start())
        return bool(self._busy or self._queue)

    @property
    def _alive(self) -> int:
        return len(self._starting) + len(self._idle) + len(self._busy)

    def _assign(self, worker_id: int, task: Task) -> None:
        self._busy[worker_id] = task
        self._pool.assign(worker_id, task)

    def take(self, event: Event) -> PartReport | None:
        """Handle an event; returns the report of a chunk that is done."""
        match event:
            case WorkerReady(worker_id):
                self._failed_starts = 0
                self._starting.discard(worker_id)
                self._idle.append(worker_id)
            case Images(worker_id, count, failed):
                if self._busy[worker_id].probe is None:
                    self._through[worker_id] += count
                    self._failed.setdefault(worker_id, Counter()).update(failed)
                    self._on_images(count, failed)
            case Finished(worker_id, report):
                return self._finished(worker_id, report)
            case Failed(_, message):
                raise WorkerFailed(message)
            case Died(worker_id, cause, begun):
                self._died(worker_id, cause, begun)
        return None

    def _finished(self, worker_id: int, report: PartReport) -> PartReport | None:
        task = self._busy.pop(worker_id)
        count, failed = self._forget(worker_id)
        self._idle.append(worker_id)
        self._consecutive_crashes = 0
        if task.probe is not None:
            self._follow(task, self._bisections[task.chunk.index].on_probe_ok())
            return None
        self._bisections.pop(task.chunk.index, None)
        # Not every kind of worker reports single images.
        rest = Counter(report.reasons)
        rest.subtract(failed)
        if report.rows != count or any(rest.values()):
            self._on_images(report.rows - count, {reason: n for reason, n in rest.items() if n})
        return report

    def _died(self, worker_id: int, cause: str, begun: bool) -> None:
        self._idle = [other for other in self._idle if other != worker_id]
        if worker_id in self._starting:
            self._starting.discard(worker_id)
            self._failed_starts += 1
            if self._failed_starts >= _MAX_FAILED_STARTS:
                raise WorkersDie(
                    f"{self._failed_starts} workers in a row ended before they were ready: {cause}"
                )
        task = self._busy.pop(worker_id, None)
        if task is None:
            return
        count, failed = self._forget(worker_id)
        if count:
            self._on_images(-count, {reason: -n for reason, n in failed.items()})
        self._consecutive_crashes += 1
        if self._consecutive_crashes > _MAX_CONSECUTIVE_CRASHES * self._pool.capacity():
            raise WorkersDie(
                f"{self._consecutive_crashes} workers in a row ended during their work: {cause}"
            )
        if not begun:
            self._queue.appendleft(task)
            return
        if task.probe is None:
            _LOG.warning(
                "a worker ended during %s (%s); the chunk is scored again", task.chunk.id, cause
            )
        bisection = self._bisections.setdefault(task.chunk.index, CrashBisection(task))
        self._follow(task, bisection.on_crash(task, cause))

    def _follow(self, task: Task, steps: Sequence[Task]) -> None:
        """Put tasks at the head of the queue."""
        for step in steps:
            if step.probe is None and step.skip != task.skip:
                self._on_poison(step.chunk, step.skip)
        self._queue.extendleft(reversed(steps))

    def _forget(self, worker_id: int) -> tuple[int, Counter[str]]:
        return self._through.pop(worker_id, 0), self._failed.pop(worker_id, Counter())
