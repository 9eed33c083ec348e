"""A night full of `kill -9`: drivers and workers die at random, and no row may be lost or doubled.

    python -m tests.trials.kills --photos 2000 --kills 50
    python -m tests.trials.kills --photos 1000 --kills 12 --ray
    python -m tests.trials.kills --photos 1000 --kills 12 --since

Photos lie on a real S3 server, the model is the shipped one with the compiled form that it carries
(`--runtime torch` takes its weights instead), every start is `vea score` as a user types it. One
undisturbed run of two processes comes first; then the same job is started, killed and started
again, into one folder after another, until there were enough kills. Each finished folder must hold
the same bytes as the undisturbed one, and name the same runtime. With `--ray` the disturbed runs
work on a Ray cluster of two nodes, and among what is killed is a whole node now and then. With
`--since`, 60 % of the photos were scored the night before, a third of the rows name a photo again,
and all runs take `--once --since`. Prints the counts as JSON; exit code 1 if anything differs.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import psutil
import pyarrow.parquet as pq

from handler.values.runtimes import ONNX, TORCH
from tests.shipped import ARCHIVE
from tests.trials.many_photos import BUCKET, data_files, many_photos, upload
from vea.demo.embedded_s3 import S3Server, embedded_s3

RESULTS = "results"
GAVE_UP = -1000
"""No exit code: the job ended since its workers were killed before they were ready."""


def score(
    server: S3Server, out: str, options: list[str], listed: str = "list.txt"
) -> subprocess.Popen[bytes]:
    """Start `vea score` on the list of all photos."""
    command = [
        *(sys.executable, "-m", "vea.main", "score", f"s3://{BUCKET}/{listed}"),
        *("--out", out, "--model", str(ARCHIVE), *options),
    ]
    return subprocess.Popen(
        command,
        env={**os.environ, **server.environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )


def finish(process: subprocess.Popen[bytes]) -> int:
    """Wait for the end; what it said goes to our own stderr if it failed by itself.

    Returns:
        The exit code; `GAVE_UP` where three workers in a row were killed while they started.
    """
    _, said = process.communicate()
    if process.returncode == 1 and b"workers in a row ended before they were ready" in said:
        return GAVE_UP
    if process.returncode > 0:
        sys.stderr.write(said.decode(errors="replace")[-2000:])
    return process.returncode


class Processes:
    """What can be killed where `vea score` starts processes: its own, and theirs.

    Args:
        latest: seconds after a start, or after another kill, in which something dies: while the
            model loads, in a chunk, between chunks.
    """

    latest = 12.0
    options: tuple[str, ...] = ("--workers", "2")

    def kill(self, process: subprocess.Popen[bytes], dice: random.Random) -> str | None:
        """Kill the driver or one of its workers; None if it has ended before."""
        try:
            workers = self.workers(psutil.Process(process.pid))
            if process.poll() is not None:
                return None
            if workers and dice.random() < 0.5:
                dice.choice(workers).send_signal(signal.SIGKILL)
                return "worker"
            process.kill()
        except psutil.NoSuchProcess:
            return None
        return "driver"

    def workers(self, driver: psutil.Process) -> list[psutil.Process]:
        """Those that score."""
        # Python's resource tracker is a child too, and nobody would miss it.
        children = driver.children(recursive=True)
        return [one for one in children if "resource_tracker" not in " ".join(one.cmdline())]


class RayNodes(Processes):
    """What can be killed on a cluster of two nodes: also a node, which is replaced by another."""

    latest = 25.0

    def __init__(self) -> None:
        from ray.cluster_utils import Cluster  # noqa: PLC0415 - an extra

        head = {"num_cpus": 0, "include_dashboard": False, "node_ip_address": "127.0.0.1"}
        self._cluster = Cluster(initialize_head=True, head_node_args=head)
        self._nodes = [self._add() for _ in range(2)]
        self.options = ("--ray", self._cluster.address)

    def _add(self) -> Any:
        return self._cluster.add_node(num_cpus=1, node_ip_address="127.0.0.1")

    def kill(self, process: subprocess.Popen[bytes], dice: random.Random) -> str | None:
        """Kill the driver, an actor or a node; None if the driver has ended before."""
        if dice.random() < 0.25 and process.poll() is None:
            lost = self._nodes.pop(dice.randrange(len(self._nodes)))
            self._cluster.remove_node(lost, allow_graceful=False)
            self._nodes.append(self._add())
            return "node"
        return super().kill(process, dice)

    def workers(self, driver: psutil.Process) -> list[psutil.Process]:
        """The actors, wherever they are."""
        found = psutil.process_iter(["cmdline"])
        return [one for one in found if "ray::_Actor" in " ".join(one.info["cmdline"] or ())]

    def close(self) -> None:
        """End the cluster."""
        self._cluster.shutdown()


def runtime_of(client: Any, folder: str) -> str:
    """The runtime that the manifest of a finished run names."""
    found = client.get_object(Bucket=RESULTS, Key=f"{folder}/_manifest.json")
    runtime: str = json.loads(found["Body"].read())["model"]["runtime"]
    return runtime


def rows_of(files: dict[str, bytes]) -> dict[str, Any]:
    """How many rows there are, and how many positions of the list they stand for."""
    positions: list[int] = []
    for data in files.values():
        positions += pq.read_table(io.BytesIO(data), columns=["position"])["position"].to_pylist()
    return {"rows": len(positions), "positions": len(set(positions))}


def trial(
    server: S3Server,
    victims: Processes,
    given: Sequence[str],
    *,
    photos: int,
    kills: int,
    seed: int,
    since: bool,
) -> bool:
    """All of it, with the given options; prints what happened and says whether all was well."""
    plain, options = [*given, *Processes.options], [*given, *victims.options]
    dice = random.Random(seed)
    client = server.client()
    listed = upload(server, many_photos(photos))
    if since:
        known = "\n".join(listed[: photos * 6 // 10])
        client.put_object(Bucket=BUCKET, Key="known.txt", Body=known.encode())
        before = f"s3://{RESULTS}/before"
        if finish(score(server, before, plain, "known.txt")) != 0:
            return False
        plain += ["--once", "--since", before]
        options += ["--once", "--since", before]
        listed += listed[: photos // 2]
    client.put_object(Bucket=BUCKET, Key="list.txt", Body="\n".join(listed).encode())
    began = time.monotonic()
    if finish(score(server, f"s3://{RESULTS}/undisturbed", plain)) != 0:
        return False
    alone = time.monotonic() - began
    expected = data_files(client, RESULTS, "undisturbed/")
    runtime = runtime_of(client, "undisturbed")
    # On a slow machine a start takes longer, and the kills should fall into its work too.
    latest = max(victims.latest, alone / 5)
    killed, starts, finished, wrong = Counter[str](), 0, 0, []
    gave_up = 0
    while killed.total() < kills:
        folder = f"killed-{finished}"
        process = score(server, f"s3://{RESULTS}/{folder}", options)
        starts += 1
        while process.poll() is None and killed.total() < kills:
            try:
                process.wait(dice.uniform(0.0, latest))
            except subprocess.TimeoutExpired:
                what = victims.kill(process, dice)
                killed.update([what] if what else [])
        if killed.total() == kills and process.poll() is None:
            process.wait()
        code = finish(process)
        gave_up += code == GAVE_UP
        if code in (-signal.SIGKILL, GAVE_UP) and killed.total() == kills:
            starts += 1
            code = finish(score(server, f"s3://{RESULTS}/{folder}", options))
        if code == 0:
            finished += 1
            if data_files(client, RESULTS, f"{folder}/") != expected:
                wrong.append(folder)
            if runtime_of(client, folder) != runtime:
                wrong.append(f"{folder}: another runtime")
        elif code not in (-signal.SIGKILL, GAVE_UP):
            wrong.append(f"{folder}: exit code {code}")
            break
    report = {
        "runtime": runtime,
        "photos": photos,
        **rows_of(expected),
        "kills": dict(killed),
        "starts": starts,
        "gave_up_after_three_kills_in_a_row": gave_up,
        "runs_finished_and_compared": finished,
        "different": wrong,
        "undisturbed_seconds": round(alone, 1),
        "seconds": round(time.monotonic() - began, 1),
    }
    print(json.dumps(report, indent=2))
    return not wrong and finished > 0 and report["rows"] == report["positions"] == len(listed)


def main() -> int:
    """Read the options and try."""
    parser = argparse.ArgumentParser(description="Kill -9 at random, then compare bytes.")
    parser.add_argument("--photos", type=int, default=2000)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--chunk-size", type=int, default=50)
    parser.add_argument("--runtime", choices=(ONNX, TORCH), default=ONNX)
    parser.add_argument("--ray", action="store_true", help="on two Ray nodes")
    parser.add_argument("--since", action="store_true", help="with most photos known")
    given = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="vea-kills-") as folder,
        embedded_s3(Path(folder), buckets=[BUCKET, RESULTS]) as server,
        ExitStack() as stack,
    ):
        victims = Processes()
        if given.ray:
            # Ray's machines reach S3 by themselves.
            os.environ.update(server.environment, RAY_USAGE_STATS_ENABLED="0")
            victims = stack.enter_context(closing(RayNodes()))
        well = trial(
            server,
            victims,
            ["--chunk-size", str(given.chunk_size), "--runtime", given.runtime],
            photos=given.photos,
            kills=given.kills,
            seed=given.seed,
            since=given.since,
        )
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main())
