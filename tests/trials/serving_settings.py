"""Which settings serve this machine best: workers, threads, batch, delay.

    python -m tests.trials.serving_settings --photos photos.tar.gz

Starts one server after the other, sends real photos from 1, 8 and 32 clients, prints a markdown
table. With `--rounds` this is repeated, all settings in turns, and figures are medians. CPU is that
of the server's processes, front end and workers, and stays true on a machine that others use too;
the times do not. Where there is a GPU the question is how many workers should share it.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from pathlib import Path

from tests.trials.serving_clients import put_load, real_photos, served, table
from vea.serving.capacity import Capacity

REQUESTS = {1: 24, 8: 80, 32: 160}


def candidates(machine: Capacity) -> list[tuple[int, int, int, int]]:
    """Workers, threads, batch size, delay in milliseconds."""
    cores = machine.cores
    if machine.gpus:
        workers = sorted({1, max(cores // 4, 1), max(cores // 2, 1)})
        return [(n, max(cores // n, 1), batch, 10) for n in workers for batch in (4, 8)]
    half = max(cores // 2, 1)
    return [
        (1, cores, 8, 10),
        (cores, 1, 1, 10),
        (cores, 1, 4, 10),
        (cores, 1, 4, 2),
        (cores, 1, 8, 10),
        (cores, 1, 8, 50),
        (cores, cores, 8, 10),
        *([(half, 2, 8, 10)] if cores > 2 else []),
    ]


def measure(
    folder: Path, photos: list[bytes], candidate: tuple[int, int, int, int], share: float
) -> list[list[float]]:
    """For each number of clients: requests a second, p50, p99 and CPU of a request in ms."""
    workers, threads, batch, delay = candidate
    settings = {"batchSize": batch, "maxBatchDelay": delay}
    found = []
    with served(folder, workers=workers, threads=threads, **settings) as server:
        put_load(server, photos, clients=8, requests=16)  # the code's first run
        for clients, requests in REQUESTS.items():
            count = max(int(requests * share), clients)
            load = put_load(server, photos, clients=clients, requests=count)
            if set(load.statuses) != {200}:
                raise SystemExit(f"{candidate}: statuses {sorted(set(load.statuses))}")
            middle, late = load.percentile(0.5) * 1e3, load.percentile(0.99) * 1e3
            found.append([load.per_second, middle, late, load.cpu / count * 1e3])
    return found


def main() -> None:
    """Read the options and measure."""
    parser = argparse.ArgumentParser(description="Servers with different settings, side by side.")
    parser.add_argument("--photos", type=Path, help="tar file of JPEG photos")
    parser.add_argument("--share", type=float, default=1.0, help="of the requests")
    parser.add_argument("--rounds", type=int, default=1)
    given = parser.parse_args()
    photos = real_photos(given.photos)
    settings = candidates(Capacity.of_this_machine())
    found: dict[tuple[int, int, int, int], list[list[list[float]]]] = {one: [] for one in settings}
    for number in range(given.rounds):
        for one in settings:
            with tempfile.TemporaryDirectory(prefix="vea-settings-") as folder:
                found[one].append(measure(Path(folder, "server"), photos, one, given.share))
            print(number, one, found[one][-1], file=sys.stderr)
    rows = []
    for (workers, threads, batch, delay), rounds in found.items():
        row = [f"{workers} x {threads}", batch, delay]
        for loads in zip(*rounds, strict=True):
            speed, middle, late, cpu = map(statistics.median, zip(*loads, strict=True))
            row += [f"{speed:.1f}", f"{middle:.0f} / {late:.0f}", f"{cpu:.0f}"]
        rows.append(row)
    heads = ["workers x threads", "batch", "delay ms"]
    for clients in REQUESTS:
        heads += [f"{clients} clients: req/s", "p50 / p99 ms", "CPU ms/req"]
    print(table(heads, rows))


if __name__ == "__main__":
    main()
