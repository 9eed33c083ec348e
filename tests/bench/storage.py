"""The stages around the network: fetching, the rows and queues of a job, writing parquet."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch

from handler.predictor import Predictor
from handler.values.prediction import Prediction, Refusal
from jobs.fetching.fetcher import Fetched, Fetcher
from jobs.output import parquet
from jobs.scoring.scorer import ChunkScorer
from jobs.storage.folders import open_folder
from jobs.storage.stores import Stores
from jobs.values.chunks import Chunk, Entry
from jobs.values.inside import Inside
from jobs.values.tasks import Task
from tests.bench.memory import load_predictor
from tests.bench.meter import Clock
from tests.bench.photos import RESULTS
from tests.bench.results import Measurement

FETCHERS = ("boto3", "obstore")


class _Known:
    """A predictor that answers at once with what another one said before."""

    def __init__(self, predictor: Predictor, answer: Prediction | Refusal) -> None:
        self.model = predictor.model
        self.wheel = predictor.wheel
        self.batch_size = predictor.batch_size
        self.limits = predictor.limits
        self._answer = answer
        self._pixels = torch.zeros(3, 1, 1, dtype=torch.uint8)

    def decode(self, data: bytes) -> torch.Tensor:
        return self._pixels

    def predict_decoded(
        self, images: Sequence[Any], *, embeddings: bool = False, detect: bool = False
    ) -> list[Prediction | Refusal]:
        return [self._answer] * len(images)


class _AtHand:
    """A fetcher that has every photo at once."""

    def __init__(self, photo: bytes) -> None:
        self._found = Fetched(photo, "etag")

    def fetch(
        self, location: str, inside: Inside | None = None, *, unless: str | None = None
    ) -> Fetched:
        return self._found


def measure_storage(
    model: Path, locations: Sequence[str], repeat: int, environment: Mapping[str, str]
) -> list[Measurement]:
    """CPU time of this process for each stage; that of the S3 server is not counted.

    Args:
        model: Archive whose answers the rows hold.
        locations: Locations of photos on S3.
        repeat: Number of repetitions.
        environment: Variables that name the S3 server.
    """
    os.environ.update(environment)
    predictor = load_predictor(model, threads=1)
    count = len(locations)
    found = {
        name: Measurement("stages", name, 1, count)
        for name in (*(f"fetch ({client})" for client in FETCHERS), "rows and queues", "write")
    }
    s3 = Stores(threads=16)
    fetchers = {
        client: Fetcher(s3, max_bytes=predictor.limits.max_bytes, client=client)
        for client in FETCHERS
    }
    photo = fetchers["boto3"].fetch(locations[0]).data
    columns = parquet.schema(predictor.wheel.labels, extra=pa.schema([]), boxes=False)
    task = Task(Chunk(0, 0, tuple(Entry(location) for location in locations)))
    known = _Known(predictor, predictor.predict([photo])[0])
    folder = open_folder(f"s3://{RESULTS}/stages", s3)
    with ChunkScorer(known, _AtHand(photo), run_id="run", folder="", threads=16) as scorer:
        for number in range(repeat + 1):
            times: dict[str, Clock] = {}
            for client, fetcher in fetchers.items():
                with Clock() as times[f"fetch ({client})"]:
                    for location in locations:
                        fetcher.fetch(location)
            with Clock() as times["rows and queues"]:
                scored = scorer.score(task)
            with Clock() as times["write"]:
                folder.write("part.parquet", parquet.encode(scored.rows, columns))
            if number:
                for name, clock in times.items():
                    found[name].cpu.append(clock.cpu)
                    found[name].wall.append(clock.wall)
    s3.close()
    return list(found.values())
