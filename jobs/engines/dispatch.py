"""Who scores which chunk, whatever becomes of the workers: for processes and for Ray alike.

The workers are `Hands`, which can be started, given a task, and waited for. They may die at any
moment. `dispatch` gives each chunk to one of them at a time, replaces those that died, has the
images found that kill (see `jobs.engines.quarantine`), and reports each chunk exactly once. It
gives up only when no worker lives long enough to be of use.
"""

from __future__ import annotations

import logging
from collections import Counter, deque
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Protocol

from handler.values.errors import VeaError
from jobs.engines.quarantine import Inquest, WorkersDie
from jobs.engines.signals import StopRequest
from jobs.values.tasks import OnImages, OnPoison

if TYPE_CHECKING:
    # Workers' processes import this too, and should not wait for torch before they listen.
    from jobs.values.tasks import PartReport, Task


_FALSE_STARTS = 3
_FRUITLESS = 20  # deaths in a row, for each hand; one poisoned image in a chunk of 1,000 costs 14
_LOG = logging.getLogger(__name__)


class WorkerFailed(VeaError):
    """A worker says that the job cannot be done; the message is its own line."""


@dataclass(frozen=True)
class Ready:
    """A hand has loaded the model."""

    hand: int


@dataclass(frozen=True)
class Images:
    """A hand is through with some images of its task."""

    hand: int
    count: int
    failed: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Finished:
    """A hand is through with its task; it can have another."""

    hand: int
    report: PartReport


@dataclass(frozen=True)
class Failed:
    """A hand met an error that every other would meet too."""

    hand: int
    message: str


@dataclass(frozen=True)
class Died:
    """A hand is no more; nothing else will be heard of it.

    Attributes:
        hand: which.
        words: how it died.
        begun: whether it may have begun its task, so that the task may be what killed it.
    """

    hand: int
    words: str
    begun: bool = True


Event = Ready | Images | Finished | Failed | Died


class Hands(Protocol):
    """Workers that can die; known by numbers, of which none is used twice."""

    def most(self) -> int:
        """How many there can be now, at least 1."""

    def start(self) -> int:
        """Start one more; `Ready` or `Died` will be heard of it."""

    def give(self, hand: int, task: Task) -> None:
        """Give a task to one that has none; if it is dead, `Died` will be heard of it."""

    def wait(self, stop: StopRequest, timeout: float | None) -> Sequence[Event]:
        """What happened; waits for something, for a signal, or for so many seconds."""

    def close(self) -> None:
        """Kill all and forget them."""


def dispatch(
    hands: Hands,
    todo: Iterator[Task],
    *,
    on_images: OnImages,
    on_poison: OnPoison,
    stop: StopRequest,
) -> Generator[PartReport]:
    """Have every task done; the hands are closed at the end, however it comes.

    Args:
        hands: not started yet.
        todo: whole chunks; asked for as they are needed.
        on_images: told of every image, as soon as its hand tells.
        on_poison: told of images that kill.
        stop: ends this early, with fewer reports.

    Raises:
        WorkerFailed: a hand says that the job cannot be done.
        WorkersDie: hands die faster than they work.
    """
    state = _Dispatch(hands, todo, on_images, on_poison)
    try:
        while state.supply(stop):
            for event in hands.wait(stop, stop.seconds_left()):
                if report := state.take(event):
                    yield report
    finally:
        hands.close()


