"""Results of a benchmark: measurements, ratios between them, one JSON document."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

SCHEMA = 1


@dataclass
class Measurement:
    """The repetitions of one measured thing.

    Attributes:
        section: Table of the report, such as ``stages``.
        name: Name of the measured thing within its section.
        threads: Number of threads, or of worker processes with one thread each.
        photos: Number of photos of each repetition, without those of the start.
        x: Value of the varied quantity, in the sections that vary one.
        cpu: CPU seconds of each repetition, child processes included.
        wall: Wall-clock seconds of each repetition.
        start_cpu: CPU seconds of the start in each repetition, where it was measured apart.
        peak_mib: Largest resident memory of a single process in MiB, where it was measured.
        total_mib: Largest proportional memory of all processes together in MiB.
    """

    section: str
    name: str
    threads: int
    photos: int
    x: float | None = None
    cpu: list[float] = field(default_factory=list)
    wall: list[float] = field(default_factory=list)
    start_cpu: list[float] = field(default_factory=list)
    peak_mib: float | None = None
    total_mib: float | None = None

    @property
    def cpu_ms(self) -> float:
        """CPU milliseconds a photo, the median of the repetitions."""
        return statistics.median(self.cpu) / self.photos * 1e3

    @property
    def wall_ms(self) -> float:
        """Wall-clock milliseconds a photo, the median of the repetitions."""
        return statistics.median(self.wall) / self.photos * 1e3

    def to_dict(self) -> dict[str, Any]:
        """Every repetition and the medians, as plain values."""
        values = {k: _rounded(v) for k, v in asdict(self).items() if v not in (None, [])}
        values |= {"cpu_ms": round(self.cpu_ms, 3), "wall_ms": round(self.wall_ms, 3)}
        if self.start_cpu:
            values["start_cpu_seconds"] = round(statistics.median(self.start_cpu), 3)
        return values


@dataclass(frozen=True)
class Ratio:
    """How many times cheaper one way is than another, per photo and CPU second.

    Attributes:
        way: Name of the way.
        reference: Name of the way that it is compared with.
        threads: Number of threads or workers of both.
        value: Median over the repetitions of the reference's CPU time divided by the way's.
        low: Smallest ratio of a repetition.
        high: Largest ratio of a repetition.
    """

    way: str
    reference: str
    threads: int
    value: float
    low: float
    high: float


def ratio(way: Measurement, reference: Measurement) -> Ratio | None:
    """The ratio of two ways; their repetitions are paired, because they ran side by side.

    None if no pair can be compared, because so few photos cost less than the start varies.
    """
    pairs = zip(reference.cpu, way.cpu, strict=True)
    each = [
        (slow / reference.photos) / (fast / way.photos)
        for slow, fast in pairs
        if slow > 0 and fast > 0
    ]
    if not each:
        return None
    return Ratio(
        way.name,
        reference.name,
        way.threads,
        round(statistics.median(each), 2),
        round(min(each), 2),
        round(max(each), 2),
    )


def ratios(
    measurements: Sequence[Measurement], pairs: Iterable[tuple[str, str, str]]
) -> list[Ratio]:
    """The ratios of the named pairs, for each number of threads of the way.

    A reference that was not measured with as many threads is taken with one.

    Args:
        measurements: All measurements.
        pairs: Section, name of the way and name of its reference.
    """
    known = {(m.section, m.name, m.threads): m for m in measurements}
    found = []
    for section, way, reference in pairs:
        threads = sorted({t for part, name, t in known if (part, name) == (section, way)})
        for count in threads:
            other = known.get((section, reference, count)) or known.get((section, reference, 1))
            if other is not None:
                found.append(ratio(known[section, way, count], other))
    return [one for one in found if one is not None]


@dataclass
class Report:
    """Everything that one run of the benchmark measured.

    Attributes:
        about: Machine, versions, model, photos and command of the run.
        measurements: All measurements.
        ratios: Ratios between ways of the same run.
    """

    about: dict[str, Any]
    measurements: list[Measurement]
    ratios: list[Ratio]

    @classmethod
    def read(cls, file: Path) -> Report:
        """A report that was written before.

        Raises:
            ValueError: The file is not such a report.
        """
        document = json.loads(file.read_text())
        if document.get("schema") != SCHEMA:
            raise ValueError(f"{file} is not a report of this program")
        known = {one.name for one in fields(Measurement)}
        measurements = [
            Measurement(**{k: v for k, v in one.items() if k in known})
            for one in document["measurements"]
        ]
        return cls(document["about"], measurements, [Ratio(**one) for one in document["ratios"]])

    def write(self, file: Path) -> None:
        """Write the JSON document."""
        document = {
            "schema": SCHEMA,
            "about": self.about,
            "measurements": [one.to_dict() for one in self.measurements],
            "ratios": [asdict(one) for one in self.ratios],
        }
        file.write_text(json.dumps(document, indent=1) + "\n")


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 4)
    if isinstance(value, list):
        return [_rounded(one) for one in value]
    return value
