"""Requests that were read -> answers: the server's half of `Predictor`, without any server in it.

Every request of a batch gets a status and a JSON document of its own. What fails one image fails
that image: if the batch cannot be scored as a whole, its images are scored one by one. No answer
grows beyond what a server can carry: objects and heat maps are capped, and then its bytes.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from handler.batch_metrics import Measures, stage
from handler.images import pixels_of
from handler.predictor import Predictor
from handler.serving.requests import Asked
from handler.values.limits import ImageLimits
from handler.values.prediction import Prediction, Refusal

MAX_OBJECTS = 100  # the most attended ones
MAX_SIDE = 64  # rows and columns of a heat map
# Pixels of all images of one request: five megabytes can hold 32 pictures of 64 million each.
MAX_PIXELS = 4 * ImageLimits().max_pixels
MAX_BYTES = 4_000_000  # TorchServe's worker dies of one answer of 6.5 MB

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Answer:
    """What one client gets: HTTP status and a JSON document."""

    status: int
    body: bytes


class Answerer:
    """Answers batches of requests with one predictor."""

    def __init__(self, predictor: Predictor, *, max_bytes: int = MAX_BYTES) -> None:
        self.predictor = predictor
        self.max_bytes = max_bytes

    def answer(
        self, requests: Sequence[Asked | Refusal], measures: Measures | None = None
    ) -> list[Answer]:
        """One answer for each request, in order.

        Args:
            requests: as `handler.serving.requests.read_request` gives them.
            measures: takes what the batch cost and came to.
        """
        measures = measures or Measures()
        requests = [_affordable(request) for request in requests]
        images = [
            image
            for request in requests
            if isinstance(request, Asked)
            for image in request.images
            if isinstance(image, bytes)
        ]
        explain = any(isinstance(request, Asked) and request.explain for request in requests)
        with stage(measures, "whole"):
            scored = iter(self._score(images, explain, measures))
            answers = []
            for request in requests:
                if isinstance(request, Refusal):
                    measures.refused(request.code)
                    answers.append(_refused(request))
                    continue
                said = [
                    next(scored) if isinstance(image, bytes) else image for image in request.images
                ]
                _count(measures, request, said)
                answers.append(self._document(request, said, measures))
        return answers

    def _document(
        self, request: Asked, said: Sequence[Prediction | Refusal], measures: Measures
    ) -> Answer:
        if not request.many and isinstance(said[0], Refusal):
            return _refused(said[0])
        model = self.predictor.model
        documents = [
            one.to_dict()
            if isinstance(one, Refusal)
            else capped(one).to_dict(model, explain=request.explain)
            for one in said
        ]
        document: dict[str, Any] = {"predictions": documents} if request.many else documents[0]
        body = json.dumps(document).encode()
        if len(body) > self.max_bytes:
            refusal = Refusal(
                413,
                f"the answer would have {len(body)} bytes, more than {self.max_bytes}; "
                "ask for fewer images at a time, or without explanations",
            )
            measures.refused(refusal.code)
            return _refused(refusal)
        return Answer(200, body)

    def _score(
        self, images: Sequence[bytes], explain: bool, measures: Measures
    ) -> list[Prediction | Refusal]:
        try:
            return self.predictor.predict(images, explain=explain, measures=measures)
        except Exception as error:
            if len(images) <= 1:
                return [_failure(error) for _ in images]
            # One of them did it: the others shall not pay, and the server shall not restart.
            _log.warning("a batch of %d failed (%s); one by one", len(images), _line(error))
        return [one for image in images for one in self._score([image], explain, measures)]


def _affordable(request: Asked | Refusal) -> Asked | Refusal:
    """The request without the images that make it too much work for one."""
    if isinstance(request, Refusal) or not request.many:
        return request
    spent = 0
    images: list[bytes | Refusal] = []
    for image in request.images:
        pixels = pixels_of(image) if isinstance(image, bytes) else 0
        if spent + pixels <= MAX_PIXELS:
            spent += pixels
            images.append(image)
            continue
        reason = f"with this image the request has more than {MAX_PIXELS} pixels: send it by itself"
        images.append(Refusal(413, reason))
    return replace(request, images=tuple(images))


def capped(prediction: Prediction) -> Prediction:
    """The same with its most attended objects only, and a heat map that is not too fine."""
    activation = prediction.activation
    if activation is not None and max(len(activation), len(activation[0])) > MAX_SIDE:
        activation = _coarser(activation)
    if len(prediction.objects) > MAX_OBJECTS or activation is not prediction.activation:
        objects = prediction.objects[:MAX_OBJECTS]
        return replace(prediction, objects=objects, activation=activation)
    return prediction


def _coarser(grid: tuple[tuple[float, ...], ...]) -> tuple[tuple[float, ...], ...]:
    """Each cell of the result is the mean of a block of cells."""
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


def _count(measures: Measures, request: Asked, said: Sequence[Prediction | Refusal]) -> None:
    measures.images += len(said)
    measures.received += sum(len(image) for image in request.images if isinstance(image, bytes))
    for one in said:
        if isinstance(one, Refusal):
            measures.refused(one.code)
        elif one.face_count:
            measures.faces += 1


def _refused(refusal: Refusal) -> Answer:
    return Answer(refusal.code, json.dumps(refusal.to_dict()).encode())


def _failure(error: Exception) -> Refusal:
    # torch reports a lack of memory as a RuntimeError.
    if isinstance(error, MemoryError) or "alloc" in str(error) or "out of memory" in str(error):
        _log.warning("no memory for an image: %s", _line(error))
        return Refusal(507, "there is not enough memory for this image; try again later")
    _log.exception("an image could not be scored")
    return Refusal(500, f"this image could not be scored: {type(error).__name__}")


def _line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:200]}" if lines else type(error).__name__
