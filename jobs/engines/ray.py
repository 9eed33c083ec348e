"""An engine on a Ray cluster: one actor for each worker, on any of its machines.

Ray places the actors and reports when one is lost. `jobs.engines.dispatch` does everything else:
Ray's own restarts and retries are switched off, because they have no limit and would repeat an
image that kills for ever. A lost machine is a few lost actors; new ones are requested, and start
when there is room again. The machines need this package, the archive at the same path, and their
own access to S3.
"""

from __future__ import annotations

import math
import os
import pickle
import re
import signal
import socket
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, chdir, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from handler.values.errors import VeaError
from jobs.engines.dispatch import Died, Event, Failed, Finished, WorkerReady, dispatch
from jobs.engines.signals import SIGNALS, StopRequest
from jobs.values.tasks import OnImages, OnPoison

if TYPE_CHECKING:
    from jobs.scoring.worker import Worker
    from jobs.values.tasks import PartReport, Task

_PROGRAM = Path(__file__).resolve().parents[2]  # the folder that holds this package
_LOOK = 1.0  # seconds between two checks for signals and for new machines
_PATIENCE = 10.0  # seconds for a cluster to answer
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_LOOPBACK = ("127.", "localhost:", "[::1]:")


class OnRay:
    """Actors on a Ray cluster, as many as it has room for.

    Args:
        address: Address of the cluster: ``host:port``, ``ray://…``, or ``auto`` for the cluster
            that this machine belongs to, or this machine alone if it belongs to none.
        workers: Maximum number of actors; by default as many as the cluster has room for.
        gpus_per_worker: Number of GPUs that each actor takes; may be a fraction.
    """

    def __init__(
        self, address: str = "auto", *, workers: int | None = None, gpus_per_worker: float = 0.0
    ) -> None:
        if workers is not None and workers < 1:
            raise VeaError(f"{workers} workers on Ray: expected at least 1")
        self._address = address
        self._workers = workers
        self._gpus = gpus_per_worker

    def run(
        self,
        todo: Iterator[Task],
        worker: Worker,
        *,
        on_images: OnImages,
        on_poison: OnPoison,
        stop: StopRequest,
    ) -> Generator[PartReport]:
        """As `jobs.engines.base.Engine.run`; images are reported by whole chunks."""
        with _connected(self._address) as ray:
            pool = _Actors(ray, worker, max_workers=self._workers, gpus=self._gpus)
            yield from dispatch(pool, todo, on_images=on_images, on_poison=on_poison, stop=stop)


@contextmanager
def _connected(address: str) -> Iterator[Any]:
    """The module ``ray``, connected; a connection that was there before stays."""
    with _own_signals():
        found = _find(address)
        # Ray reads these when it is imported. It must not send usage statistics, and a cluster on
        # this machine alone must not listen on the network.
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        if found is None or found.startswith(_LOOPBACK):
            os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
        try:
            import ray  # noqa: PLC0415 - an extra
        except ModuleNotFoundError as error:
            if error.name != "ray":
                raise
            raise VeaError("Ray is missing: pip install 'vea[ray]'") from None
        ours = not ray.is_initialized()
        if ours:
            _connect(ray, found)
    try:
        yield ray
    finally:
        if ours:
            ray.shutdown()


def _find(address: str) -> str | None:
    """The address of a running cluster, or None for this machine alone.

    Ray itself would try for many minutes to reach one that does not run.
    """
    if address != "auto":
        if not _answers(address):
            raise VeaError(
                f"there is no Ray cluster at {address}: expected the address that "
                "`ray start --head` gave, or auto"
            )
        return address
    if named := os.environ.get("RAY_ADDRESS"):
        return _find(named)
    folder = os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or "/tmp"
    try:
        # `ray start` leaves this on every machine of a cluster.
        noted = Path(folder, "ray", "ray_current_cluster").read_text().strip()
    except OSError:
        return None
    return noted if _answers(noted) else None


def _answers(address: str) -> bool:
    host, _, port = address.rpartition("://")[2].rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=_PATIENCE):
            return True
    except (OSError, ValueError, OverflowError):
        return False


def _connect(ray: Any, address: str | None) -> None:
    quiet = {"log_to_driver": False, "logging_level": "ERROR"}
    # Ray puts the folder that it is started in before all others that its workers import from: a
    # `jobs.py` of the user's would stand in the place of this package.
    with chdir(_PROGRAM):
        if address is None:
            ray.init(address="local", include_dashboard=False, **quiet)
            return
        _join(ray, address, quiet)


