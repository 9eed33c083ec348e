"""One chunk: fetch -> decode -> predict -> rows.

Every listed image gives exactly one row, in the list's order, whatever happens to it. A chunk goes
through in windows of a few batches: while one window is scored, threads fetch the next, and no more
than these two are ever in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from types import TracebackType
from typing import Protocol

from handler.emotions import Wheel
from handler.errors import VeaError
from handler.images import ImageLimits
from handler.predictor import ModelIdentity, Prediction, Refusal
from jobs.chunks import Chunk
from jobs.fetch import Fetcher
from jobs.manifest import resolve
from jobs.s3_errors import ObjectRefused
from jobs.sink import FACE_BOX, FAILED, OK, Row

_BATCHES_PER_WINDOW = 2
_DECODE_KINDS = {400: "empty", 413: "too-large", 415: "not-an-image", 422: "damaged"}

OnImages = Callable[[int, int], None]
"""Told after each window: how many images it had, and how many of them failed."""


class ScoringFailed(VeaError):
    """The model itself fails, not one image; the message is one line for people."""


class Scores(Protocol):
    """What `handler.predictor.Predictor` offers, as far as jobs need it."""

    model: ModelIdentity
    wheel: Wheel
    batch_size: int
    limits: ImageLimits

    def predict(self, images: Sequence[bytes]) -> list[Prediction | Refusal]:
        """One answer for each image, in order."""


class ChunkScorer:
    """Scores chunks with one model; a context manager, since it owns threads.

    Args:
        predictor: the model.
        fetcher: of the images.
        run_id: written into every row.
        folder: what relative images are relative to.
        threads: that fetch.
    """

    def __init__(
        self, predictor: Scores, fetcher: Fetcher, *, run_id: str, folder: str, threads: int
    ) -> None:
        self._predictor = predictor
        self._fetcher = fetcher
        self._folder = folder
        self._window = _BATCHES_PER_WINDOW * predictor.batch_size
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="vea-fetch")
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
        self._pool.shutdown(cancel_futures=True)

    def score(self, chunk: Chunk, on_images: OnImages | None = None) -> list[Row]:
        """The rows of a chunk.

        Raises:
            S3Error: no image can be had from S3.
            ScoringFailed: the model fails on every image of a window.
        """
        rows: list[Row] = []
        for fetched in self._windows(chunk.images):
            start = chunk.start + len(rows)
            scored = self._score_window(fetched)
            failed = 0
            for offset, answer in enumerate(scored):
                position = start + offset
                image = chunk.images[position - chunk.start]
                rows.append({"position": position, "image": image, **answer, **self._origin})
                failed += answer["status"] == FAILED
            if on_images:
                on_images(len(scored), failed)
        return rows

    def _windows(self, images: Sequence[str]) -> Iterator[list[bytes | ObjectRefused]]:
        """The bytes of one window after the other, with the next one under way."""
        rest = iter(images)
        coming = self._start(rest)
        while coming:
            current, coming = coming, self._start(rest)
            fetched = [future.result() for future in current]
            current.clear()  # futures keep their results alive
            yield fetched

    def _start(self, rest: Iterator[str]) -> list[Future[bytes | ObjectRefused]]:
        return [self._pool.submit(self._fetch, image) for image in islice(rest, self._window)]

    def _fetch(self, image: str) -> bytes | ObjectRefused:
        try:
            return self._fetcher.fetch(resolve(image, self._folder))
        except ObjectRefused as refused:
            return refused

    def _score_window(self, fetched: Sequence[bytes | ObjectRefused]) -> list[Row]:
        answers = iter(self._predict([item for item in fetched if isinstance(item, bytes)]))
        return [
            next(answers) if isinstance(item, bytes) else _failed("fetch", item.kind, item.reason)
            for item in fetched
        ]

    def _predict(self, images: Sequence[bytes]) -> list[Row]:
        if not images:
            return []
        try:
            return [_row(answer) for answer in self._predictor.predict(images)]
        except Exception as error:
            # Something that the predictor does not foresee. One at a time shows whose fault it is.
            rows = [self._predict_alone(image) for image in images]
            if len(rows) > 1 and all(row.get("stage") == "predict" for row in rows):
                raise ScoringFailed(f"the model fails on every image: {_line(error)}") from error
            return rows

    def _predict_alone(self, image: bytes) -> Row:
        try:
            return _row(self._predictor.predict([image])[0])
        except Exception as error:
            return _failed("predict", "error", _line(error))


def _row(answer: Prediction | Refusal) -> Row:
    if isinstance(answer, Refusal):
        return _failed("decode", _DECODE_KINDS.get(answer.code, "refused"), answer.reason)
    box = answer.face.box if answer.face else (None,) * len(FACE_BOX)
    return {
        "status": OK,
        "stage": None,
        "reason_kind": None,
        "reason": None,
        "emotion": answer.emotion,
        **{f"p_{emotion}": p for emotion, p in answer.probabilities.items()},
        "polarity": answer.polarity,
        "p_positive": answer.p_positive,
        "faces": answer.face_count,
        **dict(zip(FACE_BOX, box, strict=True)),
        "width": answer.width,
        "height": answer.height,
    }


def _failed(stage: str, kind: str, reason: str) -> Row:
    return {"status": FAILED, "stage": stage, "reason_kind": kind, "reason": reason}


def _line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
