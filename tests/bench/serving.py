"""TorchServe as `vea serve` starts it, asked by the client with 16 threads."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from handler.values.runtimes import AUTO, VARIABLE
from tests.bench.memory import add_processes
from tests.bench.meter import Clock, cpu_seconds, peak_mib
from tests.bench.plan import PREDICTOR
from tests.bench.results import Measurement
from vea.serving.server import TorchServe

TORCHSERVE, CLIENT = "TorchServe", "client of TorchServe"
_CLIENTS = 16


def measure_serving(
    model: Path, photos: Sequence[bytes], repeat: int, workers: int
) -> list[Measurement]:
    """CPU seconds of the server's processes, of the client, and of `Predictor` beside them.

    Args:
        model: Archive that is served.
        photos: Encoded photos of one repetition.
        repeat: Number of repetitions.
        workers: Number of the server's workers, with one thread each.
    """
    server_side = Measurement("serving", TORCHSERVE, workers, len(photos))
    client_side = Measurement("serving", CLIENT, workers, len(photos))
    alone = Measurement("serving", PREDICTOR, workers, workers * (len(photos) // 4))
    start = Measurement("start", "vea serve, to the first answer", workers, 1)
    runtime = os.environ.get(VARIABLE, AUTO)
    with tempfile.TemporaryDirectory(prefix="vea-bench-") as folder:
        began = time.monotonic()
        with TorchServe.running(
            model, Path(folder, "state"), workers=workers, runtime=runtime
        ) as server:
            start.wall.append(time.monotonic() - began)
            processes = server.processes()
            start.cpu.append(cpu_seconds(processes))
            with server.client.patient(concurrency=_CLIENTS) as client:
                for number in range(repeat + 1):
                    before = cpu_seconds(server.processes())
                    with Clock() as clock:
                        for answer in client.predict_many(photos):
                            if isinstance(answer, Exception):
                                raise SystemExit(f"the service refuses a photo: {answer}")
                    if number:  # the first time warms the workers
                        server_side.cpu.append(cpu_seconds(server.processes()) - before)
                        server_side.wall.append(clock.wall)
                        client_side.cpu.append(clock.cpu)
                        client_side.wall.append(clock.wall)
                        add_processes(alone, model, photos[: len(photos) // 4])
            server_side.peak_mib = max(peak_mib(one.pid) for one in server.processes())
    return [server_side, client_side, alone, start]
