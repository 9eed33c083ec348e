"""The report on a run: its figures and those of earlier runs, drift, speed and cost.

`make_report` does the arithmetic; `jobs.report.reading` reads the runs, and `jobs.report.page`
makes the page.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from jobs.report.drift import DEFAULT_THRESHOLD, Drift, measure_drift
from jobs.report.finished_run import FinishedRun, ReportError


@dataclass(frozen=True)
class Price:
    """The price of a machine for an hour."""

    amount: float
    currency: str

    @classmethod
    def parse(cls, text: str) -> Price:
        """Read ``0.34``, ``0.34 USD`` or ``0.34 EUR``.

        Raises:
            ReportError: The text has none of these forms.
        """
        found = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([A-Z]{3})?\s*", text)
        if not found:
            raise ReportError(f"'{text}' is no price: expected an amount such as '0.34 USD'")
        return cls(float(found[1]), found[2] or "")


@dataclass(frozen=True)
class RunMetrics:
    """Figures of one run, or of several together.

    Fractions are from 0 to 1, and None where there are no images.

    Attributes:
        images: Number of all images.
        failed: Number of images without a prediction.
        reasons: Number of failed images for each ``stage/reason_kind``.
        emotions: Number of scored images for each most probable emotion, in the order of the wheel.
        positive_fraction: Fraction of the scored images with a positive polarity.
        with_face_fraction: Fraction of the scored images with a face; None where a run looked for
            none.
        confidence: Mean probability of the most probable emotion.
    """

    images: int
    failed: int
    reasons: dict[str, int]
    emotions: dict[str, int]
    positive_fraction: float | None
    with_face_fraction: float | None
    confidence: float | None

    @classmethod
    def of(cls, runs: Sequence[FinishedRun]) -> RunMetrics:
        """Add up runs, each weighted by its images."""
        reasons, emotions = Counter[str](), Counter[str]()
        for run in runs:
            reasons.update(run.reasons)
            emotions.update(run.emotions)
        scored = sum(run.ok for run in runs)

        def fraction(total: float) -> float | None:
            return total / scored if scored else None

        found = [run.with_face for run in runs if run.with_face is not None]
        # Of all runs or of none: a share of some would not be one of the scored images.
        faces = fraction(sum(found)) if len(found) == len(runs) else None
        return cls(
            images=sum(run.rows for run in runs),
            failed=sum(run.failed for run in runs),
            reasons=dict(reasons),
            emotions=dict(emotions),
            positive_fraction=fraction(sum(run.positive for run in runs)),
            with_face_fraction=faces,
            confidence=fraction(sum((run.confidence or 0.0) * run.ok for run in runs)),
        )

    @property
    def scored(self) -> int:
        """Images with a prediction."""
        return self.images - self.failed

    @property
    def failure_rate(self) -> float | None:
        """Fraction of all images without a prediction."""
        return self.failed / self.images if self.images else None

    def emotion_fraction(self, label: str) -> float | None:
        """Fraction of the scored images with this emotion."""
        return self.emotions.get(label, 0) / self.scored if self.scored else None

    def reason_fraction(self, reason: str) -> float | None:
        """Fraction of all images that failed for this reason."""
        return self.reasons.get(reason, 0) / self.images if self.images else None

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        fractions = {label: self.emotion_fraction(label) for label in self.emotions}
        return {
            **asdict(self),
            "scored": self.scored,
            "failed_share": self.failure_rate,
            "emotion_shares": fractions,
        }


@dataclass(frozen=True)
class Report:
    """The report on a run.

    Attributes:
        run: Run that the report is on.
        earlier: Runs that it is compared with, the latest first.
        left_out: Runs that were found but scored by another model.
        figures: Figures of the run.
        reference: Figures of the earlier runs together; None if there are none.
        drift: None if there is nothing to compare.
        distances: Drift of each earlier run against the others of them; None where there is nothing
            to compare.
        price: Price of the machine; None if not given.
    """

    run: FinishedRun
    earlier: tuple[FinishedRun, ...]
    left_out: tuple[FinishedRun, ...]
    figures: RunMetrics
    reference: RunMetrics | None
    drift: Drift | None
    distances: tuple[float | None, ...]
    price: Price | None

    @property
    def images_per_second(self) -> float | None:
        """Rate of the attempt that finished the run; None if it scored nothing itself."""
        return self.run.manifest.get("facts", {}).get("images_per_second") or None

    @property
    def cost_per_thousand(self) -> float | None:
        """Cost of a thousand images, in the price's currency."""
        if self.price is None or self.images_per_second is None:
            return None
        return self.price.amount / 3600 / self.images_per_second * 1000

    @property
    def cost(self) -> float | None:
        """Cost of all images of the run at the measured rate, in the price's currency."""
        each = self.cost_per_thousand
        return None if each is None else each * self.figures.images / 1000

    @property
    def nothing_scored(self) -> bool:
        """Whether there are images, and none of them has a prediction."""
        return bool(self.figures.images and not self.figures.scored)

    @property
    def alert(self) -> bool:
        """Whether somebody should look: the emotions have drifted, or there are none."""
        return self.nothing_scored or bool(self.drift and self.drift.alert)

    @property
    def other_models(self) -> bool:
        """Whether any earlier run was scored by another model."""
        return any(not _same_model(run, self.run) for run in self.earlier)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        cost = self.cost_per_thousand
        return {
            "night": {  # the name that readers of the figures know
                **_described(self.run),
                **self.figures.to_dict(),
                "facts": self.run.manifest.get("facts", {}),
            },
            "earlier": [
                {**_described(run), **RunMetrics.of([run]).to_dict(), "distance": distance}
                for run, distance in zip(self.earlier, self.distances, strict=True)
            ],
            "reference": self.reference and self.reference.to_dict(),
            "nothing_scored": self.nothing_scored,
            "left_out": [_described(run) for run in self.left_out],
            "drift": self.drift and self.drift.to_dict(),
            "cost_per_thousand": cost,
            "cost": self.cost,
            "currency": self.price.currency if self.price and cost is not None else None,
            "most_confident": [asdict(item) for item in self.run.most_confident],
            "least_confident": [asdict(item) for item in self.run.least_confident],
        }


