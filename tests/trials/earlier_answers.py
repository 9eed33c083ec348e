"""Answers of millions of photos: how long a machine takes to read them, and how much memory.

    python -m tests.trials.earlier_answers --rows 3000000

The earlier runs are made up: every photo has a location on S3, an ETag and the digest of its bytes.
What is measured is what each machine does before it copies answers (`jobs.output.earlier_answers`)
and then for each photo, and also how the rows of a list of that length are numbered for `--once`.
Memory is what the process has for itself (RssAnon), sampled; files that are mapped come on top as
far as there is room, and give way to other programs.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import random
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from handler.values.emotions import MIKELS
from jobs.lists.distinct import find_distinct
from jobs.lists.image_list import open_list
from jobs.output import parquet
from jobs.output.consulted import Consulted, EarlierRun
from jobs.output.earlier_answers import open_earlier
from jobs.storage.stores import Stores

_PER_FILE = 500_000
_COLUMNS = parquet.schema(MIKELS.labels, extra=pa.schema([]), boxes=False, content_hash=True)


def location(number: int) -> str:
    """Location of a photo."""
    return f"s3://posts/{number % 997:03d}/{number:09d}.jpg"


def etag(number: int) -> str:
    """ETag of a photo."""
    return hashlib.md5(b"%d" % number, usedforsecurity=False).hexdigest()


def content(number: int) -> str:
    """Digest of a photo's bytes."""
    return hashlib.sha256(b"%d" % number).hexdigest()


def rows(first: int, count: int) -> pa.Table:
    """Rows of photos, as a run writes them."""
    numbers = range(first, first + count)
    values: dict[str, Any] = {
        "position": pa.array(numbers),
        "image": pa.array(map(location, numbers)),
        "etag": pa.array(map(etag, numbers)),
        "content_sha256": pa.array(map(content, numbers)),
        "status": pa.array(["ok"] * count),
        "emotion": pa.array(["awe"] * count),
        "polarity": pa.array(["positive"] * count),
    }
    dice = np.random.default_rng(first)
    for item in _COLUMNS:
        if item.name not in values and pa.types.is_floating(item.type):
            values[item.name] = pa.array(dice.random(count, np.float32))
        elif item.name not in values and pa.types.is_integer(item.type):
            values[item.name] = pa.array(dice.integers(0, 2000, count, np.int32))
        elif item.name not in values:
            values[item.name] = pa.array([None if item.nullable else "made up"] * count)
    return pa.table([values[item.name].cast(item.type) for item in _COLUMNS], schema=_COLUMNS)


def make_run(folder: Path, total: int) -> EarlierRun:
    """A finished run of so many photos."""
    files = []
    for number, first in enumerate(range(0, total, _PER_FILE)):
        buffer = io.BytesIO()
        table = rows(first, min(_PER_FILE, total - first))
        pq.write_table(table, buffer, **parquet.writer_options(_COLUMNS))
        name = f"images-{number:05d}.parquet"
        folder.joinpath(name).write_bytes(buffer.getvalue())
        files.append({"name": name, "sha256": hashlib.sha256(buffer.getvalue()).hexdigest()})
    manifest = json.dumps({"rows": total, "files": files, "settings": {"list_folder": None}})
    folder.joinpath("_manifest.json").write_text(manifest)
    return EarlierRun(str(folder), "earlier", hashlib.sha256(manifest.encode()).hexdigest())


def own_memory() -> float:
    """What the process has for itself, MiB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) / 1024
    return 0.0


@contextmanager
def measured(report: dict[str, Any], name: str) -> Iterator[None]:
    """Note the seconds that something takes, and the most memory that it takes for itself."""
    ended, most = threading.Event(), [before := own_memory()]

    def watch() -> None:
        while not ended.wait(0.02):
            most.append(own_memory())

    thread = threading.Thread(target=watch)
    thread.start()
    began = time.monotonic()
    try:
        yield
    finally:
        report[name] = {"seconds": round(time.monotonic() - began, 1)}
        ended.set()
        thread.join()
        report[name]["more_memory_mib"] = round(max(most) - before)


def main() -> None:
    """Make the runs, read them, ask for photos."""
    parser = argparse.ArgumentParser(description="Many earlier answers.")
    parser.add_argument("--rows", type=int, default=3_000_000)
    parser.add_argument("--lookups", type=int, default=20_000)
    given = parser.parse_args()
    report: dict[str, Any] = {"rows": given.rows}
    dice = random.Random(1)
    with tempfile.TemporaryDirectory(prefix="vea-earlier-") as place:
        tempfile.tempdir = place
        folder = Path(place, "dt=1")
        folder.mkdir()
        run = make_run(folder, given.rows)
        with measured(report, "read"):
            found = open_earlier(
                Consulted(place, (run,)), run_id="trial", columns=_COLUMNS, stores=Stores(threads=1)
            )
        kept = [path for path in Path(place).glob("vea-since-*/**/*") if path.is_file()]
        report["bytes_per_row"] = round(sum(path.stat().st_size for path in kept) / given.rows, 1)
        numbers = [dice.randrange(given.rows) for _ in range(given.lookups)]
        for name, find in (
            ("by_location", lambda n: found.at(location(n))),
            ("by_content", lambda n: found.with_content(content(n))),
        ):
            with measured(report, name):
                for number in numbers:
                    answer = find(number)
                    assert answer is not None
                    assert answer.etag == etag(number)
            report[name]["microseconds"] = round(1e6 * report[name]["seconds"] / given.lookups)
        assert found.at("s3://posts/none.jpg") is None
        listed = Path(place, "list.txt")
        with listed.open("w") as file:
            file.writelines(f"{location(dice.randrange(given.rows))}\n" for _ in range(given.rows))
        with (
            open_list(str(listed)) as images,
            measured(report, "numbered_for_once"),
            find_distinct(images) as distinct,
        ):
            report["distinct"] = distinct.rows
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
