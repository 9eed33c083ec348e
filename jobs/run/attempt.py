"""One attempt of a run: finds what is missing, has it scored, retries, and finishes the run."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import closing
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from handler.telemetry import SilentTelemetry
from handler.values.prediction import ModelIdentity
from jobs.engines.base import Engine
from jobs.engines.signals import Interrupted, StopRequest
from jobs.lists.distinct import DistinctImages
from jobs.lists.image_list import ImageList
from jobs.monitoring.counter import ProgressCounter, TooManyFailed, judge, judged
from jobs.monitoring.summary import Summary
from jobs.monitoring.trace import RunTrace
from jobs.output.ledger import Ledger
from jobs.output.listed_rows import ListedRows
from jobs.scoring.worker import Worker
from jobs.storage.folders import ObjectMissing
from jobs.values import chunks
from jobs.values.chunks import Chunk
from jobs.values.layout import part_name
from jobs.values.tasks import PartReport, Task

if TYPE_CHECKING:
    from jobs.values.job import ScoreJob

_UNREACHABLE = "fetch/unreachable"
DEFAULT_REFRESH = 60.0


class RunAttempt:
    """Scores what is missing of a run, and finishes the run when nothing is missing.

    Args:
        job: Job to do.
        images: Images of the list; its distinct ones if each is scored once.
        ledger: Ledger of the output folder.
        run_id: Identifier of the run.
        model: Source of the model that scores.
        shard: Index of this attempt and number of attempts that divide the chunks.
        counter: Counter of the images.
        left_out: Number of files of a folder that are not scored, for each reason; empty for a
            list.
        refresh: Seconds between two looks at what other attempts of the run have done.
        trace: Receives the phases and chunks.
    """

    def __init__(
        self,
        job: ScoreJob,
        images: ImageList | DistinctImages,
        ledger: Ledger,
        run_id: str,
        model: ModelIdentity,
        shard: tuple[int, int],
        counter: ProgressCounter,
        left_out: Mapping[str, int],
        *,
        refresh: float = DEFAULT_REFRESH,
        trace: RunTrace | None = None,
    ) -> None:
        self._trace = trace or RunTrace(SilentTelemetry())
        self._job = job
        self._images = images
        self._ledger = ledger
        self._run_id = run_id
        self._model = model
        self._index, self._of = shard
        self._counter = counter
        self._left_out = left_out
        self._refresh = refresh
        self._started = datetime.now(UTC)
        self._began = time.monotonic()
        self._names = [
            part_name(Chunk(index, index * job.chunk_size, ()))
            for index in range(max(1, -(-images.rows // job.chunk_size)))
        ]
        self._done: set[str] = set()
        self._finished = False
        self._poison: dict[int, frozenset[int]] = {}
        self._reports: dict[str, PartReport] = {}
        self._scored: list[PartReport] = []

    def execute(self, engine: Engine, worker: Worker, stop: StopRequest) -> Summary:
        """Do the attempt; see `jobs.run.driver.score_list`."""
        if manifest := self._look():
            counted = judged(manifest)
            self._counter.begin(counted["rows"], rows=counted["rows"])
            self._counter.add(counted["rows"], counted["reasons"], earlier=True)
            judge(counted["rows"], counted["reasons"], self._job.max_error_rate)
            return self._summary(manifest)
        try:
            return self._do(engine, worker, stop)
        except TooManyFailed as failed:
            self._ledger.mark_failed(failed.progress.reasons)
            raise

    def _do(self, engine: Engine, worker: Worker, stop: StopRequest) -> Summary:
        total = sum(self._rows_of(index) for index in self._mine())
        self._counter.begin(total, rows=self._images.rows)
        self._count_parts(name for name in self._my_names() if name in self._done)
        lost = {name for name, report in self._reports.items() if _is_lost(report)}
        with self._trace.phase("work"):
            self._work(self._missing(), engine, worker, stop)
        # Done by other attempts during this one.
        self._count_parts(n for n in self._my_names() if n in self._done and n not in self._reports)
        self._retry_unreachable(engine, worker, stop, lost)
        if self._of > 1:
            manifest = self._look()
            if manifest is None and not self._done.issuperset(self._names):
                return self._summary(None)
        self._judge()
        facts = self._facts()
        with self._trace.phase("finish"):
            manifest = self._ledger.finish(
                self._names,
                model=self._model,
                list_location=self._job.image_list,
                facts=facts,
                expand=self._expansion(),
            )
        return self._summary(manifest)

    def _look(self) -> dict[str, Any] | None:
        """Read the state of the run; gives the manifest of a finished one."""
        state = self._ledger.claim()
        self._done = set(state.parts)
        self._poison.update(state.poison)
        self._finished = state.manifest is not None
        return state.manifest

    def _count_parts(self, names: Iterable[str]) -> None:
        """Count what other attempts have done."""
        if self._finished:
            return
        try:
            reports = self._ledger.load_part_stats(list(names))
        except ObjectMissing:
            # The attempt that finishes the run deletes its parts.
            if self._look() is None:
                raise
            return
        for report in reports:
            self._reports[report.name] = report
            self._counter.record(report)
            self._counter.add(report.rows, report.reasons, earlier=True)

    def _work(
        self, todo: Iterator[Task], engine: Engine, worker: Worker, stop: StopRequest
    ) -> None:
        with (
            stop.graceful(),
            closing(
                engine.run(
                    todo, worker, on_images=self._counter.add, on_poison=self._quarantine, stop=stop
                )
            ) as reports,
        ):
            for report in reports:
                self._reports[report.name] = report
                self._scored.append(report)
                self._counter.record(report)
                self._trace.chunk(report)
        if stop.is_set():
            raise Interrupted

    def _missing(self) -> Iterator[Task]:
        looked = time.monotonic()
        for chunk in self._chunks():
            if time.monotonic() - looked >= self._refresh:
                if self._look() is not None:
                    return
                looked = time.monotonic()
            if part_name(chunk) not in self._done:
                yield self._task(chunk)

    def _retry_unreachable(
        self, engine: Engine, worker: Worker, stop: StopRequest, lost: Collection[str]
    ) -> None:
        """Score chunks with unreachable images again; the server may be back.

        So are the ``lost`` ones, of which an earlier attempt could fetch nothing at all: perhaps it
        was stopped because nothing may be read, and that has been mended.
        """
        again = [r for r in self._reports.values() if r.reasons.get(_UNREACHABLE) or r.name in lost]
        if self._finished or not again:
            return
        for report in again:
            self._counter.revert(report)
        names = {report.name for report in again}
        todo = (self._task(chunk) for chunk in self._chunks() if part_name(chunk) in names)
        with self._trace.phase("retry"):
            self._work(todo, engine, worker, stop)

    def _judge(self) -> None:
        """Judge the whole run, the chunks of other shards included, before it is finished."""
        if self._finished:
            return
        others = [name for name in self._names if name not in self._reports]
        try:
            stats = self._ledger.load_part_stats(others)
        except ObjectMissing:
            if self._look() is None:
                raise
            return
        reasons = Counter[str]()
        for report in (*self._reports.values(), *stats):
            reasons.update(report.reasons)
        judge(self._images.rows, reasons, self._job.max_error_rate)

    def _quarantine(self, chunk: Chunk, positions: frozenset[int]) -> None:
        self._ledger.quarantine(chunk, positions)
        self._poison[chunk.index] = positions

    def _task(self, chunk: Chunk) -> Task:
        return Task(chunk, skip=self._poison.get(chunk.index, frozenset()))

    def _chunks(self) -> Iterator[Chunk]:
        """The chunks of this attempt's shard."""
        if self._images.rows:
            for chunk in chunks.split(self._images, self._job.chunk_size):
                if chunk.index % self._of == self._index:
                    yield chunk
        elif self._index == 0:
            # One part without rows, so that readers of the folder find the columns.
            yield Chunk(0, 0, ())

    def _mine(self) -> range:
        return range(self._index, len(self._names), self._of)

    def _my_names(self) -> list[str]:
        return [self._names[index] for index in self._mine()]

    def _rows_of(self, index: int) -> int:
        size = self._job.chunk_size
        return min(size, self._images.rows - index * size)

    def _facts(self) -> Mapping[str, Any]:
        summary = self._summary(None)
        return {
            "started": self._started.isoformat(timespec="seconds"),
            "seconds": round(summary.seconds, 3),
            "images": summary.scored,
            "images_per_second": round(summary.images_per_second, 3),
            "busy_share": round(summary.busy_fraction, 4),
            **({"left_out": dict(self._left_out)} if self._left_out else {}),
        }

    def _expansion(self) -> ListedRows | None:
        found = self._images
        if not isinstance(found, DistinctImages):
            return None
        return ListedRows(found.listed, found.numbers, found.repeated, found.listed.extra)

    def _summary(self, manifest: Mapping[str, Any] | None) -> Summary:
        return Summary.of(
            list(self._reports.values()),
            self._scored,
            manifest,
            run_id=self._run_id,
            out=self._job.out,
            seconds=time.monotonic() - self._began,
            left_out=self._left_out,
        )


def _is_lost(report: PartReport) -> bool:
    """Whether no image of a part could be fetched."""
    fetching = sum(n for reason, n in report.reasons.items() if reason.startswith("fetch/"))
    return 0 < fetching == report.rows
