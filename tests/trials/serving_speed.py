"""What dynamic batching gains over one by one, and what TorchServe itself costs.

    python -m tests.trials.serving_speed --photos photos.tar.gz

The same archive twice in one run: batches of 1 with one client at a time, and the settings of the
package with 32 clients. Of a request's time, as its client sees it, the queue (by TorchServe's own
count) and the handler (by the handler's) are told apart; what is left is TorchServe's own. Of the
handler's time, what is neither decoding nor stimuli nor networks is its overhead: answers and their
JSON. Of the CPU time, the front end's is that of TorchServe's own process.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

from tests.trials.serving_clients import Load, metrics, put_load, real_photos, served, table
from vea.serving.capacity import Capacity


def measured(
    folder: Path, photos: list[bytes], *, clients: int, requests: int, **settings: Any
) -> tuple[Load, dict[str, float]]:
    """A load, and milliseconds of a request by where they went."""
    with served(folder, **settings) as server:
        put_load(server, photos, clients=clients, requests=max(clients, 8))
        before = metrics(server)
        load = put_load(server, photos, clients=clients, requests=requests)
        after = metrics(server)

    def gained(name: str) -> float:
        return after.get(name, 0.0) - before.get(name, 0.0)

    batches = gained("vea_whole_seconds_count")
    whole, *parts = (
        gained(f"vea_{stage}_seconds_sum") / batches * 1e3
        for stage in ("whole", "decode", "select", "network", "recheck")
    )
    request = sum(load.seconds) / len(load.seconds) * 1e3
    queue = gained("ts_queue_latency_microseconds") / requests / 1e3
    where = {
        "request": request,
        "queue": queue,
        "handler": whole,
        "overhead": whole - sum(parts),
        "rest": request - queue - whole,
        "batch": gained("vea_batch_size_sum") / gained("vea_batch_size_count"),
    }
    return load, where


def main() -> None:
    """Read the options and measure."""
    parser = argparse.ArgumentParser(description="One by one against dynamic batches.")
    parser.add_argument("--photos", type=Path, help="tar file of JPEG photos")
    parser.add_argument("--requests", type=int, default=200)
    given = parser.parse_args()
    photos = real_photos(given.photos)
    capacity = Capacity.of_this_machine()
    workers = capacity.workers()
    ways: dict[str, dict[str, Any]] = {
        "one by one": {"clients": 1, "workers": 1, "threads": capacity.cores, "batchSize": 1},
        "one client": {"clients": 1, "workers": workers, "threads": capacity.threads(workers)},
        "32 clients": {"clients": 32, "workers": workers, "threads": capacity.threads(workers)},
    }
    rows = []
    speeds = {}
    with tempfile.TemporaryDirectory(prefix="vea-speed-") as folder:
        for number, (way, settings) in enumerate(ways.items()):
            requests = given.requests if settings["clients"] > 1 else given.requests // 3
            load, where = measured(Path(folder, str(number)), photos, requests=requests, **settings)
            speeds[way] = load.per_second
            rows.append(
                [
                    *(way, f"{load.per_second:.1f}", f"{load.cpu / requests * 1e3:.1f}"),
                    f"{load.front_end / requests * 1e3:.1f} ({load.front_end / load.cpu:.1%})",
                    *(f"{where[part]:.1f}" for part in ("batch", "request", "queue", "handler")),
                    f"{where['overhead']:.1f}",
                    f"{where['rest']:.1f} ({where['rest'] / where['request']:.1%})",
                ]
            )
    heads = ["", "req/s", "CPU ms/req", "front end's CPU", "batch", "request ms", "queue ms"]
    heads += ["handler ms", "overhead ms", "rest ms"]
    print(table(heads, rows))
    print(f"\ndynamic batches, 32 clients: {speeds['32 clients'] / speeds['one by one']:.2f} times")


if __name__ == "__main__":
    main()
