"""The result of a job, for people and programs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from jobs.output.parquet import FAILED, OK
from jobs.values.tasks import PartReport

_KILLED = "predict/killed"


@dataclass(frozen=True)
class Summary:
    """The result of a job.

    Attributes:
        run_id: Identifier of the run.
        out: Location of the result.
        complete: Whether the run is finished; an attempt that works on a shard of the chunks may
            have to leave this to another one.
        rows: Number of images of the run, or of this attempt's shard if the run is not complete.
        ok: Number of images with a prediction.
        failed: Number of images without a prediction.
        reasons: Number of failed images for each ``stage/reason_kind``.
        files: Number of files that hold the rows; 0 if the run is not complete.
        parts: Number of chunks of the run, or of this attempt's shard.
        parts_skipped: Number of these chunks that other attempts have finished.
        poison: Images that killed the process which worked on them.
        scored: Number of images that this attempt finished.
        seconds: Duration of this attempt in seconds, loading of the model included.
        busy_fraction: Fraction of the chunks' time in which the model worked, 0 to 1.
        left_out: Number of files of a folder that were not scored, for each reason.
        copied: Number of images whose answer is copied from an earlier run; 0 if the run is not
            complete.
    """

    run_id: str
    out: str
    complete: bool
    rows: int
    ok: int
    failed: int
    reasons: dict[str, int]
    files: int
    parts: int
    parts_skipped: int
    poison: int
    scored: int
    seconds: float
    busy_fraction: float
    left_out: dict[str, int] = field(default_factory=dict)
    copied: int = 0

    @classmethod
    def of(
        cls,
        reports: Sequence[PartReport],
        scored: Sequence[PartReport],
        manifest: Mapping[str, Any] | None,
        *,
        run_id: str,
        out: str,
        seconds: float,
        left_out: Mapping[str, int],
    ) -> Summary:
        """Put together what an attempt knows.

        Args:
            reports: Reports on the parts of the attempt's shard, each once.
            scored: Number of images that the attempt scored itself; an image that was scored again
                counts twice.
            manifest: Manifest of the run, if it is complete.
            run_id: Identifier of the run.
            out: Location of the result.
            seconds: Duration of this attempt in seconds.
            left_out: Number of files of a folder that are not scored, for each reason.
        """
        counted = manifest or _count(reports)
        took = sum(report.seconds for report in scored)
        return cls(
            run_id=run_id,
            out=out,
            complete=manifest is not None,
            rows=counted["rows"],
            ok=counted["status"].get(OK, 0),
            failed=counted["status"].get(FAILED, 0),
            reasons=dict(counted["reasons"]),
            files=len(counted["files"]),
            parts=counted["parts"],
            parts_skipped=counted["parts"] - len({report.name for report in scored}),
            poison=counted["reasons"].get(_KILLED, 0),
            scored=sum(report.rows for report in scored),
            seconds=seconds,
            busy_fraction=sum(report.busy for report in scored) / took if took else 0.0,
            left_out=dict(left_out),
            copied=counted.get("copied", 0),
        )

    @property
    def failure_rate(self) -> float:
        """Failed images over all images; 0 for an empty list."""
        return self.failed / self.rows if self.rows else 0.0

    @property
    def images_per_second(self) -> float:
        """Rate of this attempt; 0 if everything was done before."""
        return self.scored / self.seconds if self.scored else 0.0

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        values = asdict(self)
        # The key of earlier versions.
        values["busy_share"] = values.pop("busy_fraction")
        return {**values, "images_per_second": self.images_per_second}


def _count(reports: Sequence[PartReport]) -> dict[str, Any]:
    """The counts that a manifest of these parts would have."""
    reasons: Counter[str] = Counter()
    for report in reports:
        reasons.update(report.reasons)
    rows, failed = sum(r.rows for r in reports), sum(r.failed for r in reports)
    return {
        "rows": rows,
        "status": {OK: rows - failed, FAILED: failed},
        "reasons": dict(sorted(reasons.items())),
        "files": [],
        "parts": len(reports),
    }
