"""Mixed traffic against a real server, for minutes, while versions switch and workers die.

    python -m tests.trials.serving_load --minutes 10

Good photos of several sizes and formats through the client, damaged ones, bodies just under and
over the limit, clients that send a byte now and then; a promotion and a rollback, and a worker
killed with SIGKILL every minute. Every answer is compared with the in-process predictor's of the
version that answered. Prints counts, latencies and memory as JSON; exit code 1 if an answer was
wrong, a good request was lost, a bad one was not refused with its reason, or memory grew.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import random
import signal
import socket
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from handler.client.errors import Refused
from handler.client.sync import Client
from handler.predictor import Predictor
from handler.values.errors import VeaError
from handler.values.limits import ImageLimits
from tests.other_versions import other_version
from tests.shipped import ARCHIVE
from tests.trials.load_photos import Expected, damaged, expected_answers, good_photos
from train.package import package
from vea.serving.management import Management
from vea.serving.server import TorchServe
from vea.serving.versions import Versions

_FLAT = 1.25  # the last third's memory may be that much of the first third's
_LONG = 300.0  # seconds; until then Java takes what it is given, and growth means nothing
_PATIENCE = 120.0  # seconds for a promoted version to answer
_SAMPLE = 1.0  # seconds between looks at the memory
_SLOW_BYTE = 0.5  # seconds between a slow client's bytes


@dataclass
class ProgressCounter:
    """What happened; every method may be called from any thread."""

    counts: Counter[str] = field(default_factory=Counter)
    latencies: list[float] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    versions: Counter[str] = field(default_factory=Counter)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, what: str) -> None:
        """Count something that is as it must be."""
        with self.lock:
            self.counts[what] += 1

    def answered(self, version: str, seconds: float) -> None:
        """Count a right answer to a good photo."""
        with self.lock:
            self.counts["good"] += 1
            self.versions[version] += 1
            self.latencies.append(seconds)

    def fault(self, what: str) -> None:
        """Note something that must not be."""
        with self.lock:
            self.wrong.append(what)


@dataclass
class Traffic:
    """Everybody who asks, until `stop` is set."""

    server: TorchServe
    expected: Expected
    tally: ProgressCounter
    stop: threading.Event
    dice: random.Random

    def good(self) -> None:
        """Photos through the client; each answer must be the right one of its version."""
        with self._client() as client:
            while not self.stop.is_set():
                name, photo = self.dice.choice(self.expected.photos)
                began = time.monotonic()
                try:
                    answer = client.predict(photo)
                except VeaError as error:
                    self.tally.fault(f"lost: {name}: {error}")
                    continue
                version = answer["model"]["version"]
                wrong = self.expected.difference(name, answer)
                if wrong:
                    self.tally.fault(f"wrong answer for {name} from {version}: {wrong}")
                else:
                    self.tally.answered(version, time.monotonic() - began)

    def corrupt(self) -> None:
        """What is no photo must be refused as such, with a reason."""
        with self._client() as client:
            while not self.stop.wait(0.2):
                name, data = self.dice.choice(damaged())
                self._must_refuse(client, name, data)

    def huge(self) -> None:
        """A photo just under the limit is answered, one just over it and a huge one are refused."""
        limit = ImageLimits().max_bytes
        name, photo = self.expected.photos[0]
        with self._client() as client:
            while not self.stop.wait(2.0):
                try:
                    answer = client.predict(photo.ljust(limit, b"\0"))
                    wrong = self.expected.difference(name, answer)
                except VeaError as error:
                    wrong = str(error)
                if wrong:
                    self.tally.fault(f"under the limit: {wrong}")
                else:
                    self.tally.add("under_the_limit")
                self._must_refuse(client, "over_the_limit", photo.ljust(limit + 1, b"\0"))
                self._must_refuse(client, "far_over_the_limit", photo.ljust(2 * limit, b"\0"))

    def slow(self) -> None:
        """Clients that send a byte now and then: they wait, nobody else does."""
        name, photo = min(self.expected.photos, key=lambda item: len(item[1]))
        while not self.stop.is_set():
            with suppress(OSError):  # this one may be cut off; the others must not notice
                self._trickle(name, photo)

    def _trickle(self, name: str, photo: bytes) -> None:
        head = (
            f"POST {self.server.client.path} HTTP/1.1\r\nHost: localhost\r\n"
            f"Authorization: Bearer {self.server.client.token()}\r\n"
            f"Content-Type: application/octet-stream\r\nContent-Length: {len(photo)}\r\n\r\n"
        )
        with socket.create_connection(("127.0.0.1", self.server.ports.inference), 120) as link:
            link.sendall(head.encode())
            for position in range(20):
                link.sendall(photo[position : position + 1])
                if self.stop.wait(_SLOW_BYTE):
                    return
            link.sendall(photo[20:])
            answer = http.client.HTTPResponse(link)
            answer.begin()
            body = answer.read()
        # No client retries for it: a worker's death may hit it, a wrong answer may not.
        if answer.status == 200:
            wrong = self.expected.difference(name, json.loads(body))
            if wrong:
                self.tally.fault(f"slow client: {wrong}")
            self.tally.add("slow")
        else:
            self.tally.add("slow_unanswered")

    def _must_refuse(self, client: Client, name: str, data: bytes) -> None:
        try:
            client.predict(data)
        except Refused as refusal:
            if 400 <= refusal.status < 500 and refusal.reason:
                self.tally.add(f"refused_{refusal.status}")
            else:
                self.tally.fault(f"{name} was refused strangely: {refusal}")
        except VeaError as error:
            self.tally.fault(f"{name} was not refused: {error}")
        else:
            self.tally.fault(f"{name} was answered as a photo")

    def _client(self) -> Client:
        return Client(
            f"http://127.0.0.1:{self.server.ports.inference}",
            model=self.server.model,
            key_file=self.server.directory.keys,
        )


@dataclass
class Memory:
    """Resident memory of the front end and of each version's workers, second by second."""

    server: TorchServe
    stop: threading.Event
    samples: list[tuple[float, int, int]] = field(default_factory=list)

    def watch(self) -> None:
        """Look until `stop` is set."""
        began = time.monotonic()
        while not self.stop.wait(_SAMPLE):
            front, workers = 0, []
            for process in self.server.processes():
                with suppress(psutil.Error):
                    size = process.memory_info().rss
                    if process.name() == "java":
                        front += size
                    elif size > 200e6:  # one that is still starting says nothing
                        workers.append(size)
            if front and workers:
                self.samples.append((time.monotonic() - began, front, max(workers)))

    def report(self) -> dict[str, dict[str, float]]:
        """First and last third: median MB of the front end, and of the largest worker."""
        third = max(1, len(self.samples) // 3)
        return {
            name: {
                "first_third_mb": _megabytes(self.samples[:third], column),
                "last_third_mb": _megabytes(self.samples[-third:], column),
            }
            for name, column in (("front_end", 1), ("largest_worker", 2))
        }


def trial(
    first: Path, second: Path, state: Path, *, seconds: float, kill_every: float, seed: int = 1
) -> dict[str, Any]:
    """All of it; see the module.

    Args:
        first: archive that the server starts with.
        second: archive of another version, which is promoted after a third of the time.
        state: folder of the server.
        seconds: of traffic.
        kill_every: seconds between two deaths of workers.
        seed: of what is asked.

    Returns:
        The report; all was well if ``faults`` is empty.
    """
    expected = expected_answers([Predictor.load(path) for path in (first, second)], good_photos())
    tally, stop = ProgressCounter(), threading.Event()
    with TorchServe.running(first, state) as server:
        traffic = Traffic(server, expected, tally, stop, random.Random(seed))
        memory = Memory(server, stop)
        asking = [*[traffic.good] * 3, traffic.corrupt, traffic.huge, traffic.slow]
        doing = (*asking, memory.watch, lambda: _kill(server, tally, stop, kill_every))
        threads = [threading.Thread(target=do) for do in doing]
        began = time.monotonic()
        for thread in threads:
            thread.start()
        try:
            _switch(server, second, tally, seconds)
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        lasted = time.monotonic() - began
    report = {
        "seconds": round(lasted, 1),
        "counts": dict(tally.counts),
        "versions": dict(tally.versions),
        "good_per_second": round(tally.counts["good"] / lasted, 2),
        "latency_ms": _percentiles(tally.latencies),
        "memory": memory.report(),
        "faults": tally.wrong,
    }
    _judge(report, tally)
    return report


def _switch(server: TorchServe, second: Path, tally: ProgressCounter, seconds: float) -> None:
    """Wait a third of the time, promote; wait another one, roll back; wait the last one."""
    versions = Versions(server)
    acts: tuple[tuple[str, Callable[[], object]], ...] = (
        ("promotions", lambda: versions.promote(second)),
        ("rollbacks", versions.rollback),
    )
    for what, act in acts:
        time.sleep(seconds / 3)
        try:
            act()
            tally.add(what)
        except VeaError as error:
            tally.fault(f"{what}: {error}")
        # A worker that was killed at the switch may be long in coming back on a busy machine.
        end = time.monotonic() + _PATIENCE
        while len(tally.versions) < 2 and time.monotonic() < end:
            time.sleep(0.1)
    time.sleep(seconds / 3)


def _kill(server: TorchServe, tally: ProgressCounter, stop: threading.Event, every: float) -> None:
    """Kill a worker of the default version now and then, also while versions switch."""
    management = Management(server.client, server.model)
    while not stop.wait(every):
        served = management.versions().values()
        pids = next(version.pids for version in served if version.default)
        if pids:
            with suppress(ProcessLookupError):
                os.kill(pids[0], signal.SIGKILL)
                tally.add("kills")


def _judge(report: dict[str, Any], tally: ProgressCounter) -> None:
    """Add to the faults what only the whole can tell."""
    faults: list[str] = report["faults"]
    for name, sizes in report["memory"].items():
        grew = sizes["last_third_mb"] > _FLAT * sizes["first_third_mb"]
        if grew and report["seconds"] >= _LONG:
            faults.append(f"the memory of {name} grew: {sizes}")
    for what in ("good", "kills", "promotions", "rollbacks", "under_the_limit", "refused_413"):
        if not tally.counts[what]:
            faults.append(f"nothing was tried of: {what}")
    if len(tally.versions) < 2:
        faults.append(f"only one version answered: {dict(tally.versions)}")


def _megabytes(samples: list[tuple[float, int, int]], column: int) -> float:
    return round(statistics.median(row[column] for row in samples) / 1e6, 1) if samples else 0.0


def _percentiles(latencies: list[float]) -> dict[str, float]:
    ordered = sorted(latencies)
    if not ordered:
        return {}
    return {
        name: round(1000 * ordered[min(len(ordered) - 1, int(len(ordered) * share))], 1)
        for name, share in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99), ("max", 1.0))
    }


def main() -> int:
    """Read the options and try."""
    parser = argparse.ArgumentParser(description="Mixed traffic, switches and kills.")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--kill-every", type=float, default=60.0, help="Seconds.")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="vea-load-") as folder:
        # The shipped model with today's code, and the same with another classifier's bias.
        first = package(ARCHIVE, Path(folder), name="vea-lite", version="1.0", card={})
        second = other_version(first, Path(folder, "vea-lite-2.0.mar"), version="2.0", shift=0.5)
        report = trial(
            first,
            second,
            Path(folder, "state"),
            seconds=60 * given.minutes,
            kill_every=given.kill_every,
            seed=given.seed,
        )
    print(json.dumps(report, indent=2))
    return 1 if report["faults"] else 0


if __name__ == "__main__":
    sys.exit(main())
