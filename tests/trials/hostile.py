"""Hostile requests to a real TorchServe: no worker dies, all are answered, memory stays.

    python -m tests.trials.hostile              # all 500
    python -m tests.trials.hostile --count 150  # the crafted ones and some fuzz

Prints what came of them as JSON, and exits with 1 if a worker died, an answer is neither a
prediction nor a refusal with a reason, or one took longer than the limit.
"""

from __future__ import annotations

import argparse
import http.client
import itertools
import json
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from tests.trials.hostile_inputs import COUNT, Hostile, hostile_inputs
from tests.trials.serving_clients import real_photos, served
from vea.serving.server import TorchServe

LIMIT = 60.0  # seconds; TorchServe ends a worker that takes 120
GROWTH = 1_500_000_000  # bytes that a worker may keep, at most, after the largest pictures


@dataclass
class Outcome:
    """What became of them.

    Attributes:
        statuses: how many answers had which.
        wrong: of which requests the answer was not as it should be, and how.
        slowest: seconds, and which request.
        peak: bytes of the largest worker at its largest.
    """

    statuses: Counter[int] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    slowest: tuple[float, str] = (0.0, "")
    peak: int = 0


def attack(server: TorchServe, requests: Sequence[Hostile], *, clients: int = 4) -> Outcome:
    """Send all requests from a few clients, and look at every answer."""
    outcome = Outcome()
    numbers = itertools.count()
    lock = threading.Lock()
    done = threading.Event()

    def client() -> None:
        while (number := next(numbers)) < len(requests):
            request = requests[number]
            began = time.monotonic()
            status, body = send(server, request)
            seconds = time.monotonic() - began
            with lock:
                outcome.statuses[status] += 1
                outcome.slowest = max(outcome.slowest, (seconds, request.name))
                if not is_right(status, body):
                    outcome.wrong.append(f"{request.name}: {status} {body[:200]!r}")

    def watch() -> None:
        while not done.wait(0.2):
            outcome.peak = max([outcome.peak, *worker_memory(server).values()])

    watching = threading.Thread(target=watch)
    watching.start()
    threads = [threading.Thread(target=client) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    done.set()
    watching.join()
    return outcome


def send(server: TorchServe, request: Hostile) -> tuple[int, bytes]:
    """One request over a connection of its own."""
    connection = http.client.HTTPConnection("127.0.0.1", server.ports.inference, timeout=300)
    headers = {
        "Authorization": f"Bearer {server.client.token()}",
        "Content-Type": request.kind,
    }
    try:
        connection.request("POST", server.client.path, body=request.body, headers=headers)
        response = connection.getresponse()
        return response.status, response.read()
    except OSError as error:  # the front end hangs up on bodies that are too large
        return 0, repr(error).encode()
    finally:
        connection.close()


def is_right(status: int, body: bytes) -> bool:
    """A prediction, or a refusal that says why."""
    if status == 413 and not body:
        return True  # the front end's own, before it has read the body
    try:
        document = json.loads(body)
    except ValueError:
        return False
    if status == 200:
        return "emotion" in document or "predictions" in document
    # The front end's own refusals have a message, ours an error.
    reason = document.get("error", {}).get("reason") or document.get("message")
    return 400 <= status < 500 and bool(reason)


def worker_memory(server: TorchServe) -> dict[int, int]:
    """Resident bytes of each worker, by process number."""
    found = {}
    for process in server.processes():
        try:
            if any("model_service_worker" in word for word in process.cmdline()):
                found[process.pid] = process.memory_info().rss
        except psutil.Error:
            continue
    return found


def verdict(before: dict[int, int], after: dict[int, int], outcome: Outcome) -> list[str]:
    """What is not as it must be."""
    found = list(outcome.wrong)
    if before.keys() != after.keys():
        found.append(f"workers {sorted(before)} became {sorted(after)}")
    growth = max(after.values()) - max(before.values())
    if growth > GROWTH:
        found.append(f"a worker grew by {growth} bytes")
    if outcome.slowest[0] > LIMIT:
        found.append(f"{outcome.slowest[1]} took {outcome.slowest[0]:.0f} seconds")
    return found


def main() -> None:
    """Read the options, attack, report."""
    parser = argparse.ArgumentParser(description="Hostile requests to a real server.")
    parser.add_argument("--count", type=int, default=COUNT)
    parser.add_argument("--workers", type=int, default=2)
    given = parser.parse_args()
    requests = hostile_inputs(given.count)
    photo = real_photos(None)[0]
    with (
        tempfile.TemporaryDirectory(prefix="vea-hostile-") as folder,
        served(Path(folder, "server"), workers=given.workers, threads=1) as server,
    ):
        before = worker_memory(server)
        outcome = attack(server, requests)
        after = worker_memory(server)
        still = server.predict(photo)[0]
        problems = verdict(before, after, outcome)
        if still != 200:
            problems.append(f"a good photo then got {still}")
        log = server.directory.log.stat().st_size
    report: dict[str, Any] = {
        "requests": len(requests),
        "statuses": dict(sorted(outcome.statuses.items())),
        "slowest": {"seconds": round(outcome.slowest[0], 1), "request": outcome.slowest[1]},
        "worker_megabytes": {
            "before": round(max(before.values()) / 1e6),
            "peak": round(outcome.peak / 1e6),
            "after": round(max(after.values()) / 1e6),
        },
        "log_bytes": log,
        "problems": problems,
    }
    print(json.dumps(report, indent=2))
    sys.exit(bool(problems))


if __name__ == "__main__":
    main()
