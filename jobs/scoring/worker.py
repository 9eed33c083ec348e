"""What helps with a job: loads the model once, then turns tasks into parts.

An engine (see `jobs.engines.base`) sends a `Worker` to wherever images should be scored and starts
it there. It works on chunks, each of which becomes one part; it can also probe a few images of a
chunk without writing anything, to find out which of them kills the process.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pyarrow as pa
import torch

from jobs.fetching.fetcher import Fetcher
from jobs.output import parquet as sink
from jobs.output.ledger import part_name
from jobs.output.parquet import PartReport
from jobs.scoring.scorer import ChunkScorer, OnImages, Scored, Scores
from jobs.storage.folders import Folder, open_folder
from jobs.storage.s3 import S3
from jobs.values.chunks import Chunk

if TYPE_CHECKING:
    from jobs.run.driver import ScoreJob


class LoadPredictor(Protocol):
    """What `handler.predictor.Predictor.load` offers."""

    def __call__(self, path: Path, *, threads: int) -> Scores[Any]:
        """Read an archive; ``threads`` search for faces."""


@dataclass(frozen=True)
class Task:
    """What a worker is asked to do.

    Attributes:
        chunk: to be scored.
        skip: positions whose images are not touched, not even fetched: each has killed a process
            before and gets a row that says so.
        probe: positions in the list; if given, only these are scored, and nothing is written.
    """

    chunk: Chunk
    skip: frozenset[int] = frozenset()
    probe: range | None = None


@dataclass(frozen=True)
class Worker:
    """Turns chunks into parts; `start` it once in every process that should help.

    Attributes:
        job: as the user gave it.
        run_id: of the run.
        list_folder: what relative images are relative to.
        extra: columns that pass through from the list.
        load: of the model, where the job has an archive.
    """

    job: ScoreJob
    run_id: str
    list_folder: str
    extra: pa.Schema
    load: LoadPredictor

    @contextmanager
    def start(self, on_images: OnImages | None = None) -> Iterator[PartMaker]:
        """Load the model; gives the function that does a task."""
        job = self.job
        with ExitStack() as stack:
            stack.enter_context(_torch_threads(job.threads))
            predictor = stack.enter_context(self._model())
            columns = sink.schema(predictor.wheel.labels, extra=self.extra, boxes=job.boxes)
            s3 = S3(threads=job.fetch_threads, policy=job.retry)
            fetcher = Fetcher(
                s3, max_bytes=predictor.limits.max_bytes, hosts=job.hosts, client=job.fetcher
            )
            scorer = ChunkScorer(
                predictor,
                fetcher,
                run_id=self.run_id,
                folder=self.list_folder,
                extra=self.extra.names,
                boxes=job.boxes,
                threads=job.fetch_threads,
                decode_threads=job.threads,
            )
            stack.enter_context(scorer)
            # Closed before the scorer, whose threads would otherwise sit out their waits.
            stack.enter_context(closing(s3))
            writer = stack.enter_context(ThreadPoolExecutor(1, thread_name_prefix="vea-write"))
            yield PartMaker(scorer, open_folder(job.out, s3), columns, writer, on_images)

    @contextmanager
    def _model(self) -> Iterator[Scores[Any]]:
        if self.job.endpoint is not None:
            with self.job.endpoint.connect() as scores:
                yield scores
        else:
            assert self.job.model is not None
            yield self.load(self.job.model, threads=self.job.threads)


class PartMaker:
    """Does tasks, one after the other.

    Args:
        scorer: of the images.
        folder: of the output.
        columns: of the parts.
        writer: one thread that writes parts.
        on_images: told of images that are through.
    """

    def __init__(
        self,
        scorer: ChunkScorer,
        folder: Folder,
        columns: pa.Schema,
        writer: ThreadPoolExecutor,
        on_images: OnImages | None,
    ) -> None:
        self._scorer = scorer
        self._folder = folder
        self._columns = columns
        self._writer = writer
        self._on_images = on_images

    def __call__(self, task: Task) -> PartReport:
        """Score a chunk and write its part, or probe it.

        Returns:
            Of the part, once it is written; of a probe, without a name.

        Raises:
            VeaError: the job cannot be done.
        """
        (report,) = self.stream([task])
        return report

    def stream(self, tasks: Iterable[Task]) -> Iterator[PartReport]:
        """Do many tasks without a pause between them.

        While a part is written, the next chunk is scored; a report comes when its part is written.
        Each task is asked for before the report of the one in front of it has come, and its first
        images are under way by then: who must know which image killed a process gives one task at
        a time instead.
        """
        writing: Future[PartReport] | None = None
        for scored in self._scorer.score(tasks, self._on_images):
            # No more than one part waits to be written, however slow the folder is.
            if writing:
                yield writing.result()
            writing = self._writer.submit(self._finish, scored)
        if writing:
            yield writing.result()

    def _finish(self, scored: Scored) -> PartReport:
        name, size = "", 0
        if scored.task.probe is None:
            name = part_name(scored.task.chunk)
            data = sink.encode(scored.rows, self._columns)
            self._folder.write(name, data)
            size = len(data)
        seconds = time.monotonic() - scored.began
        return sink.report_rows(name, size, scored.rows, seconds=seconds, busy=scored.busy)


@contextmanager
def _torch_threads(count: int) -> Iterator[None]:
    """Have torch compute with so many threads; sums depend on how work is divided among them."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
