"""A whole job: list -> chunks -> parts -> files, manifest, ``_SUCCESS``.

`score_list` decides what is to be done and keeps the ledger; an `Engine` does it. An attempt
continues from what earlier ones have left, so the same command finishes any run, however often it
was interrupted.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import replace

import pyarrow as pa

from handler.photo_folders import describe
from handler.telemetry import SilentTelemetry, Telemetry
from handler.values.limits import ImageLimits
from handler.values.prediction import ModelIdentity
from jobs.engines.base import Engine, InThisProcess
from jobs.engines.signals import DEFAULT_GRACE, Interrupted, StopRequest
from jobs.lists.distinct import find_distinct
from jobs.lists.image_list import ImageList
from jobs.lists.many_files import is_folder_of_parts
from jobs.lists.prefix import snapshot_prefix
from jobs.monitoring.counter import Progress, ProgressCounter, Stopped
from jobs.monitoring.summary import Summary
from jobs.monitoring.trace import RunTrace
from jobs.output import parquet
from jobs.output.chosen_columns import choose_columns, chosen_schema
from jobs.output.consulted import Consulted, consult
from jobs.output.earlier_files import remove_earlier
from jobs.output.ledger import Ledger
from jobs.run.attempt import DEFAULT_REFRESH, RunAttempt
from jobs.run.declared_list import open_declared
from jobs.run.replacement import discard_failed, retry_failed
from jobs.scoring.sources import LoadPredictor, source_of
from jobs.scoring.worker import Worker
from jobs.storage.folders import Folder, open_folder
from jobs.storage.stores import Stores
from jobs.values.chunks import RunIdentity
from jobs.values.job import ScoreJob, shard_of
from jobs.values.locations import is_in_store, is_prefix, resolve


def score_list(
    job: ScoreJob,
    *,
    engine: Engine | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    load: LoadPredictor | None = None,
    grace: float = DEFAULT_GRACE,
    refresh: float = DEFAULT_REFRESH,
    warn: Callable[[str], None] | None = None,
    accept: Callable[[pa.Schema, ImageList], None] | None = None,
    telemetry: Telemetry | None = None,
) -> Summary:
    """Score every image of a list into parquet; what an earlier attempt has done is skipped.

    An image that failed has a row, and is as done as any; only images that could not be reached
    are tried once more before the end.

    Args:
        job: Job to do.
        engine: Engine that runs the workers; `InThisProcess` by default.
        on_progress: Called from this thread whenever some images are finished.
        load: Function that reads the archive ``job.model``; on the CPU if not given.
        grace: Seconds that chunks under way have to end after SIGTERM or Ctrl-C.
        refresh: Seconds between two looks at what other attempts of the same run have done.
        warn: Function that is told, in one line, what was left out of a folder of images, and what
            could not be tidied up after the end.
        accept: Function that may refuse the result's columns before anything is claimed.
        telemetry: Receives phases and chunks as spans; nobody by default. The variable
            ``TRACEPARENT`` names the trace that they belong to.

    Raises:
        Stopped: A signal ended the run.
        TooManyFailed: More than ``job.max_error_rate`` of the images failed, or all of them.
        VeaError: The job cannot be done; the message is one line that says why. In every case,
            parts that are written by then stay, and the next attempt continues from them.
    """
    trace = RunTrace(telemetry or SilentTelemetry())
    with trace.whole(job.image_list, job.out, traceparent=os.environ.get("TRACEPARENT")) as span:
        if job.endpoint is not None:
            job = replace(job, endpoint=replace(job.endpoint, traceparent=span.traceparent))
        return _score(
            job,
            engine or InThisProcess(),
            on_progress=on_progress,
            load=load,
            grace=grace,
            refresh=refresh,
            warn=warn,
            accept=accept,
            trace=trace,
        )


def _score(
    job: ScoreJob,
    engine: Engine,
    *,
    on_progress: Callable[[Progress], None] | None,
    load: LoadPredictor | None,
    grace: float,
    refresh: float,
    warn: Callable[[str], None] | None,
    accept: Callable[[pa.Schema, ImageList], None] | None,
    trace: RunTrace,
) -> Summary:
    began = time.monotonic()
    for place in (job.image_list, job.out, job.since or ""):
        is_in_store(place)  # an unsupported location is refused before any work
    shard = shard_of(job.shard)
    source = source_of(job, load)
    model, emotions = source.identify()
    embedding_size = source.embedding_size() if job.embeddings else None
    stop = StopRequest(grace)
    with closing(stop), stop.listen(), closing(Stores(threads=16, retry=job.retry)) as stores:
        counter = ProgressCounter(job.max_error_rate, on_progress)
        try:
            folder = open_folder(job.out, stores)
            location, left_out = job.image_list, dict[str, int]()
            if is_prefix(location) and not is_folder_of_parts(location, stores):
                if job.replace_failed:
                    discard_failed(folder, job.max_error_rate, keep=None)
                snapshot = snapshot_prefix(location, folder, stores)
                location, left_out = snapshot.location, snapshot.left_out
                if left_out and warn:
                    warn(f"{job.image_list}: {describe(left_out)}")
            with (
                open_declared(
                    job, location, stores, warn or (lambda line: None), out=folder
                ) as images,
                ExitStack() as distinct,
            ):
                # Refuses columns with names of the result before the folder is claimed.
                columns = parquet.schema(
                    emotions.labels,
                    extra=images.extra,
                    boxes=job.boxes,
                    detects=model.detects,
                    faces=model.faces,
                    embedding_size=embedding_size,
                    content_hash=job.content_hash,
                    since=job.since is not None,
                )
                chosen = choose_columns(columns, job.columns, extra=images.extra.names)
                if images.left_out:
                    left_out = dict(images.left_out)
                    if warn:
                        warn(f"{job.image_list}: {describe(left_out)}")
                if accept:
                    accept(chosen_schema(columns, chosen), images)
                own = identify_run(job, images, model, chosen)
                consulted, identity = add_consulted(own, job, folder, stores)
                ledger = Ledger(folder, identity, warn=warn)
                if job.replace_failed:
                    if discard_failed(folder, job.max_error_rate, keep=identity.run_id):
                        consulted, identity = add_consulted(own, job, folder, stores)
                        ledger = Ledger(folder, identity, warn=warn)
                    retry_failed(folder, ledger)
                # Workers may run in another folder than the driver.
                out = job.out if is_in_store(job.out) else os.path.abspath(job.out)
                worker = Worker(
                    replace(job, out=out),
                    identity.run_id,
                    images.folder,
                    images.extra,
                    source.portable(model),
                    tuple(resolve(image, images.folder) for image in images.sample if image),
                    embedding_size,
                    consulted,
                )
                work = distinct.enter_context(find_distinct(images)) if job.once else images
                trace.listed(time.monotonic() - began, rows=images.rows, run_id=identity.run_id)
                run = RunAttempt(
                    job,
                    work,
                    ledger,
                    identity.run_id,
                    model,
                    shard,
                    counter,
                    left_out,
                    refresh=refresh,
                    trace=trace,
                )
                summary = run.execute(engine, worker, stop)
                if summary.complete:
                    remove_earlier(identity.run_id)
                return summary
        except Interrupted:
            raise Stopped(stop.signal, counter.recorded, counter.progress.total) from None


def identify_run(
    job: ScoreJob, images: ImageList, model: ModelIdentity, columns: tuple[str, ...] | None
) -> RunIdentity:
    """The identity of the run of a job, apart from the earlier runs that it copies from.

    Args:
        job: Job to do.
        images: List of the job.
        model: Identity of the model that scores.
        columns: Columns that `jobs.output.chosen_columns.choose_columns` returned.
    """
    limits = ImageLimits()
    return RunIdentity(
        list_sha256=images.sha256,
        list_folder=images.folder if images.has_relative else None,
        column=images.column,
        keep=tuple(images.extra.names),
        types=images.types,
        model_digest=model.digest,
        chunk_size=job.chunk_size,
        max_bytes=limits.max_bytes,
        max_pixels=limits.max_pixels,
        boxes=job.boxes,
        hosts=tuple(sorted(set(job.hosts))),
        runtime=model.runtime,
        faces=model.faces,
        embeddings=job.embeddings,
        columns=columns,
        content_hash=job.content_hash,
        once=job.once,
    )


def add_consulted(
    identity: RunIdentity, job: ScoreJob, folder: Folder, stores: Stores, *, keep: bool = True
) -> tuple[Consulted | None, RunIdentity]:
    """The earlier runs that a run copies from, and its identity with them.

    Args:
        identity: Identity that `identify_run` returned.
        job: Job to do.
        folder: Folder of the output.
        stores: Clients of the object stores.
        keep: Whether the runs are recorded for later attempts.
    """
    if job.since is None:
        return None, identity
    consulted = consult(job.since, folder, identity, stores, keep=keep)
    return consulted, replace(identity, since=consulted.digest)
