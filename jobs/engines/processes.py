"""An engine of several processes on this machine.

Each process loads the model itself and is spawned, not forked, because torch and boto3 have threads
that do not survive a fork. A process learns of Ctrl-C and SIGTERM from the driver only, and ends by
itself when the driver has ended for any reason. The end of its standard error is kept for the
message about its death.
"""

from __future__ import annotations

import faulthandler
import multiprocessing
import os
import signal
import threading
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import TYPE_CHECKING, Any

from handler.values.errors import VeaError
from jobs.engines.dispatch import Died, Event, Failed, Finished, Images, WorkerReady, dispatch
from jobs.engines.signals import SIGNALS, StopRequest
from jobs.values.tasks import OnImages, OnPoison

if TYPE_CHECKING:
    from multiprocessing.context import SpawnProcess

    from jobs.scoring.worker import Worker
    from jobs.values.tasks import PartReport, Task

_TAIL = 4096  # bytes of standard error that are kept


class Processes:
    """Worker processes on this machine.

    Args:
        count: Number of workers; fewer are started if there are fewer chunks.
    """

    def __init__(self, count: int) -> None:
        if count < 1:
            raise VeaError(f"{count} worker processes: expected at least 1")
        self._count = count

    def run(
        self,
        todo: Iterator[Task],
        worker: Worker,
        *,
        on_images: OnImages,
        on_poison: OnPoison,
        stop: StopRequest,
    ) -> Generator[PartReport]:
        """As `jobs.engines.base.Engine.run`."""
        pool = _Processes(self._count, worker)
        return dispatch(pool, todo, on_images=on_images, on_poison=on_poison, stop=stop)


@dataclass
class _WorkerProcess:
    """One process, as the driver sees it."""

    process: SpawnProcess
    pipe: Connection
    errors: Connection
    tail: bytes = b""
    hung_up: bool = False
    silent: bool = False

    def sources(self) -> list[Any]:
        """What to wait for."""
        pipes = [] if self.hung_up else [self.pipe]
        return [self.process.sentinel, *pipes, *([] if self.silent else [self.errors])]

    def messages(self) -> Iterator[Any]:
        """Messages of the process since the last call."""
        try:
            while not self.hung_up and self.pipe.poll():
                yield self.pipe.recv()
        except (EOFError, OSError):
            self.hung_up = True

    def listen(self) -> None:
        """Keep the end of its standard error."""
        while not self.silent and self.errors.poll():
            written = os.read(self.errors.fileno(), _TAIL)
            self.silent = not written
            self.tail = (self.tail + written)[-_TAIL:]

    def cause_of_death(self) -> str:
        """How it ended, in one line."""
        self.listen()
        code = self.process.exitcode
        if code is not None and code < 0:
            how = f"killed by {_signal_name(-code)}"
            how += ", as happens when memory runs out" if -code == signal.SIGKILL else ""
        else:
            how = f"ended with code {code}"
        lines = [line.strip() for line in self.tail.decode(errors="replace").splitlines()]
        fatal = [line for line in lines if line.startswith("Fatal Python error")]
        said = next(iter(fatal or [line for line in reversed(lines) if line]), "")
        return f"{how}: {said[:300]}" if said else how

    def close(self) -> None:
        """Kill it. Parts are written in one step, so none is left incomplete."""
        self.process.kill()
        self.process.join()
        self.process.close()
        self.pipe.close()
        self.errors.close()


class _Processes:
    """A `jobs.engines.dispatch.WorkerPool` of processes."""

    def __init__(self, count: int, worker: Worker) -> None:
        self._count = count
        self._worker = worker
        self._pool: dict[int, _WorkerProcess] = {}
        self._started = 0
        self._context = multiprocessing.get_context("spawn")

    def capacity(self) -> int:
        return self._count

    def start(self) -> int:
        number, self._started = self._started, self._started + 1
        ours, theirs = self._context.Pipe()
        errors, their_errors = self._context.Pipe(duplex=False)
        process = self._context.Process(
            target=_serve, args=(theirs, their_errors), name=f"vea-worker-{number}", daemon=True
        )
        # Until it ignores them, the signals that the driver gets must not end the process.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        try:
            process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        # With these open here, the end of the process's own would not be noticed.
        theirs.close()
        their_errors.close()
        self._pool[number] = _WorkerProcess(process, ours, errors)
        self._send(number, self._worker)
        return number

    def assign(self, worker_id: int, task: Task) -> None:
        self._send(worker_id, task)

    def wait(self, stop: StopRequest, timeout: float | None) -> list[Event]:
        sources = [source for worker in self._pool.values() for source in worker.sources()]
        ready = set(wait([stop.fileno(), *sources], timeout))
        stop.drain()
        events: list[Event] = []
        for number, worker in list(self._pool.items()):
            if not ready.isdisjoint(worker.sources()):
                events += self._hear(number, worker, dead=worker.process.sentinel in ready)
        return events

    def close(self) -> None:
        for worker in self._pool.values():
            worker.close()
        self._pool.clear()

    def _send(self, worker_id: int, message: object) -> None:
        try:
            self._pool[worker_id].pipe.send(message)
        except OSError:
            # It is dead, which its sentinel will show.
            self._pool[worker_id].hung_up = True

    def _hear(self, number: int, worker: _WorkerProcess, *, dead: bool) -> Iterator[Event]:
        worker.listen()
        for kind, *values in worker.messages():
            yield kind(number, *values)
        if dead:
            worker.process.join()
            yield Died(number, worker.cause_of_death())
            del self._pool[number]
            worker.close()


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _serve(pipe: Connection, errors: Connection) -> None:
    """The main function of a process: receives the worker through the pipe, then tasks."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    # Standard output belongs to the driver, whose user may have asked for JSON.
    os.dup2(errors.fileno(), 1)
    os.dup2(errors.fileno(), 2)
    errors.close()
    faulthandler.enable()
    threading.Thread(target=_end_with_the_driver, daemon=True).start()
    lock = threading.Lock()

    def say(kind: type[Event], *values: object) -> None:
        with lock:
            pipe.send((kind, *values))

    def tell(count: int, failed: Mapping[str, int]) -> None:
        say(Images, count, dict(failed))

    try:
        worker = pipe.recv()
        with worker.start(tell) as work:
            say(WorkerReady)
            while True:
                say(Finished, work(pipe.recv()))
    except VeaError as error:
        say(Failed, str(error))
    except Exception as error:
        say(Failed, f"{type(error).__name__}: {' '.join(str(error).split())[:300]}")


def _end_with_the_driver() -> None:
    driver = multiprocessing.parent_process()
    if driver is not None:
        wait([driver.sentinel])
        os._exit(1)
