"""From a list on S3 to parquet on S3: the naive script, a plain loop, Ray Data, `vea score`.

Each way is a program of its own. It runs twice, on a short list and on a long one: the difference
is what the photos cost, and what the short list cost beyond its photos is the start.

    python -m tests.bench.jobs WAY LIST OUT --model ARCHIVE --workers 2     # one way alone
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from handler.values.prediction import Prediction
from handler.values.runtimes import TORCH
from tests.bench.meter import Usage, measured
from tests.bench.photos import BUCKET, RESULTS
from tests.bench.plan import PREDICTOR, Archives, Plan
from tests.bench.results import Measurement

NAIVE_JOB, PLAIN, RAY, SCORE = "naive job", "plain loop", "Ray Data", "vea score"
# One process with one thread: with more of them, a photo costs more CPU time.
LOOPS = (NAIVE_JOB, PLAIN)
_RAY_BATCH = 32


def ways() -> list[str]:
    """The ways that can run here; Ray Data is left out where Ray is not installed."""
    return [NAIVE_JOB, PLAIN, *([RAY] if find_spec("ray") else []), SCORE]


def measure_jobs(
    plan: Plan,
    lists: Mapping[int, str],
    archives: Archives,
    photos: Sequence[bytes],
    *,
    workers: Sequence[int],
    environment: Mapping[str, str],
) -> list[Measurement]:
    """Every way in turn, as often as the plan says.

    Args:
        plan: How much is measured.
        lists: Location of each list of the plan, by length.
        archives: Models that are compared.
        photos: Photos in memory, for `Predictor` alone.
        workers: Numbers of worker processes; Ray Data takes the largest alone.
        environment: Variables that name the S3 server.
    """
    from tests.bench.memory import add_processes  # noqa: PLC0415 - ways that need no torch

    short, loop, long = plan.short, plan.loop, plan.long
    cases = [(SCORE, count) for count in workers]
    cases += [(way, 1 if way in LOOPS else max(workers)) for way in ways() if way != SCORE]
    ends = {way: loop if way in LOOPS else long for way in ways()}
    found = {case: Measurement("jobs", *case, photos=ends[case[0]] - short) for case in cases}
    alone = [Measurement("jobs", PREDICTOR, n, n * len(photos)) for n in workers]
    for number in range(plan.fewer):
        for one in alone:
            add_processes(one, archives.model, photos)
        for (way, count), measurement in found.items():
            archive = archives.baseline if way in LOOPS else archives.model
            few, many = (
                run_way(way, lists[n], f"{way}-{count}-{number}-{n}", archive, count, environment)
                for n in (short, ends[way])
            )
            cpu = max(many.cpu - few.cpu, 0.0)
            measurement.cpu.append(cpu)
            measurement.wall.append(max(many.wall - few.wall, 0.0))
            measurement.start_cpu.append(max(few.cpu - cpu / measurement.photos * short, 0.0))
            measurement.peak_mib = max(measurement.peak_mib or 0.0, many.peak_mib)
            measurement.total_mib = max(measurement.total_mib or 0.0, many.total_mib)
    return [*alone, *found.values()]


def measure_list_lengths(
    lists: Mapping[int, str],
    model: Path,
    *,
    repeat: int,
    workers: int,
    environment: Mapping[str, str],
) -> list[Measurement]:
    """`vea score` from its start to its end, for each length of the list."""
    found = [Measurement("list", SCORE, workers, n, x=float(n)) for n in sorted(lists)]
    for number in range(repeat):
        for one in found:
            out = f"list-{number}-{one.photos}"
            usage = run_way(SCORE, lists[one.photos], out, model, workers, environment)
            one.cpu.append(usage.cpu)
            one.wall.append(usage.wall)
            one.peak_mib = max(one.peak_mib or 0.0, usage.peak_mib)
    return found


def run_way(
    way: str,
    image_list: str,
    out: str,
    model: Path,
    workers: int,
    environment: Mapping[str, str],
) -> Usage:
    """One way as a program of its own."""
    name = out.replace(" ", "-")
    if way == SCORE:
        command = [
            *(sys.executable, "-m", "vea", "score", image_list),
            *("--out", f"s3://{RESULTS}/{name}", "--model", str(model)),
            # As many chunks as keep all workers at work to the end.
            *("--workers", str(workers), "--chunk-size", "16"),
        ]
    else:
        command = [
            *(sys.executable, "-m", "tests.bench.jobs", way, image_list, name),
            *("--model", str(model), "--workers", str(workers)),
        ]
    fixed = {"OMP_NUM_THREADS": "1", "RAY_USAGE_STATS_ENABLED": "0"}
    return measured(command, {**environment, **fixed})


def _read_list(location: str) -> list[str]:
    import boto3  # noqa: PLC0415

    bucket, _, key = location.removeprefix("s3://").partition("/")
    body = boto3.client("s3").get_object(Bucket=bucket, Key=key)["Body"].read()
    return body.decode().splitlines()


def _loop(score: Callable[[bytes], dict[str, float]], photos: Sequence[str], out: str) -> None:
    """One photo after the other: get, predict, append; a table at the end."""
    import boto3  # noqa: PLC0415
    import pandas  # noqa: PLC0415

    client = boto3.client("s3")
    rows = []
    for photo in photos:
        key = photo.removeprefix(f"s3://{BUCKET}/")
        probabilities = score(client.get_object(Bucket=BUCKET, Key=key)["Body"].read())
        emotion = max(probabilities, key=probabilities.__getitem__)
        rows.append({"image": photo, "emotion": emotion, **probabilities})
    data = pandas.DataFrame(rows).to_parquet()
    client.put_object(Bucket=RESULTS, Key=f"{out}/rows.parquet", Body=data)


def _naive_job(photos: Sequence[str], out: str, model: Path, workers: int) -> None:
    from tests.bench.naive import NaiveScript  # noqa: PLC0415

    _loop(NaiveScript(model).predict, photos, out)


def _plain_loop(photos: Sequence[str], out: str, model: Path, workers: int) -> None:
    from handler.predictor import Predictor  # noqa: PLC0415

    predictor = Predictor.load(model, threads=workers, runtime=TORCH)

    def score(data: bytes) -> dict[str, float]:
        (answer,) = predictor.predict([data])
        assert isinstance(answer, Prediction)
        return answer.probabilities

    _loop(score, photos, out)


def _ray_data(photos: Sequence[str], out: str, model: Path, workers: int) -> None:
    """`map_batches` with `Predictor` in actors, as Ray's guide to batch inference has it."""
    import boto3  # noqa: PLC0415
    import pyarrow.fs  # noqa: PLC0415
    import ray  # noqa: PLC0415

    from tests.bench.memory import load_predictor  # noqa: PLC0415

    class Score:
        def __init__(self) -> None:
            self.client = boto3.client("s3")
            self.predictor = load_predictor(model, threads=1)

        def __call__(self, batch: dict[str, Any]) -> dict[str, list[Any]]:
            keys = [photo.removeprefix(f"s3://{BUCKET}/") for photo in batch["item"]]
            found = [self.client.get_object(Bucket=BUCKET, Key=key)["Body"].read() for key in keys]
            answers = self.predictor.predict(found)
            scored = [one for one in answers if isinstance(one, Prediction)]
            assert len(scored) == len(answers)
            columns = {"image": list(batch["item"]), "emotion": [one.emotion for one in scored]}
            for emotion in self.predictor.wheel.labels:
                columns[emotion] = [one.probabilities[emotion] for one in scored]
            return columns

    ray.init(include_dashboard=False, log_to_driver=False)
    files = pyarrow.fs.S3FileSystem(
        endpoint_override=os.environ["AWS_ENDPOINT_URL_S3"],
        access_key=os.environ["AWS_ACCESS_KEY_ID"],
        secret_key=os.environ["AWS_SECRET_ACCESS_KEY"],
        region="us-east-1",
    )
    data = ray.data.from_items(list(photos), override_num_blocks=max(len(photos) // 16, workers))
    scored = data.map_batches(Score, batch_size=_RAY_BATCH, concurrency=workers, num_cpus=1)
    scored.write_parquet(f"{RESULTS}/{out}", filesystem=files)
    ray.shutdown()


def main() -> None:
    """Run one way."""
    parser = argparse.ArgumentParser(description="Score a list in one way.")
    parser.add_argument("way", choices=[NAIVE_JOB, PLAIN, RAY])
    parser.add_argument("image_list")
    parser.add_argument("out")
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--workers", type=int, default=1)
    given = parser.parse_args()
    run = {NAIVE_JOB: _naive_job, PLAIN: _plain_loop, RAY: _ray_data}[given.way]
    run(_read_list(given.image_list), given.out, given.model, given.workers)


if __name__ == "__main__":
    main()
