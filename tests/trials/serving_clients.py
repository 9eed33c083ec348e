"""What the trials of serving share: servers with given settings, real photos, many clients."""

from __future__ import annotations

import http.client
import io
import itertools
import tarfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from tests.shipped import ARCHIVE, REPOSITORY
from train.package import default_serving, package
from vea.serving.server import TorchServe


def real_photos(packed: Path | None) -> list[bytes]:
    """The JPEG files in a tar file; without one, those that come with the program."""
    if packed is None:
        return [file.read_bytes() for file in sorted(REPOSITORY.glob("vea/photos/*.jpg"))]
    photos = []
    with tarfile.open(packed) as opened:
        for member in opened:
            content = opened.extractfile(member) if member.name.endswith(".jpg") else None
            if content is not None:
                photos.append(content.read())
    return photos


@contextmanager
def served(folder: Path, *, workers: int, threads: int, **settings: Any) -> Iterator[TorchServe]:
    """A server of the shipped model with today's code and these settings of TorchServe's."""
    serving = {
        **default_serving(),
        **settings,
        "minWorkers": workers,
        "maxWorkers": workers,
        "handler": {"threads": threads},
    }
    folder.mkdir(parents=True)
    archive = package(ARCHIVE, folder, name="vea-lite", version="1", card={}, serving=serving)
    with TorchServe.running(archive, folder / "state", workers=workers) as server:
        yield server


@dataclass
class Load:
    """What became of many requests.

    Attributes:
        clients: that asked at the same time, each one request after the other.
        seconds: that each answered request took.
        wall: from the first request to the last answer.
        cpu: seconds of the server's processes.
        front_end: those of them that TorchServe's own program took, which runs in Java.
        statuses: of all answers.
    """

    clients: int
    seconds: list[float] = field(default_factory=list)
    wall: float = 0.0
    cpu: float = 0.0
    front_end: float = 0.0
    statuses: list[int] = field(default_factory=list)

    @property
    def per_second(self) -> float:
        """Answered requests a second."""
        return len(self.seconds) / self.wall

    def percentile(self, share: float) -> float:
        """Seconds that this share of the requests took at most."""
        ranked = sorted(self.seconds)
        return ranked[min(int(share * len(ranked)), len(ranked) - 1)]


def put_load(server: TorchServe, photos: Sequence[bytes], *, clients: int, requests: int) -> Load:
    """So many clients that together send so many requests, over connections that stay open."""
    load = Load(clients)
    numbers = itertools.count()
    key = server.client.token()
    lock = threading.Lock()

    def client() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", server.ports.inference, timeout=300)
        headers = {
            "Authorization": f"Bearer {key}",
            "Content-Type": "application/octet-stream",
        }
        while (number := next(numbers)) < requests:
            began = time.perf_counter()
            connection.request(
                "POST", server.client.path, body=photos[number % len(photos)], headers=headers
            )
            response = connection.getresponse()
            response.read()
            with lock:
                load.seconds.append(time.perf_counter() - began)
                load.statuses.append(response.status)
        connection.close()

    front_end = [one for one in server.processes() if Path(one.exe()).name == "java"]
    before = cpu_seconds(server.processes()), cpu_seconds(front_end)
    began = time.perf_counter()
    threads = [threading.Thread(target=client) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    load.wall = time.perf_counter() - began
    load.cpu = cpu_seconds(server.processes()) - before[0]
    load.front_end = cpu_seconds(front_end) - before[1]
    return load


def cpu_seconds(processes: Sequence[psutil.Process]) -> float:
    """User and system time of processes, together."""
    return sum(sum(process.cpu_times()[:2]) for process in processes)


def metrics(server: TorchServe) -> dict[str, float]:
    """What Prometheus would read: the sum of each series over its labels."""
    connection = http.client.HTTPConnection("127.0.0.1", server.ports.metrics, timeout=30)
    connection.request("GET", "/metrics")
    text = connection.getresponse().read().decode()
    connection.close()
    values: dict[str, float] = {}
    for line in io.StringIO(text):
        if not line.startswith("#") and line.strip():
            name = line.partition("{")[0].split()[0]
            values[name] = values.get(name, 0.0) + float(line.split()[-1])
    return values


def table(heads: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Markdown."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(str(cell) for cell in line)} |" for line in lines)
