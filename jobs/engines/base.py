"""Engines, which score chunks: in this process, in several, or on a Ray cluster.

An `Engine` gets the tasks and a `Worker` that can be pickled, starts the worker where it decides,
and returns one small report for each chunk. `InThisProcess` is the simplest one;
`jobs.engines.processes.Processes` and `jobs.engines.ray.OnRay` survive the death of workers.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING, Protocol

from jobs.engines.signals import Interrupted, StopRequest
from jobs.values.tasks import OnImages, OnPoison

if TYPE_CHECKING:
    from jobs.scoring.worker import Worker
    from jobs.values.tasks import PartReport, Task


class Engine(Protocol):
    """Runs tasks through started workers."""

    def run(
        self,
        todo: Iterator[Task],
        worker: Worker,
        *,
        on_images: OnImages,
        on_poison: OnPoison,
        stop: StopRequest,
    ) -> Generator[PartReport]:
        """Score every chunk of ``todo`` and write its part; reports may come in any order.

        Args:
            todo: Whole chunks; no more of them are taken than can be worked on.
            worker: Worker that is not started yet; it is not started at all if there is nothing to
                do.
            on_images: Called for images that are finished, always from this thread.
            on_poison: Called for images that kill workers, before their chunk is scored without
                them.
            stop: Event that ends the run early: no chunk begins after it is set, and none continues
                when its grace period is over.

        Raises:
            VeaError: The job cannot be done; the message is one line for people.
        """


class InThisProcess:
    """Scores one chunk after the other in this process. An image that kills it ends the job."""

    def run(
        self,
        todo: Iterator[Task],
        worker: Worker,
        *,
        on_images: OnImages,
        on_poison: OnPoison,
        stop: StopRequest,
    ) -> Generator[PartReport]:
        """As `Engine.run`; the grace period is checked between batches."""

        def tell(count: int, failed: Mapping[str, int]) -> None:
            on_images(count, failed)
            if stop.seconds_left() == 0:
                raise Interrupted

        with ExitStack() as stack:
            work: Callable[[Task], PartReport] | None = None
            for task in todo:
                if stop.is_set():
                    return
                work = work or stack.enter_context(worker.start(tell))
                try:
                    report = work(task)
                except Interrupted:
                    return
                yield report
