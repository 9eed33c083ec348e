"""What is measured, and how much of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

PREDICTOR, NAIVE = "Predictor", "naive script"
"""Names of what is measured with photos in memory."""
_MEGAPIXELS = (0.3, 1.0, 3.0, 6.0, 12.0, 20.0)
_BATCHES = (1, 2, 4, 8, 16, 32)


@dataclass(frozen=True)
class Plan:
    """How much is measured.

    Attributes:
        memory: Number of photos that are scored in memory.
        short: Length of the short list of a job.
        loop: Length of the long list of a loop without batches.
        long: Length of the long list of other jobs.
        megapixels: Sizes of photos.
        batches: Sizes of a forward pass.
        lists: Lengths of lists.
        repeat: Number of repetitions.
    """

    memory: int = 16
    short: int = 32
    loop: int = 96
    long: int = 288
    megapixels: tuple[float, ...] = _MEGAPIXELS
    batches: tuple[int, ...] = _BATCHES
    lists: tuple[int, ...] = (32, 96, 160)
    repeat: int = 5

    @property
    def fewer(self) -> int:
        """Number of repetitions of what takes long."""
        return max(self.repeat * 3 // 5, 1)


FULL = Plan()
QUICK = Plan(4, 2, 6, 6, (0.1, 0.3), (1, 2), (2, 4), 1)


@dataclass(frozen=True)
class Archives:
    """The models that are compared.

    Attributes:
        model: Archive that the program scores with.
        baseline: Archive of the naive script and of the plain loop.
    """

    model: Path
    baseline: Path
