"""What passes between the driver of a job and its workers: tasks, reports, failures."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from jobs.values.chunks import Chunk

OnImages = Callable[[int, Mapping[str, int]], None]
"""Called with the number of images that are done, and of failed ones by ``stage/reason_kind``;
both are negative for images that are undone because their worker died."""


OnPoison = Callable[[Chunk, frozenset[int]], None]
"""Called with the positions of a chunk that kill, before the chunk is scored without them."""


@dataclass(frozen=True)
class Task:
    """Work for one worker.

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
    """Figures of a part, without its rows.

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
    """Why there is no prediction: the stage that failed, the reason as a word, and as a line."""

    stage: str
    kind: str
    reason: str

    @classmethod
    def of(cls, stage: str, error: Exception) -> Failure:
        """The failure for an unexpected exception."""
        return cls(stage, "error", f"{type(error).__name__}: {' '.join(str(error).split())[:200]}")
