"""What a run would do: `vea score --dry-run`. Nothing is written, and no image is read.

The list is read, the model or the service is asked for its identity, and the output folder for what
is there. Whether the output can be written is not known before it is.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa

from handler.values.prediction import ModelIdentity
from jobs.lists.distinct import find_distinct
from jobs.lists.image_list import ImageList
from jobs.lists.many_files import is_folder_of_parts
from jobs.lists.prefix import LISTING, snapshot_prefix
from jobs.output import parquet
from jobs.output.chosen_columns import choose_columns, chosen_schema
from jobs.output.compaction import ROWS_PER_FILE
from jobs.output.ledger import Ledger
from jobs.output.partitions import path_columns
from jobs.output.run_state import RunState
from jobs.run.declared_list import open_declared
from jobs.run.driver import add_consulted, identify_run
from jobs.run.earlier_rate import MeasuredRate, earlier_rate
from jobs.run.replacement import is_marked, would_discard
from jobs.scoring.sources import LoadPredictor, source_of
from jobs.storage.folders import Folder, LocalFolder, open_folder
from jobs.storage.stores import Stores
from jobs.values.chunks import Chunk
from jobs.values.job import ScoreJob, shard_of
from jobs.values.layout import IDENTITY, RUN, part_name
from jobs.values.locations import is_in_store, is_object, is_prefix, is_web, resolve

_MAX_SOURCES = 20  # buckets and hosts that are counted by name
NEW, INTERRUPTED, FINISHED, REPLACED = "new", "interrupted", "finished", "replaces a failed run"


@dataclass(frozen=True)
class RunPlan:
    """What a run would read and write.

    Attributes:
        image_list: Location of the list.
        out: Folder of the output.
        run_id: Identifier of the run.
        model: Model that would score.
        state: ``"new"``, ``"interrupted"``, ``"finished"`` or ``"replaces a failed run"``.
        rows: Number of images of the list.
        sources: Number of images by bucket, host or kind of place.
        left_out: Number of files of a folder that would not be scored, for each reason.
        columns: Names and types of the columns of the result, in their order.
        chunks: Number of chunks of this shard.
        chunks_done: Number of these chunks that are done.
        images: Number of images that this attempt would fetch and score, or would find to be known.
        files: Number of files that the rows would be in.
        rate: Rate of an earlier run of the same model; None if there is none.
    """

    image_list: str
    out: str
    run_id: str
    model: ModelIdentity
    state: str
    rows: int
    sources: dict[str, int]
    left_out: dict[str, int]
    columns: dict[str, str]
    chunks: int
    chunks_done: int
    images: int
    files: int
    rate: MeasuredRate | None

    @property
    def seconds(self) -> float | None:
        """Estimated duration of the attempt, at the measured rate; None if that is unknown."""
        return None if self.rate is None else self.images / self.rate.images_per_second

    @property
    def bytes(self) -> int | None:
        """Estimated size of the files; None if unknown."""
        return None if self.rate is None else round(self.rows * self.rate.bytes_per_row)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        values = asdict(self)
        values["list"] = values.pop("image_list")
        return {
            "dry_run": True,
            **values,
            "model": self.model.to_dict(),
            "estimated_seconds": self.seconds,
            "estimated_bytes": self.bytes,
        }


def plan_run(
    job: ScoreJob,
    *,
    load: LoadPredictor | None = None,
    warn: Callable[[str], None] | None = None,
    accept: Callable[[pa.Schema, ImageList], None] | None = None,
) -> RunPlan:
    """Look at what `jobs.run.driver.score_list` would do, with the same refusals.

    Args:
        job: Job to look at.
        load: Function that reads the archive, as for `score_list`.
        warn: Function that is told, in one line, which columns would be left out.
        accept: Function that may refuse the result's columns, as for `score_list`.

    Raises:
        VeaError: The job cannot be done; the message is one line that says why.
    """
    for place in (job.image_list, job.out, job.since or ""):
        is_in_store(place)
    index, of = shard_of(job.shard)
    source = source_of(job, load)
    model, emotions = source.identify()
    embedding_size = source.embedding_size() if job.embeddings else None
    with ExitStack() as stack:
        stores = stack.enter_context(closing(Stores(threads=16, retry=job.retry)))
        folder = open_folder(job.out, stores, create=False)
        location, left_out = job.image_list, dict[str, int]()
        if is_prefix(location) and not is_folder_of_parts(location, stores):
            scratch = LocalFolder(stack.enter_context(tempfile.TemporaryDirectory()))
            listed = folder if _has_listing(job, folder) else scratch
            snapshot = snapshot_prefix(location, listed, stores)
            location, left_out = snapshot.location, snapshot.left_out
        images = stack.enter_context(
            open_declared(job, location, stores, warn or (lambda line: None), keep=False)
        )
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
        if accept:
            accept(chosen_schema(columns, chosen), images)
        own = identify_run(job, images, model, chosen)
        identity = add_consulted(own, job, folder, stores, keep=False)[1]
        replaces = job.replace_failed and would_discard(
            folder, job.max_error_rate, keep=identity.run_id
        )
        ledger = Ledger(folder, identity)
        state = RunState(claimed=False) if replaces else ledger.look()
        done = set(state.parts)
        if job.replace_failed and done and is_marked(folder, folder.list(RUN)):
            done -= {report.name for report in ledger.load_part_stats(list(done)) if report.failed}
        hidden = {name.casefold() for name in path_columns(folder.location)}
        rows = stack.enter_context(find_distinct(images)).rows if job.once else images.rows
        counts = range(index, max(1, -(-rows // job.chunk_size)), of)
        todo = [number for number in counts if _part(number) not in done]
        if state.manifest is not None:
            todo = []
        return RunPlan(
            image_list=job.image_list,
            out=job.out,
            run_id=identity.run_id,
            model=model,
            state=REPLACED if replaces else _state(state),
            rows=images.rows,
            sources=_sources(images),
            left_out={**left_out, **images.left_out},
            columns={
                name: str(columns.field(name).type)
                for name in chosen or columns.names
                if name.casefold() not in hidden
            },
            chunks=len(counts),
            chunks_done=len(counts) - len(todo),
            images=sum(min(job.chunk_size, rows - n * job.chunk_size) for n in todo),
            files=max(1, -(-images.rows // ROWS_PER_FILE)),
            rate=earlier_rate(job.out, model, stores),
        )


def _has_listing(job: ScoreJob, folder: Folder) -> bool:
    """Whether a run of a folder of images would use the listing that is in the output folder."""
    if job.replace_failed and would_discard(folder, job.max_error_rate, keep=None):
        return False
    return not {LISTING, IDENTITY}.isdisjoint(folder.list(RUN))


def _part(number: int) -> str:
    return part_name(Chunk(number, 0, ()))


def _state(state: RunState) -> str:
    if state.manifest is not None:
        return FINISHED
    return INTERRUPTED if state.claimed else NEW


def _sources(images: ImageList) -> dict[str, int]:
    """Number of images by the bucket, host or kind of place that they are in."""
    counts = Counter[str]()
    for entry in images:
        name = _source(entry.image, images.folder)
        counts[name if name in counts or len(counts) < _MAX_SOURCES else "elsewhere"] += 1
    return dict(counts.most_common())


def _source(image: str, folder: str) -> str:
    if not image:
        return "rows without an image"
    place = resolve(image, folder)
    if is_object(place) or is_web(place):
        return "/".join(place.split("/")[:3])
    return "this machine"
