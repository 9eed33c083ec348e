"""Progress of a job, and whether it should continue."""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from handler.values.errors import VeaError
from jobs.values.tasks import PartReport

_UNREACHABLE = "fetch/unreachable"


@dataclass(frozen=True)
class Progress:
    """Progress of a job.

    Attributes:
        total: Number of images to be scored, by all attempts of this shard of the run.
        done: Number of finished images. It falls when a worker dies over its chunk, or when a chunk
            is scored again because some images could not be reached.
        failed: Number of these images without a prediction.
        reasons: Number of failed images for each ``stage/reason_kind``.
        earlier: Number of images of ``done`` that an earlier attempt finished.
    """

    total: int
    done: int = 0
    failed: int = 0
    reasons: Mapping[str, int] = field(default_factory=dict)
    earlier: int = 0


class TooManyFailed(VeaError):
    """More images failed than allowed.

    Attributes:
        progress: Progress when the limit was found to be exceeded.
    """

    exit_code = 3

    def __init__(self, progress: Progress, rate: float) -> None:
        self.progress = progress
        super().__init__(
            f"{progress.failed} of {progress.done} images failed ({_listed(progress)}), more than "
            f"--max-error-rate {rate:g} allows; what is done is kept: mend the cause and start "
            "again with --replace-failed, or start again with a larger rate"
        )


class NothingScored(TooManyFailed):
    """Not one image of the run could be scored, and the user did not accept this."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        VeaError.__init__(
            self,
            f"not one of {progress.done} images could be scored ({_listed(progress)}), so the run "
            "is not complete: mend the cause and start again with --replace-failed, or accept the "
            "run with --max-error-rate 1",
        )


class Stopped(VeaError):
    """A signal ended the job.

    Attributes:
        exit_code: Exit code that shells expect after this signal.
        done: Number of images whose parts are written.
        total: Number of images of the job; 0 if the list has not been read yet.
    """

    def __init__(self, number: int | None, done: int, total: int) -> None:
        self.exit_code = 128 + (number or signal.SIGINT)
        self.done = done
        self.total = total
        far = f"{done} of {total} images are done" if total else "nothing was begun"
        super().__init__(f"stopped: {far}; start the same command again to continue")


class ProgressCounter:
    """Counts images, and ends the job as soon as it is certain that too many of the run fail.

    The limit is one of the whole run, not of what happens to be finished: which images these are
    depends on the number of workers.

    Args:
        max_error_rate: Limit on the fraction of failed images among all images of the run; None
            accepts any run of which at least one image was scored.
        on_progress: Called after every change.
    """

    def __init__(
        self, max_error_rate: float | None, on_progress: Callable[[Progress], None] | None
    ) -> None:
        self.progress = Progress(0)
        self.recorded = 0
        self._max_error_rate = max_error_rate
        self._on_progress = on_progress
        self._reasons: Counter[str] = Counter()
        self._rows = 0

    def begin(self, total: int, *, rows: int) -> None:
        """Begin to count.

        Args:
            total: Number of images of this attempt's shard.
            rows: Number of images of the run.
        """
        self.progress = Progress(total)
        self._rows = rows

    def add(self, count: int, failed: Mapping[str, int], *, earlier: bool = False) -> None:
        """Count further images; see `jobs.values.tasks.OnImages`.

        Raises:
            TooManyFailed: The limit is exceeded.
        """
        before = self.progress
        self._reasons.update(failed)
        self.progress = Progress(
            before.total,
            before.done + count,
            self._reasons.total(),
            {reason: n for reason, n in self._reasons.items() if n},
            before.earlier + (count if earlier else 0),
        )
        if self._on_progress:
            self._on_progress(self.progress)
        # Images that could not be reached are tried again before the end.
        lost = self._reasons.total() - self._reasons[_UNREACHABLE]
        if self._max_error_rate is not None and lost > self._max_error_rate * self._rows:
            raise TooManyFailed(self.progress, self._max_error_rate)

    def record(self, report: PartReport) -> None:
        """Count a part that was written."""
        self.recorded += report.rows

    def revert(self, report: PartReport) -> None:
        """Take back a part that will be scored again."""
        self.recorded -= report.rows
        self.add(-report.rows, {reason: -n for reason, n in report.reasons.items()})


def judge(rows: int, reasons: Mapping[str, int], max_error_rate: float | None) -> None:
    """Check a run of which every image is done.

    Args:
        rows: Number of images of the run.
        reasons: Number of failed images for each ``stage/reason_kind``.
        max_error_rate: Limit, as `ProgressCounter` takes it.

    Raises:
        TooManyFailed: The limit is exceeded.
        NothingScored: There is no limit, and no image was scored.
    """
    failed = sum(reasons.values())
    end = Progress(rows, rows, failed, dict(reasons))
    if max_error_rate is None:
        if rows and failed == rows:
            raise NothingScored(end)
    elif failed > max_error_rate * rows:
        raise TooManyFailed(end, max_error_rate)


def judged(manifest: Mapping[str, Any]) -> Mapping[str, Any]:
    """The ``rows`` and ``reasons`` that a finished run is judged by.

    Those of its distinct images if it scored each of them once, as while it was under way.
    """
    return dict(manifest.get("distinct", manifest))


def _listed(progress: Progress) -> str:
    """The commonest reasons."""
    reasons = sorted(progress.reasons.items(), key=lambda item: -item[1])
    return ", ".join(f"{count} {reason}" for reason, count in reasons[:3])
