"""Which images of a chunk kill the process that works on them.

A damaged image can crash a decoder, and with it the whole process; no `except` catches that. Such
images are found from outside. A chunk that lost a worker is given to another one. After the second
loss its halves are probed, then the halves of those that kill, until single images are left. An
image that kills twice is poison: it gets a row that says so, and is not touched again. A single
death proves nothing, since machines are taken away and memory runs out.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from handler.values.errors import VeaError

if TYPE_CHECKING:
    from jobs.values.tasks import Task

_DEATHS = 2
_ROUNDS = 3
# No list has so many killers in succession and nothing else: the images are not the cause.
_SUSPICIOUS = 8


class WorkersDie(VeaError):
    """Processes die, and not because of an image; the message is one line for people."""


class CrashBisection:
    """Decides the next steps for one chunk that lost workers.

    Args:
        task: Task of the whole chunk.
    """

    def __init__(self, task: Task) -> None:
        self._task = task
        self._cause = ""
        self._deaths = 0
        self._rounds = 0
        self._open = 0
        self._killers: set[int] = set()
        self._killed_once: set[int] = set()

    def on_crash(self, task: Task, cause: str) -> list[Task]:
        """A worker died over ``task``: the whole chunk or a probe of it.

        Args:
            task: Task that the worker was working on.
            cause: Reason of the worker's death.

        Returns:
            What is to be done before the chunk can be done; nothing if other probes of it are
            still under way.

        Raises:
            WorkersDie: The chunk kills workers although none of its images does, or all of its
                images do.
        """
        self._cause = cause
        span = task.probe
        if span is None:
            self._deaths += 1
            return [task] if self._deaths < _DEATHS else self._begin()
        if len(span) > 1:
            halves = self._halves(span)
            self._open += len(halves) - 1
            return halves
        if span.start not in self._killed_once:
            self._killed_once.add(span.start)
            return [task]
        self._killers.add(span.start)
        return self.on_probe_ok()

    def on_probe_ok(self) -> list[Task]:
        """A probe is over; returns what is to be done next, as `on_crash` does.

        After the last probe this is the whole chunk, with what was found among its ``skip``.
        """
        self._open -= 1
        return [] if self._open else [self._conclude()]

    def _begin(self) -> list[Task]:
        chunk = self._task.chunk
        self._deaths = 0
        self._rounds += 1
        if self._rounds > _ROUNDS or not chunk.entries:
            raise WorkersDie(
                f"{chunk.id} ends every process that scores it, and none of its images does so "
                f"alone ({self._cause}): is there enough memory? Try fewer --workers"
            )
        self._killers, self._killed_once = set(), set()
        probes = self._halves(chunk.positions)
        self._open = len(probes)
        return probes

    def _halves(self, span: range) -> list[Task]:
        middle = span.start + len(span) // 2
        parts = (range(span.start, middle), range(middle, span.stop))
        return [replace(self._task, probe=part) for part in parts if part]

    def _conclude(self) -> Task:
        chunk = self._task.chunk
        if len(self._killers) == len(chunk.entries) >= _SUSPICIOUS:
            raise WorkersDie(
                f"each of the {len(chunk.entries)} images of {chunk.id} ends the process that "
                f"scores it ({self._cause}): look at the model and this machine, not at the images"
            )
        self._task = replace(self._task, skip=self._task.skip | self._killers)
        return self._task
