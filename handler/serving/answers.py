"""Parsed requests -> answers, with `Predictor` and independent of any server.

Every request of a batch gets a status and a JSON document of its own. If a batch cannot be scored
as a whole, its images are scored one by one, so that an error affects one image only. The size of
an answer is limited: first its objects and heat maps, then its bytes.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from handler.batch_metrics import BatchMetrics, stage
from handler.images import pixels_of
from handler.predictor import Predictor
from handler.serving.requests import InferenceRequest
from handler.values.limits import ImageLimits
from handler.values.prediction import Prediction, Refusal

MAX_OBJECTS = 100  # in an answer for an image; the most attended ones are kept
MAX_SIDE = 64  # rows and columns of a heat map
# Pixels of all images of one request: five megabytes can hold 32 pictures of 64 million pixels.
MAX_PIXELS = 4 * ImageLimits().max_pixels
MAX_BYTES = 4_000_000  # an answer of 6.5 MB kills TorchServe's worker

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Answer:
    """Answer to one request.

    Attributes:
        status: HTTP status.
        body: Encoded JSON document.
    """

    status: int
    body: bytes


class Responder:
    """Answers batches of requests with one predictor.

    Args:
        predictor: Predictor that scores the images.
        max_bytes: Size limit of an answer, in bytes.
        max_pixels: Limit on the pixels of all images of one request.
    """

    def __init__(
        self, predictor: Predictor, *, max_bytes: int = MAX_BYTES, max_pixels: int = MAX_PIXELS
    ) -> None:
        self.predictor = predictor
        self.max_bytes = max_bytes
        self.max_pixels = max_pixels

    def answer(
        self, requests: Sequence[InferenceRequest | Refusal], metrics: BatchMetrics | None = None
    ) -> list[Answer]:
        """One answer for each request, in order.

        Args:
            requests: Results of `handler.serving.requests.read_request`.
            metrics: Receives the metrics of the batch.
        """
        metrics = metrics or BatchMetrics()
        requests = [_limited(request, self.max_pixels) for request in requests]
        images = [
            image
            for request in requests
            if isinstance(request, InferenceRequest)
            for image in request.images
            if isinstance(image, bytes)
        ]
        explain = any(
            isinstance(request, InferenceRequest) and request.explain for request in requests
        )
        with stage(metrics, "whole"):
            scored = iter(self._score(images, explain, metrics))
            answers = []
            for request in requests:
                if isinstance(request, Refusal):
                    metrics.refused(request.code)
                    answers.append(_refused(request))
                    continue
                results = [
                    next(scored) if isinstance(image, bytes) else image for image in request.images
                ]
                _record(metrics, request, results)
                answers.append(self._document(request, results, metrics))
        return answers

    def _document(
        self,
        request: InferenceRequest,
        results: Sequence[Prediction | Refusal],
        metrics: BatchMetrics,
    ) -> Answer:
        if not request.many and isinstance(results[0], Refusal):
            return _refused(results[0])
        model = self.predictor.model
        documents = [
            one.to_dict()
            if isinstance(one, Refusal)
            else capped(one).to_dict(model, explain=request.explain)
            for one in results
        ]
        document: dict[str, Any] = {"predictions": documents} if request.many else documents[0]
        body = json.dumps(document).encode()
        if len(body) > self.max_bytes:
            refusal = Refusal(
                413,
                f"the answer would have {len(body)} bytes, more than {self.max_bytes}; "
                "send fewer images at a time, or do not request explanations",
            )
            metrics.refused(refusal.code)
            return _refused(refusal)
        return Answer(200, body)

    def _score(
        self, images: Sequence[bytes], explain: bool, metrics: BatchMetrics
    ) -> list[Prediction | Refusal]:
        try:
            return self.predictor.predict(images, explain=explain, metrics=metrics)
        except Exception as error:
            if len(images) <= 1:
                return [_failure(error) for _ in images]
            # One image caused it; the others must be answered, and the server must not restart.
            _log.warning(
                "a batch of %d failed (%s); its images are scored one by one",
                len(images),
                _line(error),
            )
        return [one for image in images for one in self._score([image], explain, metrics)]


def _limited(request: InferenceRequest | Refusal, max_pixels: int) -> InferenceRequest | Refusal:
    """The request without the images that exceed the pixel limit of one request."""
    if isinstance(request, Refusal) or not request.many:
        return request
    spent = 0
    images: list[bytes | Refusal] = []
    for image in request.images:
        pixels = pixels_of(image) if isinstance(image, bytes) else 0
        if spent + pixels <= max_pixels:
            spent += pixels
            images.append(image)
            continue
        reason = (
            f"with this image the request has more than {max_pixels} pixels; send it separately"
        )
        images.append(Refusal(413, reason))
    return replace(request, images=tuple(images))


def capped(prediction: Prediction) -> Prediction:
    """The prediction with at most `MAX_OBJECTS` objects and `MAX_SIDE` x `MAX_SIDE` map cells."""
    activation = prediction.activation
    if activation is not None and max(len(activation), len(activation[0])) > MAX_SIDE:
        activation = _coarser(activation)
    if len(prediction.objects) > MAX_OBJECTS or activation is not prediction.activation:
        objects = prediction.objects[:MAX_OBJECTS]
        return replace(prediction, objects=objects, activation=activation)
    return prediction


def _coarser(grid: tuple[tuple[float, ...], ...]) -> tuple[tuple[float, ...], ...]:
    """A smaller grid; each of its cells is the mean of a block of cells."""
    rows, columns = len(grid), len(grid[0])
    tall, wide = -(-rows // MAX_SIDE), -(-columns // MAX_SIDE)
    return tuple(
        tuple(
            _mean([v for row in grid[top : top + tall] for v in row[left : left + wide]])
            for left in range(0, columns, wide)
        )
        for top in range(0, rows, tall)
    )


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _record(
    metrics: BatchMetrics, request: InferenceRequest, results: Sequence[Prediction | Refusal]
) -> None:
    metrics.images += len(results)
    metrics.received += sum(len(image) for image in request.images if isinstance(image, bytes))
    for one in results:
        if isinstance(one, Refusal):
            metrics.refused(one.code)
        elif one.face_count:
            metrics.faces += 1


def _refused(refusal: Refusal) -> Answer:
    return Answer(refusal.code, json.dumps(refusal.to_dict()).encode())


def _failure(error: Exception) -> Refusal:
    # torch raises RuntimeError when memory is exhausted.
    if isinstance(error, MemoryError) or "alloc" in str(error) or "out of memory" in str(error):
        _log.warning("no memory for an image: %s", _line(error))
        return Refusal(507, "there is not enough memory for this image; try again later")
    _log.exception("an image could not be scored")
    return Refusal(500, f"this image could not be scored: {type(error).__name__}")


def _line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:200]}" if lines else type(error).__name__
