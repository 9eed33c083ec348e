"""How far a job is, and whether it should go on."""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from handler.values.errors import VeaError
from jobs.values.tasks import PartReport

_SAMPLE = 1_000  # images on which a rate of failed ones is judged, if the list is so long


@dataclass(frozen=True)
class Progress:
    """How far a job is.

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
        reasons = sorted(progress.reasons.items(), key=lambda item: -item[1])
        listed = ", ".join(f"{count} {reason}" for reason, count in reasons[:3])
        super().__init__(
            f"{progress.failed} of {progress.done} images failed ({listed}), more than "
            f"--max-error-rate {rate:g} allows; what is done is kept: mend the cause, or start "
            "again with a larger rate"
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
        super().__init__(f"stopped: {far}; start the same command again to go on")


class ProgressCounter:
    """Counts images, and ends the job when too many have failed.

    Args:
        max_error_rate: Limit on the fraction of failed images among those that are finished, or
            among the first thousand while fewer are. Images that are scored again remain among
            them, because the other failures do as well.
        on_progress: Called after every change.
    """

    def __init__(
        self, max_error_rate: float, on_progress: Callable[[Progress], None] | None
    ) -> None:
        self.progress = Progress(0)
        self.recorded = 0
        self._max_error_rate = max_error_rate
        self._on_progress = on_progress
        self._reasons: Counter[str] = Counter()
        self._most_done = 0

    def begin(self, total: int) -> None:
        """Say how many images there are."""
        self.progress = Progress(total)
        self._most_done = 0

    def add(self, count: int, failed: Mapping[str, int], *, earlier: bool = False) -> None:
        """So many images more are through; see `jobs.values.tasks.OnImages`.

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
        self._most_done = max(self._most_done, self.progress.done)
        if self._on_progress:
            self._on_progress(self.progress)
        self.check()

    def record(self, report: PartReport) -> None:
        """A part is written."""
        self.recorded += report.rows

    def revert(self, report: PartReport) -> None:
        """A part is to be done again."""
        self.recorded -= report.rows
        self.add(-report.rows, {reason: -n for reason, n in report.reasons.items()})

    def check(self) -> None:
        """Look whether too many images have failed.

        Raises:
            TooManyFailed: The limit is exceeded.
        """
        now = self.progress
        if now.failed > self._max_error_rate * max(self._most_done, min(now.total, _SAMPLE)):
            raise TooManyFailed(now, self._max_error_rate)
