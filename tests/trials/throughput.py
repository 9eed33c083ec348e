"""Photos a second: `vea score` beside the loop one would write, and beside Ray Data.

    python -m tests.trials.throughput --photos 400

All ways score the same photos on the same S3 server with the same archive, one way after the
other, several rounds; wall and CPU seconds are the medians of the rounds and the loading of the
model is part of them. `vea-2` is two processes, `vea-ray-2` two actors on a Ray that is started
with the command, `ray-data` Ray Data's `map_batches` with the same predictor. Ratios are to the
plain loop. What needs Ray is left out where it is not installed. `busy` is the share of the chunks'
time in which the model worked.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import boto3
import pandas
import psutil

from handler.predictor import Predictor
from handler.values.prediction import Refusal
from tests.shipped import ARCHIVE
from tests.trials.many_photos import BUCKET, many_photos, upload
from vea.demo.embedded_s3 import S3Server, embedded_s3

RESULTS = "results"


def plain_loop(keys: list[str], out: str) -> None:
    """One photo after the other: get, predict, append; a table at the end."""
    client = boto3.client("s3")
    predictor = Predictor.load(ARCHIVE)
    rows: list[dict[str, object]] = []
    for key in keys:
        bucket, _, name = key.removeprefix("s3://").partition("/")
        try:
            data = client.get_object(Bucket=bucket, Key=name)["Body"].read()
        except client.exceptions.NoSuchKey:
            rows.append({"image": key, "error": "missing"})
            continue
        answer = predictor.predict([data])[0]
        if isinstance(answer, Refusal):
            rows.append({"image": key, "error": answer.reason})
        else:
            rows.append({"image": key, "emotion": answer.emotion, **answer.probabilities})
    file = Path(tempfile.mkdtemp(), "rows.parquet")
    pandas.DataFrame(rows).to_parquet(file)
    boto3.client("s3").upload_file(str(file), RESULTS, f"{out}/rows.parquet")


def ray_data(keys: list[str], out: str) -> None:
    """`map_batches` with the same predictor in actors, as Ray's guide to inference has it."""
    import pyarrow.fs  # noqa: PLC0415
    import ray  # noqa: PLC0415

    class Score:
        def __init__(self) -> None:
            self.client = boto3.client("s3")
            self.predictor = Predictor.load(ARCHIVE)

        def __call__(self, batch: dict[str, Any]) -> dict[str, list[str]]:
            found = []
            for key in batch["item"]:
                bucket, _, name = key.removeprefix("s3://").partition("/")
                try:
                    found.append(self.client.get_object(Bucket=bucket, Key=name)["Body"].read())
                except self.client.exceptions.NoSuchKey:
                    found.append(b"")
            answers = self.predictor.predict(found)
            return {
                "image": list(batch["item"]),
                "emotion": [
                    "" if isinstance(answer, Refusal) else answer.emotion for answer in answers
                ],
            }

    ray.init(include_dashboard=False, log_to_driver=False)
    files = pyarrow.fs.S3FileSystem(
        endpoint_override=os.environ["AWS_ENDPOINT_URL_S3"],
        access_key=os.environ["AWS_ACCESS_KEY_ID"],
        secret_key=os.environ["AWS_SECRET_ACCESS_KEY"],
        region="us-east-1",
    )
    data = ray.data.from_items(keys, override_num_blocks=8)
    cores = os.cpu_count() or 1
    scored = data.map_batches(Score, batch_size=32, concurrency=cores, num_cpus=1)
    scored.write_parquet(f"{RESULTS}/{out}", filesystem=files)
    ray.shutdown()


def vea_score(way: str, out: str) -> None:
    """The command as it is; prints the share of time in which the model worked."""
    _, *ray, workers = way.split("-")
    done = subprocess.run(
        [
            *(sys.executable, "-m", "vea.main", "score", f"s3://{BUCKET}/list.txt"),
            *("--out", f"s3://{RESULTS}/{out}", "--model", str(ARCHIVE)),
            *("--workers", workers, "--chunk-size", "50", "--json"),
            *(("--ray", "auto") if ray else ()),
        ],
        check=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    print(json.loads(done.stdout)["busy_share"])


def measured(way: str, server: S3Server, out: str) -> dict[str, float]:
    """Wall and CPU seconds of one way, with its children, in a process of its own."""
    environment = {**os.environ, **server.environment, "RAY_USAGE_STATS_ENABLED": "0"}
    command = [sys.executable, "-m", "tests.trials.throughput", "--one", way, "--out", out]
    began = time.monotonic()
    tells = way.startswith("vea-")
    stdout = subprocess.PIPE if tells else subprocess.DEVNULL
    process = subprocess.Popen(command, env=environment, stdout=stdout, text=True)
    watched: dict[int, float] = {}
    while process.poll() is None:
        try:
            family = [psutil.Process(process.pid)]
            family += family[0].children(recursive=True)
            for one in family:
                times = one.cpu_times()
                watched[one.pid] = times.user + times.system
        except psutil.NoSuchProcess:
            pass
        time.sleep(0.2)
    if process.returncode:
        raise SystemExit(f"{way} failed with {process.returncode}")
    wall = time.monotonic() - began
    busy = float(process.communicate()[0].split()[-1]) if tells else math.nan
    return {"wall": wall, "cpu": sum(watched.values()), "busy": busy}


def run_one(way: str, out: str) -> None:
    """What a process of its own does."""
    client = boto3.client("s3")
    if way in ("plain", "ray-data"):
        listed = client.get_object(Bucket=BUCKET, Key="list.txt")["Body"].read().decode()
        (plain_loop if way == "plain" else ray_data)(listed.split("\n"), out)
    else:
        vea_score(way, out)


def main() -> None:
    """Read the options and measure."""
    parser = argparse.ArgumentParser(description="Photos a second, three ways.")
    parser.add_argument("--photos", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--out", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        run_one(given.one, given.out)
        return
    cores = os.cpu_count()
    ways = ["plain", "vea-1", f"vea-{cores}"]
    if find_spec("ray"):
        ways += ["vea-ray-1", f"vea-ray-{cores}", "ray-data"]
    with (
        tempfile.TemporaryDirectory(prefix="vea-throughput-") as folder,
        embedded_s3(Path(folder), buckets=[BUCKET, RESULTS]) as server,
    ):
        keys = upload(server, many_photos(given.photos, side=640))
        server.client().put_object(Bucket=BUCKET, Key="list.txt", Body="\n".join(keys).encode())
        rounds: dict[str, list[dict[str, float]]] = {way: [] for way in ways}
        for number in range(given.rounds):
            for way in ways:
                rounds[way].append(measured(way, server, f"{way}-{number}"))
                print(number, way, rounds[way][-1], file=sys.stderr)
    table = {}
    for way, runs in rounds.items():
        wall = statistics.median(run["wall"] for run in runs)
        cpu = statistics.median(run["cpu"] for run in runs)
        table[way] = {
            "seconds": round(wall, 1),
            "cpu_seconds": round(cpu, 1),
            "photos_per_second": round(given.photos / wall, 1),
        }
        if way.startswith("vea-"):
            table[way]["busy"] = round(statistics.median(run["busy"] for run in runs), 2)
    for row in table.values():
        row["times_the_plain_loop"] = round(table["plain"]["seconds"] / row["seconds"], 2)
    print(json.dumps({"photos": given.photos, "ways": table}, indent=2))


if __name__ == "__main__":
    main()
