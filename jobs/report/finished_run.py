"""A finished run as a report shows it, and the dates in the locations of runs."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

from handler.values.errors import VeaError
from jobs.output.parquet import OK

_DATE = re.compile(r"(?<![0-9])([0-9]{4}-[0-9]{2}-[0-9]{2})(?![0-9])")


class ReportError(VeaError):
    """There is nothing to report on; the message is one line for people."""


@dataclass(frozen=True)
class Example:
    """An image that is shown.

    Attributes:
        position: Position in the list.
        image: Image as the list spells it.
        etag: Entity tag of the object that was scored, if it has one.
        emotion: Most probable emotion.
        confidence: Probability of the emotion, 0 to 1.
        faces: Number of faces found; None where none were looked for.
        objects: Number of objects found.
    """

    position: int
    image: str
    etag: str | None
    emotion: str
    confidence: float
    faces: int | None
    objects: int

    @property
    def content(self) -> str:
        """Identifier of the image's content; copies of an object have the same."""
        return self.etag or self.image


@dataclass(frozen=True)
class FinishedRun:
    """A finished run.

    Attributes:
        location: Location of the run's folder.
        date: Date in the location; None if there is none.
        manifest: Manifest of the run, see `jobs.output.ledger`.
        labels: Emotions of the model's wheel.
        positive: Number of images with a positive polarity.
        with_face: Number of images with at least one face; None where none were looked for.
        confidence: Mean probability of the most probable emotion; None without scored images.
        most_confident: Most confident images, in descending order of confidence.
        least_confident: Least confident images, in ascending order of confidence.
    """

    location: str
    date: date | None
    manifest: dict[str, Any]
    labels: tuple[str, ...]
    positive: int
    with_face: int | None
    confidence: float | None
    most_confident: tuple[Example, ...] = ()
    least_confident: tuple[Example, ...] = ()

    @property
    def title(self) -> str:
        """The date, or the location where that has none."""
        return self.date.isoformat() if self.date else self.location

    @property
    def rows(self) -> int:
        """Images of the run."""
        return int(self.manifest["rows"])

    @property
    def ok(self) -> int:
        """Images with a prediction."""
        return int(self.manifest["status"][OK])

    @property
    def failed(self) -> int:
        """Images without a prediction."""
        return self.rows - self.ok

    @property
    def emotions(self) -> dict[str, int]:
        """Images by their most probable emotion, in the order of the wheel."""
        return {label: int(self.manifest["emotions"].get(label, 0)) for label in self.labels}

    @property
    def reasons(self) -> dict[str, int]:
        """Failed images by ``stage/reason_kind``, the most frequent first."""
        return dict(sorted(self.manifest["reasons"].items(), key=lambda item: (-item[1], item[0])))


def date_in(location: str) -> date | None:
    """The last date (2026-11-23) in a location, as in ``s3://results/dt=2026-11-23``."""
    found = None
    for text in _DATE.findall(location):
        try:
            found = date.fromisoformat(text)
        except ValueError:
            continue  # digits that look like a date, such as 2026-99-99
    return found


def earlier_locations(location: str, days: int) -> list[str]:
    """Locations that the same command wrote to on the days before, the latest first.

    Args:
        location: Location with a date in it.
        days: Number of days.

    Raises:
        ReportError: There is no date in the location.
    """
    day = date_in(location)
    if day is None:
        raise ReportError(
            f"there is no date such as 2026-11-23 in '{location}' to find earlier runs by: name "
            "them with --against"
        )
    return [
        location.replace(day.isoformat(), (day - timedelta(days=back)).isoformat())
        for back in range(1, days + 1)
    ]
