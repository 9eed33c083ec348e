"""Two nights of photos that share 60 %: what is fetched and scored is what is new, exactly.

    python -m tests.trials.two_nights --photos 5000

A third of each night's rows name a photo again; one in 50 photos is missing and one is damaged.
Photos lie on a real S3 server, the model is the shipped one, in this process. The second night is
scored twice, with `--once --since` and without, and the rows are compared: everything but
provenance has to be equal, probabilities to within the last digits, which depend on the other
photos of a batch. What is fetched and scored has to be what is new, exactly. Prints the counts as
JSON; exit code 1 if anything differs.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from handler.predictor import Predictor
from handler.values.prediction import Prediction, Refusal
from jobs.fetching.fetcher import Fetched, Fetcher
from jobs.run.driver import score_list
from jobs.storage.errors import NotModified
from jobs.values.inside import Inside
from jobs.values.job import ScoreJob
from tests.shipped import ARCHIVE
from tests.trials.many_photos import (
    BUCKET,
    data_files,
    is_damaged,
    is_missing,
    many_photos,
    upload,
)
from vea.demo.embedded_s3 import embedded_s3

RESULTS = "results"
_PROVENANCE = ("run_id", "scored_by_run")


class Counting:
    """The shipped model, and how many pictures it scored."""

    def __init__(self) -> None:
        self._predictor = Predictor.load(ARCHIVE, threads=1)
        self.model, self.wheel = self._predictor.model, self._predictor.wheel
        self.batch_size, self.limits = self._predictor.batch_size, self._predictor.limits
        self.decode = self._predictor.decode
        self.scored = 0

    def predict_decoded(
        self, images: Sequence[Any], *, embeddings: bool = False, detect: bool = False
    ) -> list[Prediction | Refusal]:
        """Answers of the model."""
        self.scored += len(images)
        return self._predictor.predict_decoded(images, embeddings=embeddings, detect=detect)

    def load(self, path: Path, *, threads: int) -> Counting:
        """Stands in for `Predictor.load`."""
        return self


def count_fetches() -> Counter[str]:
    """Count images from now on: transferred, not modified, and missing."""
    counts, fetch = Counter[str](), Fetcher.fetch

    def counting(
        self: Fetcher, location: str, inside: Inside | None = None, *, unless: str | None = None
    ) -> Fetched:
        kind = "failed"
        try:
            found = fetch(self, location, inside, unless=unless)
            kind = "transferred"
        except NotModified:
            kind = "not modified"
            raise
        finally:
            counts[kind] += 1
        return found

    Fetcher.fetch = counting  # type: ignore[method-assign]
    return counts


def expected_fetches(distinct: int, both: int) -> dict[str, dict[str, int]]:
    """What each night has to ask for: photos that are new, or of which no answer is known."""
    last = 2 * distinct - both
    there = {number for number in range(last) if not is_missing(number)}
    first, second = set(range(distinct)), set(range(last - distinct, last))
    known = {number for number in first & second & there if not is_damaged(number)}
    return {
        "first": {"transferred": len(first & there), "failed": len(first - there)},
        "second": {
            "transferred": len((second & there) - known),
            "not modified": len(known),
            "failed": len(second - there),
        },
    }


def differences(found: pa.Table, expected: pa.Table) -> dict[str, Any]:
    """How many values of each column differ; of fractions, by how much at most."""
    report: dict[str, Any] = {}
    for name in expected.column_names:
        one, other = found[name].combine_chunks(), expected[name].combine_chunks()
        if name in _PROVENANCE or one.equals(other):
            continue
        if pa.types.is_floating(one.type) and one.is_null().equals(other.is_null()):
            gap = np.abs(one.drop_null().to_numpy() - other.drop_null().to_numpy())
            report[name] = f"by {gap.max():.1e} at most, in {np.count_nonzero(gap)} rows"
        else:
            same = [a == b for a, b in zip(one.to_pylist(), other.to_pylist(), strict=True)]
            report[name] = f"in {same.count(False)} rows"
    return report


def main() -> int:
    """Read the options and try."""
    parser = argparse.ArgumentParser(description="Two nights, of which the second is partly known.")
    parser.add_argument("--photos", type=int, default=5000, help="rows of a night's list")
    parser.add_argument("--chunk-size", type=int, default=250)
    given = parser.parse_args()
    distinct = given.photos * 2 // 3
    both = distinct * 6 // 10
    fetched = count_fetches()
    with (
        tempfile.TemporaryDirectory(prefix="vea-nights-") as folder,
        embedded_s3(Path(folder), buckets=[BUCKET, RESULTS]) as server,
    ):
        os.environ.update(server.environment)
        client = server.client()
        photos = upload(server, many_photos(2 * distinct - both))
        report: dict[str, Any] = {"rows": given.photos, "distinct": distinct, "in_both": both}
        for name, some, options in (
            ("first", photos[:distinct], {"once": True}),
            ("second", photos[-distinct:], {"once": True, "since": f"s3://{RESULTS}/nights"}),
            ("second_without", photos[-distinct:], {}),
        ):
            listed = "\n".join([*some, *some[: given.photos - distinct]])
            client.put_object(Bucket=BUCKET, Key=f"{name}.txt", Body=listed.encode())
            out = f"nights/dt={name}" if "without" not in name else name
            job = ScoreJob(
                f"s3://{BUCKET}/{name}.txt",
                f"s3://{RESULTS}/{out}",
                ARCHIVE,
                chunk_size=given.chunk_size,
                **options,
            )
            model = Counting()
            fetched.clear()
            began = time.monotonic()
            summary = score_list(job, load=model.load)
            report[name] = {
                "seconds": round(time.monotonic() - began, 1),
                "images": dict(fetched),
                "scored": model.scored,
                "rows": summary.rows,
                "failed": summary.failed,
            }
        tables = [
            pa.concat_tables(
                pq.ParquetFile(io.BytesIO(data)).read()
                for _, data in sorted(data_files(client, RESULTS, prefix).items())
            )
            for prefix in ("nights/dt=second/", "second_without/")
        ]
    report["differences"] = differences(*tables)
    print(json.dumps(report, indent=2))
    first, second, without = report["first"], report["second"], report["second_without"]
    expected = expected_fetches(distinct, both)
    well = (
        first["images"] == expected["first"]
        and second["images"] == expected["second"]
        and first["scored"] == expected["first"]["transferred"]
        and second["scored"] == expected["second"]["transferred"]
        and second["rows"] == without["rows"] == given.photos
        and second["failed"] == without["failed"]
        and not {"status", "emotion", "reason"} & set(report["differences"])
    )
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main())
