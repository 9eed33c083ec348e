"""A whole job: list -> chunks -> parts -> manifest.

`score_list` decides what is to be done and keeps the ledger. An `Engine` decides where it is done:
it gets the chunks and a `Worker` that can be pickled, starts the worker wherever it likes, and
gives back one small report for each chunk. `in_this_process` is the plain one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from handler.archive import read_card
from handler.images import ImageLimits
from handler.predictor import ModelIdentity, Predictor
from jobs import chunks, sink
from jobs.chunks import Chunk, RunIdentity
from jobs.fetch import Fetcher
from jobs.folders import open_folder
from jobs.ledger import Ledger
from jobs.manifest import ImageList, open_list
from jobs.retry import RetryPolicy
from jobs.s3 import S3
from jobs.score import ChunkScorer, OnImages, Scores
from jobs.sink import PartReport

LoadPredictor = Callable[[Path], Scores]


@dataclass(frozen=True)
class ScoreJob:
    """What to score, with what, and where to.

    Attributes:
        manifest: the list of images, a path or ``s3://bucket/key``.
        out: folder of the parts, a path or ``s3://bucket/prefix``.
        model: an archive.
        column: of the images, if the list is a CSV file.
        chunk_size: images in a part.
        fetch_threads: images fetched at a time.
        retry: of S3 requests.
    """

    manifest: str
    out: str
    model: Path
    column: str = "image"
    chunk_size: int = chunks.DEFAULT_SIZE
    fetch_threads: int = 16
    retry: RetryPolicy = field(default_factory=RetryPolicy)


@dataclass(frozen=True)
class Progress:
    """How far a job is: of ``total`` images ``done`` are through, and ``failed`` of these failed.

    Images of parts that an earlier start wrote count as done.
    """

    total: int
    done: int = 0
    failed: int = 0

    def after(self, done: int, failed: int) -> Progress:
        """This progress and so many images more."""
        return Progress(self.total, self.done + done, self.failed + failed)


@dataclass(frozen=True)
class Summary:
    """What came of a job.

    Attributes:
        run_id: of the run.
        out: where the parts are.
        rows: images in all parts.
        ok: images with a prediction.
        failed: images without.
        reasons: how many failed for each ``stage/reason_kind``.
        parts: all of the run's.
        parts_skipped: those that an earlier start had written.
        scored: images that this start went through.
        seconds: that this start took, loading the model included.
    """

    run_id: str
    out: str
    rows: int
    ok: int
    failed: int
    reasons: dict[str, int]
    parts: int
    parts_skipped: int
    scored: int
    seconds: float

    @property
    def failed_share(self) -> float:
        """Failed images over all images; 0 for an empty list."""
        return self.failed / self.rows if self.rows else 0.0

    @property
    def images_per_second(self) -> float:
        """Of this start; 0 if everything was done before."""
        return self.scored / self.seconds if self.scored else 0.0

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {**asdict(self), "images_per_second": self.images_per_second}


@dataclass(frozen=True)
class Worker:
    """Turns chunks into parts; `start` it once in every process that should help.

    Attributes:
        job: as the user gave it.
        run_id: of the run.
        list_folder: what relative images are relative to.
        load: of the model.
    """

    job: ScoreJob
    run_id: str
    list_folder: str
    load: LoadPredictor

    @contextmanager
    def start(self, on_images: OnImages | None = None) -> Iterator[Callable[[Chunk], PartReport]]:
        """Load the model; gives the function that scores a chunk and writes its part."""
        job = self.job
        predictor = self.load(job.model)
        columns = sink.schema(predictor.wheel.labels)
        with ExitStack() as stack:
            s3 = S3(threads=job.fetch_threads, policy=job.retry)
            scorer = ChunkScorer(
                predictor,
                Fetcher(s3, max_bytes=predictor.limits.max_bytes),
                run_id=self.run_id,
                folder=self.list_folder,
                threads=job.fetch_threads,
            )
            folder = open_folder(job.out, s3)
            stack.enter_context(scorer)
            # Closed before the scorer, whose threads would otherwise sit out their waits.
            stack.enter_context(closing(s3))

            def work(chunk: Chunk) -> PartReport:
                rows = scorer.score(chunk, on_images)
                data = sink.encode(rows, columns)
                name = part_name(chunk)
                folder.write(name, data)
                return sink.report_rows(name, len(data), rows)

            yield work


Engine = Callable[[Iterator[Chunk], Worker, OnImages], Iterator[PartReport]]
"""Runs every chunk through a started worker; reports may come in any order."""


def in_this_process(
    todo: Iterator[Chunk], worker: Worker, on_images: OnImages
) -> Iterator[PartReport]:
    """One chunk after the other, here; the model is loaded only if there is a chunk to score."""
    with ExitStack() as stack:
        work: Callable[[Chunk], PartReport] | None = None
        for chunk in todo:
            work = work or stack.enter_context(worker.start(on_images))
            yield work(chunk)


def part_name(chunk: Chunk) -> str:
    """Name of the object that a chunk's rows are written to."""
    return chunk.id + sink.SUFFIX


