"""What passes between the driver of a job and its workers: tasks, reports, failures."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from jobs.values.chunks import Chunk

OnImages = Callable[[int, Mapping[str, int]], None]
"""Told how many images are through, and how many of them failed for each ``stage/reason_kind``;
numbers are negative when a worker's death has undone what it had told of."""


OnPoison = Callable[[Chunk, frozenset[int]], None]
"""Told which positions of a chunk kill, before the chunk is scored without them."""


@dataclass(frozen=True)
class Task:
    """What a worker is asked to do.

    Attributes:
        chunk: Chunk to be scored.
        skip: Positions whose images are not touched, not even fetched: each has killed a process
            before and gets a row that says so.
        probe: Positions in the list; if given, only these are scored, and nothing is written.
    """

    chunk: Chunk
    skip: frozenset[int] = frozenset()
    probe: range | None = None


@dataclass(frozen=True)
class PartReport:
    """What a part holds, without holding it.

    Attributes:
        name: Name of the object.
        bytes: Size in bytes.
        rows: Number of images in it.
        failed: Number of images without a prediction.
        reasons: Number of failed images for each ``stage/reason_kind``.
        seconds: Seconds from the start of its chunk to the end; 0 if an earlier attempt wrote it.
        busy: Seconds of these in which the model worked.
    """

    name: str
    bytes: int
    rows: int
    failed: int
    reasons: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    busy: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Failure:
    """Why there is no prediction: what failed (``stage``), why in a word, and in a line."""

    stage: str
    kind: str
    reason: str

    @classmethod
    def of(cls, stage: str, error: Exception) -> Failure:
        """Something that nobody foresaw."""
        return cls(stage, "error", f"{type(error).__name__}: {' '.join(str(error).split())[:200]}")
