"""A whole job: list -> chunks -> parts -> files, manifest, ``_SUCCESS``.

`score_list` decides what is to be done and keeps the ledger; an `Engine` does it. A start finds
what earlier ones have left and goes on from there, so the same command brings any run to its end,
however often it was interrupted.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from handler.archive.files import read_card
from handler.predictor import ModelIdentity, Predictor
from handler.values.emotions import Wheel, wheel
from handler.values.errors import VeaError
from handler.values.limits import ImageLimits
from jobs.engines.base import Engine, InThisProcess
from jobs.engines.signals import DEFAULT_GRACE, Interrupted, StopRequest
from jobs.lists.image_list import ImageList, open_list
from jobs.lists.prefix import freeze_listing, is_prefix
from jobs.monitoring.counter import Progress, Stopped, Tally, TooManyFailed
from jobs.output import parquet as sink
from jobs.output.ledger import Ledger
from jobs.run.attempt import Start
from jobs.run.summary import Summary
from jobs.scoring.endpoint import Endpoint
from jobs.scoring.worker import LoadPredictor, Worker
from jobs.storage.folders import open_folder
from jobs.storage.retry import RetryPolicy
from jobs.storage.s3 import S3, is_s3
from jobs.values import chunks
from jobs.values.chunks import RunIdentity

__all__ = ["Progress", "ScoreJob", "Stopped", "Summary", "TooManyFailed", "score_list", "share_of"]

_BATCH_INDEX, _BATCH_SIZE = "AWS_BATCH_JOB_ARRAY_INDEX", "AWS_BATCH_JOB_ARRAY_SIZE"


@dataclass(frozen=True)
class ScoreJob:
    """What to score, with what, and where to.

    Attributes:
        manifest: the list of images, a path or ``s3://bucket/key``; or a folder or prefix.
        out: folder of the result, a path or ``s3://bucket/prefix``.
        model: an archive; or none, and ``endpoint``.
        endpoint: a service that scores; rows and the run's identity are the same either way.
        column: of the images, in lists with columns; found by its name if not given.
        keep: columns that pass through to the result; all if not given.
        chunk_size: images in a part.
        fetch_threads: images that a worker fetches at a time.
        threads: that a worker computes with.
        boxes: whether the result has the boxes of all objects.
        hosts: from which images may be fetched over HTTPS.
        fetcher: of images on S3.
        retry: of requests.
        share: index and number of the starts that divide the chunks among them, each taking those
            whose number leaves its index as remainder; from AWS Batch's array jobs if not given.
        max_error_share: the job ends early when a larger share of images has failed.
    """

    manifest: str
    out: str
    model: Path | None = None
    endpoint: Endpoint | None = None
    column: str | None = None
    keep: Sequence[str] | None = None
    chunk_size: int = chunks.DEFAULT_SIZE
    fetch_threads: int = 16
    threads: int = 1
    boxes: bool = False
    hosts: tuple[str, ...] = ()
    fetcher: Literal["boto3", "obstore"] = "boto3"
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    share: tuple[int, int] | None = None
    max_error_share: float = 1.0


def score_list(
    job: ScoreJob,
    *,
    engine: Engine | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    load: LoadPredictor | None = None,
    grace: float = DEFAULT_GRACE,
) -> Summary:
    """Score every image of a list into parquet; what an earlier start has done is skipped.

    An image that failed has a row, and is as done as any; only images that could not be reached
    are tried once more before the end.

    Args:
        job: what to do.
        engine: where to do it; `InThisProcess` if not given.
        on_progress: called from this thread whenever some images are through.
        load: reads the archive ``job.model``; `Predictor.load` if not given.
        grace: seconds that chunks under way have to end after SIGTERM or Ctrl-C.

    Raises:
        Stopped: by a signal.
        TooManyFailed: more than ``job.max_error_share`` of the images.
        VeaError: the job cannot be done; the message is one line that says why. Whatever it is,
            parts that are written by then stay, and the next start goes on from them.
    """
    share = share_of(job.share)
    model, emotions = _model(job)
    stop = StopRequest(grace)
    with closing(stop), stop.listen(), closing(S3(threads=16, policy=job.retry)) as s3:
        tally = Tally(job.max_error_share, on_progress)
        try:
            folder = open_folder(job.out, s3)
            location = job.manifest
            if is_prefix(location):
                location = str(freeze_listing(location, folder, s3))
            with open_list(location, column=job.column, keep=job.keep, s3=s3) as images:
                sink.schema(
                    emotions.labels, extra=images.extra, boxes=job.boxes
                )  # refuses columns with our names before anything is claimed
                identity = _identify(job, images, model.digest)
                worker = Worker(
                    _from_anywhere(job, model),
                    identity.run_id,
                    images.folder,
                    images.extra,
                    load or Predictor.load,
                )
                run = Start(
                    job, images, Ledger(folder, identity), identity.run_id, model, share, tally
                )
                return run.through(engine or InThisProcess(), worker, stop)
        except Interrupted:
            raise Stopped(stop.signal, tally.kept, tally.progress.total) from None


def share_of(given: tuple[int, int] | None) -> tuple[int, int]:
    """Index and number of this start among those that divide the chunks.

    Args:
        given: by the user; None leaves it to AWS Batch.

    Raises:
        VeaError: AWS Batch gives no such numbers.
    """
    index, of = given or (0, 1)
    if given is None and _BATCH_INDEX in os.environ and _BATCH_SIZE in os.environ:
        try:
            index, of = int(os.environ[_BATCH_INDEX]), int(os.environ[_BATCH_SIZE])
        except ValueError:
            index, of = -1, 0
    if not 0 <= index < of:
        raise VeaError(
            f"share {index} of {of}: expected an index from 0 to one less than the number of shares"
        )
    return index, of


def _model(job: ScoreJob) -> tuple[ModelIdentity, Wheel]:
    """What scores, and its emotions."""
    if job.endpoint is not None and job.model is None:
        return job.endpoint.identify()
    if job.model is None or job.endpoint is not None:
        raise VeaError("a job needs either an archive or an endpoint to score with")
    config, _, digest = read_card(job.model)
    return ModelIdentity(config.name, config.version, digest), wheel(config.network.wheel)


def _from_anywhere(job: ScoreJob, model: ModelIdentity) -> ScoreJob:
    """The job for workers, which may be in another folder than the user is."""
    out = job.out if is_s3(job.out) else os.path.abspath(job.out)
    if job.endpoint is not None:
        file = job.endpoint.key_file
        endpoint = replace(job.endpoint, expected=model, key_file=file and file.absolute())
        return replace(job, endpoint=endpoint, out=out)
    assert job.model is not None
    return replace(job, model=job.model.absolute(), out=out)


def _identify(job: ScoreJob, images: ImageList, digest: str) -> RunIdentity:
    limits = ImageLimits()
    return RunIdentity(
        list_sha256=images.sha256,
        list_folder=images.folder if images.has_relative else None,
        column=images.column,
        keep=tuple(images.extra.names),
        model_digest=digest,
        chunk_size=job.chunk_size,
        max_bytes=limits.max_bytes,
        max_pixels=limits.max_pixels,
        boxes=job.boxes,
        hosts=tuple(sorted(set(job.hosts))),
    )