def score_list(
    job: ScoreJob,
    *,
    engine: Engine = in_this_process,
    on_progress: Callable[[Progress], None] | None = None,
    load: LoadPredictor | None = None,
) -> Summary:
    """Score every image of a list into parquet; what an earlier start has written is skipped.

    An image that failed has a row, and its part is as done as any. To try such images again,
    delete their parts and start again.

    Args:
        job: what to do.
        engine: where to do it.
        on_progress: called from this thread whenever some images are through.
        load: reads the archive ``job.model``; `Predictor.load` if not given.

    Raises:
        VeaError: the job cannot be done; the message is one line that says why. Parts that are
            written by then stay, and the next start continues after them.
    """
    began = time.monotonic()
    config, _, digest = read_card(job.model)
    with (
        closing(S3(threads=1, policy=job.retry)) as s3,
        open_list(job.manifest, column=job.column, s3=s3) as images,
    ):
        identity = _identify(job, images, digest)
        ledger = Ledger(open_folder(job.out, s3), identity)
        done = ledger.claim()
        progress = Progress(images.rows)

        def advance(count: int, failed: int) -> None:
            nonlocal progress
            progress = progress.after(count, failed)
            if on_progress:
                on_progress(progress)

        reports: list[PartReport] = []

        def missing() -> Iterator[Chunk]:
            for chunk in _chunks(images, job.chunk_size):
                if part_name(chunk) not in done:
                    yield chunk
                    continue
                earlier = ledger.recall(part_name(chunk))
                reports.append(earlier)
                advance(earlier.rows, earlier.failed)

        worker = Worker(job, identity.run_id, images.folder, load or Predictor.load)
        fresh = list(engine(missing(), worker, advance))
        skipped = len(reports)
        model = ModelIdentity(config.name, config.version, digest)
        manifest = ledger.finish(reports + fresh, model=model, list_location=job.manifest)
    return Summary(
        run_id=identity.run_id,
        out=job.out,
        rows=manifest["rows"],
        ok=manifest["status"][sink.OK],
        failed=manifest["status"][sink.FAILED],
        reasons=manifest["reasons"],
        parts=len(manifest["parts"]),
        parts_skipped=skipped,
        scored=sum(report.rows for report in fresh),
        seconds=time.monotonic() - began,
    )


def _identify(job: ScoreJob, images: ImageList, digest: str) -> RunIdentity:
    limits = ImageLimits()
    return RunIdentity(
        list_sha256=images.sha256,
        list_folder=images.folder if images.has_relative else None,
        column=images.column,
        model_digest=digest,
        chunk_size=job.chunk_size,
        max_bytes=limits.max_bytes,
        max_pixels=limits.max_pixels,
    )


def _chunks(images: ImageList, size: int) -> Iterator[Chunk]:
    if images.rows:
        yield from chunks.split(images, size)
    else:
        # One part without rows, so that readers of the folder find the columns all the same.
        yield Chunk(0, 0, ())
