"""Chunks -> rows: fetch -> decode -> predict.

Every listed image gives exactly one row, in the list's order, whatever happens to it. A chunk is
scored in batches that are cut by position, so that the images of a batch, and with them the last
digit of a probability, do not depend on which image arrived first. Meanwhile the next are fetched.

Memory is bounded by the number and size of the images in flight (`jobs.fetching.prefetch`).
"""

from __future__ import annotations

import math
import time
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from handler.values.emotions import Wheel
from handler.values.errors import VeaError
from handler.values.limits import ImageLimits
from handler.values.prediction import ModelIdentity, Prediction, Refusal
from jobs.fetching.prefetch import ImageFetcher, KnownAnswers, Pending, Prefetcher, ReadyImage
from jobs.output.parquet import CONTENT_HASH, FAILED, Row
from jobs.scoring.rows import failed_row, kept_picture, scored_row
from jobs.values.chunks import cut
from jobs.values.tasks import Failure, OnImages

if TYPE_CHECKING:
    from jobs.values.tasks import Task

_KILLED = Failure("predict", "killed", "the process died while it worked on this image")
DEFAULT_BYTES_PER_IMAGE = 32 * 1024 * 1024  # 11 megapixels

Picture = TypeVar("Picture", bound=ReadyImage)


class ScoringFailed(VeaError):
    """The model fails on every image; the message is one line for people."""


class Scores(Protocol[Picture]):
    """The part of `handler.predictor.Predictor` that jobs need, with tensors as pictures.

    The pictures of `jobs.scoring.endpoint.EndpointScores` are requests to a service.
    """

    model: ModelIdentity
    wheel: Wheel
    batch_size: int
    limits: ImageLimits

    def decode(self, data: bytes) -> Picture | Refusal:
        """An encoded image made ready; called in several threads."""

    def predict_decoded(
        self, images: Sequence[Picture | Refusal], *, embeddings: bool = False, detect: bool = False
    ) -> Sequence[Prediction | Refusal | Failure]:
        """One answer for each image, in order; the arguments are those of `Predictor`.

        Raises:
            VeaError: The job cannot be done.
            Exception: An unexpected error, perhaps caused by one of the images.
        """


@dataclass(frozen=True)
class Scored:
    """The result of a task.

    Attributes:
        rows: One row for each of the task's positions, in their order.
        began: Start of the work, on the monotonic clock.
        busy: Seconds in which the model worked on the task.
    """

    rows: list[Row]
    began: float
    busy: float


@dataclass(frozen=True)
class _Batch:
    """Positions of one task, with their images in flight; None for an image to be skipped."""

    task: Task
    positions: range
    coming: deque[Pending | None]


