"""A list of a million rows: how long everything but the model takes, and how much memory.

    python -m tests.trials.million_rows --rows 1000000

The keys are made up, and a stub answers for model and pictures: what is measured is the list, the
chunks, the rows, the parts and their compaction. Memory is the peak of the process after the list
was half done against the peak at its end: flat means that a longer list needs no more.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import pyarrow.parquet as pq
import torch

from handler.archive.files import read_card
from handler.values.emotions import MIKELS
from handler.values.limits import ImageLimits
from handler.values.prediction import ModelIdentity, Prediction
from jobs.engines.base import InThisProcess
from jobs.fetching.fetcher import Fetched
from jobs.monitoring.counter import Progress
from jobs.run.driver import score_list
from jobs.scoring import worker
from jobs.values.job import ScoreJob
from tests.shipped import ARCHIVE

_EMOTIONS = len(MIKELS.labels)
_ANSWER = Prediction(
    emotion="awe",
    probabilities=dict(zip(MIKELS.labels, [0.05, 0.65, *[0.05] * (_EMOTIONS - 2)], strict=True)),
    p_positive=0.8,
    polarity="positive",
    face_count=0,
    face=None,
    objects=(),
    activation=None,
    width=640,
    height=480,
    activation_box=None,
)


class Stub:
    """Answers at once, whatever the picture."""

    wheel = MIKELS
    batch_size = 32
    limits = ImageLimits()

    def __init__(self, path: Path, *, threads: int) -> None:
        config, _card, digest = read_card(path)
        self.model = ModelIdentity(config.name, config.version, digest)

    def decode(self, data: bytes) -> torch.Tensor:
        """One picture for all."""
        return torch.zeros(3, 1, 1, dtype=torch.uint8)

    def predict_decoded(
        self, images: Sequence[object], *, embeddings: bool = False, detect: bool = False
    ) -> list[Prediction]:
        """One answer for all."""
        return [_ANSWER] * len(images)


class StubFetcher:
    """Has every picture at once."""

    def __init__(self, *_: object, **__: object) -> None:
        self.found = Fetched(b"jpeg", "etag")

    def fetch(self, location: str) -> Fetched:
        """One picture for all."""
        return self.found


def peak_mib() -> float:
    """Most memory that this process ever had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Make the list, score it, look at the result."""
    parser = argparse.ArgumentParser(description="A long list, a stub for the model.")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--chunk-size", type=int, default=1000)
    given = parser.parse_args()
    worker.Fetcher = StubFetcher  # type: ignore[attr-defined,assignment]
    with tempfile.TemporaryDirectory(prefix="vea-million-") as folder:
        listed = Path(folder, "list.csv")
        with listed.open("w") as file:
            file.write("image,post,author\n")
            for row in range(given.rows):
                file.write(f"s3://posts/{row % 997:03d}/{row:09d}.jpg,{row},user{row % 5000}\n")
        halfway = 0.0

        def look(now: Progress) -> None:
            nonlocal halfway
            if now.done <= now.total / 2:
                halfway = peak_mib()

        before, began = peak_mib(), time.monotonic()
        out = Path(folder, "out")
        job = ScoreJob(str(listed), str(out), ARCHIVE, chunk_size=given.chunk_size)
        summary = score_list(job, engine=InThisProcess(), on_progress=look, load=Stub)
        seconds, after = time.monotonic() - began, peak_mib()  # before the result is looked at
        files = sorted(out.glob("*.parquet"))
        positions = sorted(
            position
            for path in files
            for position in pq.read_table(path, columns=["position"])["position"].to_pylist()
        )
        report = {
            "rows": summary.rows,
            "every_position_once": positions == list(range(given.rows)),
            "files": [path.stat().st_size for path in files],
            "seconds": round(seconds, 1),
            "rows_per_second": round(given.rows / seconds),
            "peak_mib": {"start": before, "half": halfway, "end": after},
        }
        print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
