"""What a batch cost and came to: seconds of each stage, images, faces, refusals.

`Predictor` and `Answerer` note into a `Measures` where the stages are; a server reads it when the
batch is done and tells its monitoring. Where nobody measures there is no `Measures`, and `stage`
does nothing.
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

from handler.values.prediction import REFUSAL_KINDS

# Reasons are sentences with figures in them; monitoring needs a few fixed words.
_KINDS = {**REFUSAL_KINDS, 400: "bad-request", 500: "failed", 507: "out-of-memory"}


class Measures:
    """Of one batch.

    Attributes:
        seconds: of each stage by the clock: ``decode``, ``select``, ``network`` and ``whole``.
        images: that were sent, in all requests of the batch.
        faces: images in which a face was found.
        refusals: images and requests refused, by reason.
        received: bytes of the images.
    """

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self.images = 0
        self.faces = 0
        self.received = 0
        self.refusals: Counter[str] = Counter()

    def add(self, stage: str, seconds: float) -> None:
        """Note that a stage took so long."""
        self.seconds[stage] += seconds

    def refused(self, code: int) -> None:
        """Note a refusal with this status."""
        self.refusals[_KINDS.get(code, "other")] += 1


@contextmanager
def stage(measures: Measures | None, name: str) -> Iterator[None]:
    """Measure a stage, if anybody measures."""
    if measures is None:
        yield
        return
    began = time.perf_counter()
    try:
        yield
    finally:
        measures.add(name, time.perf_counter() - began)