class ChunkScorer:
    """Scores chunks with one model; a context manager, since it owns threads.

    Args:
        predictor: Predictor with the model.
        fetcher: Fetcher of the images.
        run_id: Identifier of the run, written into every row.
        folder: Folder that relative images are relative to.
        extra: Names of the columns that pass through from the list.
        boxes: Whether rows have the objects' boxes.
        embeddings: Whether rows have the network's fused feature.
        content_hash: Whether rows have the digest of the image's bytes.
        once: Whether an image with the content of one before it in its task gets its answer.
        known: Answers of earlier runs.
        threads: Number of threads that fetch.
        decode_threads: Number of threads that decode.
        bytes_per_image: Bytes of decoded pictures in a batch for each image of the batch size. A
            batch of larger pictures is scored in pieces.
    """

    def __init__(
        self,
        predictor: Scores[Any],
        fetcher: ImageFetcher,
        *,
        run_id: str,
        folder: str,
        extra: Sequence[str] = (),
        boxes: bool = False,
        embeddings: bool = False,
        content_hash: bool = False,
        once: bool = False,
        known: KnownAnswers | None = None,
        threads: int,
        decode_threads: int = 1,
        bytes_per_image: int = DEFAULT_BYTES_PER_IMAGE,
    ) -> None:
        self._predictor = predictor
        self._extra = extra
        self._boxes = boxes
        # A model that gives no embeddings, or detects nothing, needs no such argument.
        self._wanted = {"embeddings": True} if embeddings else {}
        if boxes and predictor.model.detects:
            self._wanted["detect"] = True
        self._content_hash = content_hash
        # What an image with the same content does not get from the first one.
        self._own = {"position", "image", "etag", *extra}
        self._by_number: dict[int, Row] = {}
        self._batch_bytes = predictor.batch_size * bytes_per_image
        self._batches_ahead = math.ceil(threads / predictor.batch_size)
        self._prefetcher = Prefetcher(
            fetcher,
            predictor.decode,
            folder=folder,
            fetch_threads=threads,
            decode_threads=decode_threads,
            max_bytes=2 * self._batch_bytes,
            hashed=content_hash,
            once=once,
            known=known,
        )
        model = predictor.model
        self._origin = {
            "model_name": model.name,
            "model_version": model.version,
            "model_digest": model.digest,
            "run_id": run_id,
        }

    def __enter__(self) -> ChunkScorer:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._prefetcher.close()

    def score(self, task: Task, on_images: OnImages | None = None) -> Scored:
        """The rows of a task, in the order of its positions.

        Args:
            task: Chunk to score, or positions of it to probe.
            on_images: Told of each batch that is done.

        Raises:
            StorageError: No image can be fetched from S3.
            ScoringFailed: The model fails on every image of a batch.
            VeaError: The service that scores is away, or serves another model by now.
        """
        rows: list[Row] = []
        began, busy = time.monotonic(), 0.0
        self._prefetcher.forget_contents()
        self._by_number.clear()
        for batch in self._under_way(task):
            scored, seconds = self._score(batch)
            rows += scored
            busy += seconds
            if on_images:
                failed = [row for row in scored if row["status"] == FAILED]
                reasons = Counter(f"{row['stage']}/{row['reason_kind']}" for row in failed)
                on_images(len(scored), dict(reasons))
        return Scored(rows, began, busy)

    def _under_way(self, task: Task) -> Iterator[_Batch]:
        """The batches of a task, with the next ones being fetched."""
        waiting: deque[_Batch] = deque()
        whole = task.chunk.positions if task.probe is None else task.probe
        for positions in cut(whole, self._predictor.batch_size):
            coming = deque(self._begin(task, position) for position in positions)
            waiting.append(_Batch(task, positions, coming))
            if len(waiting) > self._batches_ahead:
                yield waiting.popleft()
        while waiting:
            yield waiting.popleft()

    def _begin(self, task: Task, position: int) -> Pending | None:
        if position in task.skip:
            return None
        entry = task.chunk.entries[position - task.chunk.start]
        keep = kept_picture(entry, self._extra) is not None
        return self._prefetcher.submit(entry.image, entry.inside, keep=keep)

    def _score(self, batch: _Batch) -> tuple[list[Row], float]:
        """The rows of a batch, and the time of the model in seconds."""
        rows: list[Row] = []
        pieces: list[tuple[Row, ReadyImage | Refusal]] = []
        again: list[tuple[Row, int]] = []
        held, busy = 0, 0.0
        for position in batch.positions:
            coming = batch.coming.popleft()  # its picture must not stay as long as the batch
            entry = batch.task.chunk.entries[position - batch.task.chunk.start]
            row: Row = {"position": position, "image": entry.image, **self._origin}
            row.update(zip(self._extra, entry.extra, strict=True))
            rows.append(row)
            if coming is None:
                row.update(failed_row(_KILLED))
                continue
            arrived = self._prefetcher.get(coming)
            row["etag"] = arrived.etag
            if field := kept_picture(entry, self._extra):
                row[field] = arrived.data
            if self._content_hash:
                row[CONTENT_HASH] = arrived.content
            if arrived.same_as is not None:
                again.append((row, arrived.same_as))
                continue
            self._by_number[coming.number] = row
            if arrived.image is None:
                row.update(arrived.known or {})
                continue
            if isinstance(arrived.image, Failure):
                row.update(failed_row(arrived.image))
                continue
            pieces.append((row, arrived.image))
            held += arrived.bytes
            if held >= self._batch_bytes:
                busy += self._predict(pieces)
                pieces.clear()
                self._prefetcher.release(held)
                held = 0
        busy += self._predict(pieces)
        self._prefetcher.release(held)
        for row, number in again:
            first = self._by_number[number]
            row.update({name: value for name, value in first.items() if name not in self._own})
        return rows, busy

    def _predict(self, pieces: Sequence[tuple[Row, ReadyImage | Refusal]]) -> float:
        """Add the model's answers to the rows; returns the time of the model in seconds."""
        if not pieces:
            return 0.0
        began = time.monotonic()
        images = [image for _, image in pieces]
        try:
            answers = [self._row(answer) for answer in self._answers(images)]
        except VeaError:
            raise  # not caused by an image
        except Exception as error:
            # An unexpected error. One image at a time shows which of them causes it.
            answers = [self._predict_alone(image) for image in images]
            judged = [answer for answer in answers if answer["stage"] != "decode"]
            if len(judged) > 1 and all(answer["stage"] == "predict" for answer in judged):
                reason = Failure.of("predict", error).reason
                raise ScoringFailed(f"the model fails on every image: {reason}") from error
        seconds = time.monotonic() - began
        for (row, _), answer in zip(pieces, answers, strict=True):
            row.update(answer)
        return seconds

    def _predict_alone(self, image: ReadyImage | Refusal) -> Row:
        try:
            return self._row(self._answers([image])[0])
        except Exception as error:
            return failed_row(Failure.of("predict", error))

    def _answers(
        self, images: Sequence[ReadyImage | Refusal]
    ) -> Sequence[Prediction | Refusal | Failure]:
        return self._predictor.predict_decoded(images, **self._wanted)

    def _row(self, answer: Prediction | Refusal | Failure) -> Row:
        if isinstance(answer, Failure):
            return failed_row(answer)
        if isinstance(answer, Refusal):
            return failed_row(Failure("decode", answer.kind, answer.reason))
        return scored_row(answer, boxes=self._boxes)
