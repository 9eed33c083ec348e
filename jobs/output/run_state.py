"""The state of a run, as its output folder shows it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class RunState:
    """State of a run.

    Attributes:
        manifest: Content of ``_manifest.json``, if the run is finished.
        claimed: Whether the folder belongs to the run already.
        parts: Names of the finished parts, with their sizes in bytes.
        poison: Positions of images that must not be touched again, by index of their chunk.
    """

    manifest: dict[str, Any] | None = None
    claimed: bool = True
    parts: dict[str, int] = field(default_factory=dict)
    poison: dict[int, frozenset[int]] = field(default_factory=dict)
