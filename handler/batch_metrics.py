"""Metrics of one batch: seconds of each stage, images, faces, refusals.

`Predictor` and `Responder` record into a `BatchMetrics`; the server reads it after the batch and
reports it to its monitoring. Without a `BatchMetrics`, `stage` does nothing.
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

from handler.values.prediction import REFUSAL_KINDS

# Reasons are sentences with figures in them; monitoring needs a small, fixed set of labels.
_KINDS = {**REFUSAL_KINDS, 400: "bad-request", 500: "failed", 507: "out-of-memory"}


class BatchMetrics:
    """Metrics of one batch.

    Attributes:
        seconds: Wall time of each stage: ``decode``, ``select``, ``network``, ``whole`` and, where
            the 8-bit form was unsure, ``recheck``, where reasons were wanted, ``detect``.
        images: Number of images in all requests of the batch.
        faces: Number of images in which a face was found.
        refusals: Number of refused images and requests, by reason.
        received: Bytes of the images.
    """

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self.images = 0
        self.faces = 0
        self.received = 0
        self.refusals: Counter[str] = Counter()

    def add(self, stage: str, seconds: float) -> None:
        """Record the duration of a stage."""
        self.seconds[stage] += seconds

    def refused(self, code: int) -> None:
        """Record a refusal with this HTTP status."""
        self.refusals[_KINDS.get(code, "other")] += 1


@contextmanager
def stage(metrics: BatchMetrics | None, name: str) -> Iterator[None]:
    """Record the duration of the block as stage ``name``; do nothing if ``metrics`` is None."""
    if metrics is None:
        yield
        return
    began = time.perf_counter()
    try:
        yield
    finally:
        metrics.add(name, time.perf_counter() - began)
