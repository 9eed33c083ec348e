"""A worker loads the model once, then turns tasks into parts.

An engine (see `jobs.engines.base`) sends a `Worker` to the process that should score images, and
starts it there. It scores chunks, each of which becomes one part. It can also probe a few images of
a chunk without writing anything, to find which of them kills the process.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import pyarrow as pa

from jobs.fetching.fetcher import Fetcher
from jobs.output import parquet
from jobs.output.consulted import Consulted
from jobs.output.earlier_answers import open_earlier
from jobs.scoring.scorer import ChunkScorer
from jobs.scoring.sources import ModelSource
from jobs.storage.folders import Folder, open_folder
from jobs.storage.stores import Stores
from jobs.values.layout import part_name
from jobs.values.tasks import OnImages, PartReport, Task

if TYPE_CHECKING:
    from jobs.values.job import ScoreJob


@dataclass(frozen=True)
class Worker:
    """Turns chunks into parts; `start` it once in every process that scores.

    Attributes:
        job: Job as the user gave it.
        run_id: Identifier of the run.
        list_folder: Folder that relative images are relative to.
        extra: Columns that pass through from the list.
        source: Model that scores, as `ModelSource.portable` gives it.
        controls: Locations of images that are spread evenly over the list.
        embedding_size: Length of the model's fused feature, if rows hold it.
        consulted: Earlier runs whose answers are copied.
    """

    job: ScoreJob
    run_id: str
    list_folder: str
    extra: pa.Schema
    source: ModelSource
    controls: tuple[str, ...] = ()
    embedding_size: int | None = None
    consulted: Consulted | None = None

    @contextmanager
    def start(self, on_images: OnImages | None = None) -> Iterator[PartMaker]:
        """Load the model; gives the function that does a task."""
        job = self.job
        with ExitStack() as stack:
            predictor = stack.enter_context(self.source.open(threads=job.threads))
            schema = partial(
                parquet.schema,
                predictor.wheel.labels,
                boxes=job.boxes,
                detects=predictor.model.detects,
                faces=predictor.model.faces,
                embedding_size=self.embedding_size,
                content_hash=job.content_hash,
                since=self.consulted is not None,
            )
            stores = Stores(threads=job.fetch_threads, retry=job.retry)
            fetcher = Fetcher(
                stores,
                max_bytes=predictor.limits.max_bytes,
                hosts=job.hosts,
                client=job.fetcher,
                controls=self.controls,
            )
            known = None
            if self.consulted:
                known = open_earlier(
                    self.consulted,
                    run_id=self.run_id,
                    columns=schema(extra=pa.schema([])),
                    stores=stores,
                )
            scorer = ChunkScorer(
                predictor,
                fetcher,
                run_id=self.run_id,
                folder=self.list_folder,
                extra=self.extra.names,
                boxes=job.boxes,
                embeddings=self.embedding_size is not None,
                content_hash=job.content_hash,
                once=job.once,
                known=known,
                threads=job.fetch_threads,
                decode_threads=job.threads,
            )
            stack.enter_context(scorer)
            # Closed before the scorer, whose threads would otherwise wait until their delays end.
            stack.enter_context(closing(stores))
            yield PartMaker(
                scorer, open_folder(job.out, stores), schema(extra=self.extra), on_images
            )


class PartMaker:
    """Does tasks, one after the other.

    Args:
        scorer: Scorer of the images.
        folder: Folder of the output.
        columns: Columns of the parts.
        on_images: Called for images that are finished.
    """

    def __init__(
        self,
        scorer: ChunkScorer,
        folder: Folder,
        columns: pa.Schema,
        on_images: OnImages | None,
    ) -> None:
        self._scorer = scorer
        self._folder = folder
        self._columns = columns
        self._on_images = on_images

    def __call__(self, task: Task) -> PartReport:
        """Score a chunk and write its part, or probe it.

        Returns:
            Report of the part, once it is written; of a probe, without a name.

        Raises:
            VeaError: The job cannot be done.
        """
        scored = self._scorer.score(task, self._on_images)
        name, size = "", 0
        if task.probe is None:
            name = part_name(task.chunk)
            data = parquet.encode(scored.rows, self._columns)
            self._folder.write(name, data)
            size = len(data)
        seconds = time.monotonic() - scored.began
        return parquet.report_rows(name, size, scored.rows, seconds=seconds, busy=scored.busy)