class _Dispatch:
    """The state between two events."""

    def __init__(
        self, hands: Hands, todo: Iterator[Task], on_images: OnImages, on_poison: OnPoison
    ) -> None:
        self._hands = hands
        self._todo = todo
        self._on_images = on_images
        self._on_poison = on_poison
        self._queue: deque[Task] = deque()
        self._starting: set[int] = set()
        self._idle: list[int] = []
        self._busy: dict[int, Task] = {}
        # What each hand has told of its task so far.
        self._through: Counter[int] = Counter()
        self._failed: dict[int, Counter[str]] = {}
        self._inquests: dict[int, Inquest] = {}
        self._false_starts = 0
        self._fruitless = 0

    def supply(self, stop: StopRequest) -> bool:
        """Give out what there is to do; returns whether there is anything to wait for."""
        if stop.is_set():
            # Probes write nothing, so nobody needs to wait for them.
            under_way = any(task.probe is None for task in self._busy.values())
            return under_way and stop.seconds_left() != 0
        most = self._hands.most()
        # No more than can be given out at once: a list of millions stays where it is.
        wanted = most - len(self._busy) - len(self._queue)
        self._queue.extend(islice(self._todo, max(0, wanted)))
        while self._idle and self._queue:
            self._give(self._idle.pop(), self._queue.popleft())
        while len(self._starting) < len(self._queue) and self._alive < most:
            self._starting.add(self._hands.start())
        return bool(self._busy or self._queue)

    @property
    def _alive(self) -> int:
        return len(self._starting) + len(self._idle) + len(self._busy)

    def _give(self, hand: int, task: Task) -> None:
        self._busy[hand] = task
        self._hands.give(hand, task)

    def take(self, event: Event) -> PartReport | None:
        """Act on an event; returns the report of a chunk that is done."""
        match event:
            case Ready(hand):
                self._false_starts = 0
                self._starting.discard(hand)
                self._idle.append(hand)
            case Images(hand, count, failed):
                if self._busy[hand].probe is None:
                    self._through[hand] += count
                    self._failed.setdefault(hand, Counter()).update(failed)
                    self._on_images(count, failed)
            case Finished(hand, report):
                return self._finished(hand, report)
            case Failed(_, message):
                raise WorkerFailed(message)
            case Died(hand, words, begun):
                self._died(hand, words, begun)
        return None

    def _finished(self, hand: int, report: PartReport) -> PartReport | None:
        task = self._busy.pop(hand)
        count, failed = self._forget(hand)
        self._idle.append(hand)
        self._fruitless = 0
        if task.probe is not None:
            self._follow(task, self._inquests[task.chunk.index].survived())
            return None
        self._inquests.pop(task.chunk.index, None)
        # Not every kind of hand tells of single images.
        rest = Counter(report.reasons)
        rest.subtract(failed)
        if report.rows != count or any(rest.values()):
            self._on_images(report.rows - count, {reason: n for reason, n in rest.items() if n})
        return report

    def _died(self, hand: int, words: str, begun: bool) -> None:
        self._idle = [other for other in self._idle if other != hand]
        if hand in self._starting:
            self._starting.discard(hand)
            self._false_starts += 1
            if self._false_starts >= _FALSE_STARTS:
                raise WorkersDie(
                    f"{self._false_starts} workers in a row ended before they were ready: {words}"
                )
        task = self._busy.pop(hand, None)
        if task is None:
            return
        count, failed = self._forget(hand)
        if count:
            self._on_images(-count, {reason: -n for reason, n in failed.items()})
        self._fruitless += 1
        if self._fruitless > _FRUITLESS * self._hands.most():
            raise WorkersDie(f"{self._fruitless} workers in a row ended over their work: {words}")
        if not begun:
            self._queue.appendleft(task)
            return
        if task.probe is None:
            _LOG.warning("a worker ended over %s (%s); it is done again", task.chunk.id, words)
        inquest = self._inquests.setdefault(task.chunk.index, Inquest(task))
        self._follow(task, inquest.died(task, words))

    def _follow(self, task: Task, steps: Sequence[Task]) -> None:
        """Do these next."""
        for step in steps:
            if step.probe is None and step.skip != task.skip:
                self._on_poison(step.chunk, step.skip)
        self._queue.extendleft(reversed(steps))

    def _forget(self, hand: int) -> tuple[int, Counter[str]]:
        return self._through.pop(hand, 0), self._failed.pop(hand, Counter())