def make_report(
    run: FinishedRun,
    earlier: Sequence[FinishedRun],
    *,
    any_model: bool = False,
    threshold: float = DEFAULT_THRESHOLD,
    price: Price | None = None,
) -> Report:
    """Compare a run with earlier runs.

    Args:
        run: Run to report on.
        earlier: Runs to compare it with, the latest first.
        any_model: Whether runs of other models are compared too. Another model sees the same photos
            in another way, which is no drift of the photos.
        threshold: Threshold of the drift.
        price: Price of the machine.
    """
    same = [other for other in earlier if any_model or _same_model(other, run)]
    figures, reference = RunMetrics.of([run]), RunMetrics.of(same) if same else None
    emotions = reference.emotions if reference else {}
    return Report(
        run=run,
        earlier=tuple(same),
        left_out=tuple(other for other in earlier if other not in same),
        figures=figures,
        reference=reference,
        drift=measure_drift(figures.emotions, emotions, threshold=threshold),
        distances=tuple(_distance_from_others(other, emotions) for other in same),
        price=price,
    )


def _distance_from_others(run: FinishedRun, together: dict[str, int]) -> float | None:
    own = run.emotions
    others = {label: count - own.get(label, 0) for label, count in together.items()}
    found = measure_drift(own, others)
    return found.distance if found else None


def _same_model(one: FinishedRun, other: FinishedRun) -> bool:
    return bool(one.manifest["model"]["digest"] == other.manifest["model"]["digest"])


def _described(run: FinishedRun) -> dict[str, Any]:
    date = run.date and run.date.isoformat()
    model, run_id = run.manifest["model"], run.manifest.get("run_id")
    return {"location": run.location, "date": date, "run_id": run_id, "model": model}