def _join(ray: Any, address: str, quiet: dict[str, Any]) -> None:
    try:
        ray.init(address=address, **quiet)
    except (ConnectionError, RuntimeError, ValueError) as error:
        line = " ".join(str(error).split())[:300]
        raise VeaError(f"the Ray cluster at {address} cannot be used: {line}") from None


@contextmanager
def _own_signals() -> Iterator[None]:
    """Keep the signal handlers, which Ray replaces by its own."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Actor:
    """The actor on the cluster. It returns errors; an exception means that the actor is lost."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._work: Callable[[Task], PartReport]

    def load(self, packed: bytes) -> Any:
        """Load the model; gives the line of an error, or nothing."""

        def start() -> None:
            # Unpickled here, where a missing module is an error like any other.
            worker: Worker = pickle.loads(packed)
            self._work = self._stack.enter_context(worker.start(None))

        return _answer(start)

    def live(self) -> None:
        """Show that the actor is alive."""

    def score(self, task: Task) -> Any:
        """Give the report of a task, or the line of an error."""
        return _answer(lambda: self._work(task))


def _answer(action: Callable[[], object]) -> object:
    try:
        return action()
    except VeaError as error:
        return str(error)
    except Exception as error:
        return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"


class _Actors:
    """A `jobs.engines.dispatch.WorkerPool` of Ray actors."""

    def __init__(self, ray: Any, worker: Worker, *, max_workers: int | None, gpus: float) -> None:
        self._ray = ray
        self._max_workers = max_workers
        self._need = {"CPU": float(worker.job.threads), **({"GPU": gpus} if gpus else {})}
        self._class = ray.remote(_Actor).options(
            num_cpus=self._need["CPU"],
            num_gpus=gpus,
            max_restarts=0,
            max_task_retries=0,
        )
        self._worker = ray.put(pickle.dumps(worker))
        self._actors: dict[int, Any] = {}
        self._waiting: dict[Any, int] = {}
        self._loading: set[int] = set()
        self._given: dict[int, Task] = {}
        self._started = 0
        self._room = 1
        self._looked = -math.inf

    def capacity(self) -> int:
        """The requested number, or what the machines of the cluster have room for now."""
        if self._max_workers is not None:
            return self._max_workers
        if time.monotonic() - self._looked >= _LOOK:
            self._looked = time.monotonic()
            there = self._ray.cluster_resources()
            self._room = max(1, min(int(there.get(k, 0.0) / n) for k, n in self._need.items()))
        return self._room

    def start(self) -> int:
        number, self._started = self._started, self._started + 1
        actor = self._actors[number] = self._class.remote()
        self._waiting[actor.load.remote(self._worker)] = number
        self._loading.add(number)
        return number

    def assign(self, worker_id: int, task: Task) -> None:
        # A lost machine takes idle actors with it, which is noticed only when they are called. It
        # must not look as if the task had killed one after the other.
        self._given[worker_id] = task
        self._waiting[self._actors[worker_id].live.remote()] = worker_id

    def wait(self, stop: StopRequest, timeout: float | None) -> list[Event]:
        timeout = _LOOK if timeout is None else min(timeout, _LOOK)
        refs = list(self._waiting)
        ready, _ = self._ray.wait(refs, num_returns=1, timeout=timeout)
        stop.drain()
        return [event for ref in ready for event in self._events(ref)]

    def close(self) -> None:
        for actor in self._actors.values():
            self._ray.kill(actor, no_restart=True)
        self._actors.clear()
        self._waiting.clear()

    def _events(self, ref: Any) -> Iterator[Event]:
        worker_id = self._waiting.pop(ref)
        try:
            answer = self._ray.get(ref)
        except self._ray.exceptions.RayError as error:
            # Perhaps only the connection to it is lost.
            self._ray.kill(self._actors.pop(worker_id), no_restart=True)
            begun = self._given.pop(worker_id, None) is None
            yield Died(worker_id, _last_words(error), begun)
            return
        if isinstance(answer, str):
            yield Failed(worker_id, answer)
        elif worker_id in self._loading:
            self._loading.discard(worker_id)
            yield WorkerReady(worker_id)
        elif worker_id in self._given:
            task = self._given.pop(worker_id)
            self._waiting[self._actors[worker_id].score.remote(task)] = worker_id
        else:
            yield Finished(worker_id, answer)


def _last_words(error: Exception) -> str:
    """The cause of an actor's death, in one line: Ray's report ends with it."""
    return " ".join(_COLOURS.sub("", str(error)).split())[-300:]
