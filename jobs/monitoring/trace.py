"""What a run tells OpenTelemetry: its phases and chunks as spans, its images as counters.

    vea.score               the whole attempt
      vea.score.list        the list is read, and the model is asked who it is
      vea.score.work        chunks are scored
        vea.score.chunk     one chunk, from its first image to its part
      vea.score.retry       chunks with unreachable images are scored again
      vea.score.finish      the parts become files, and the manifest is written

Chunks are recorded by the driver from the reports of workers, so that workers need no telemetry,
wherever they run.
"""

from __future__ import annotations

from contextlib import AbstractContextManager

from handler.telemetry import Attributes, Span, Telemetry
from jobs.values.tasks import PartReport

_PREFIX = "vea.score"


class RunTrace:
    """Spans and counters of one attempt of a run.

    Args:
        telemetry: Receives them.
    """

    def __init__(self, telemetry: Telemetry) -> None:
        self._telemetry = telemetry

    def whole(
        self, image_list: str, out: str, *, traceparent: str | None
    ) -> AbstractContextManager[Span]:
        """The span of the attempt.

        Args:
            image_list: Location of the list.
            out: Folder of the output.
            traceparent: Trace context of what started the attempt, if any.
        """
        about = {"vea.list": image_list, "vea.out": out}
        return self._telemetry.span(_PREFIX, traceparent=traceparent, attributes=about)

    def phase(self, name: str) -> AbstractContextManager[Span]:
        """The span of a phase."""
        return self._telemetry.span(f"{_PREFIX}.{name}")

    def listed(self, seconds: float, *, rows: int, run_id: str) -> None:
        """The list has been read.

        Args:
            seconds: Duration.
            rows: Number of images in it.
            run_id: Identifier of the run.
        """
        about: Attributes = {"vea.images": rows, "vea.run_id": run_id}
        self._telemetry.record(f"{_PREFIX}.list", seconds=seconds, attributes=about)

    def chunk(self, report: PartReport) -> None:
        """A chunk has been scored."""
        self._telemetry.record(
            f"{_PREFIX}.chunk",
            seconds=report.seconds,
            attributes={
                "vea.part": report.name,
                "vea.images": report.rows,
                "vea.failed": report.failed,
                "vea.busy_seconds": report.busy,
                "vea.bytes": report.bytes,
            },
        )
        self._telemetry.measure(f"{_PREFIX}.chunk.duration", report.seconds)
        self._telemetry.count(
            f"{_PREFIX}.images", report.rows - report.failed, {"vea.status": "ok"}
        )
        for reason, number in report.reasons.items():
            about = {"vea.status": "failed", "vea.reason": reason}
            self._telemetry.count(f"{_PREFIX}.images", number, about)
