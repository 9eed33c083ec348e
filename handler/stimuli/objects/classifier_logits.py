"""Logits of a linear classifier for the cells of feature maps, and for windows of cells.

The logits of the mean of some cells are the mean of their logits. So where a compiled graph has
applied the classifier to all cells, nothing is left to compute. Where it has not, the classifier is
applied to windows, which are few, and to cells only when they are needed.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import nn


class ClassifierLogits(Protocol):
    """Logits of C categories, for feature maps of B images."""

    def windows(self) -> torch.Tensor:
        """Of the mean of each window, BxKxC."""

    def whole(self) -> torch.Tensor:
        """Of the mean of all cells, BxC."""

    def cells(self, images: torch.Tensor) -> torch.Tensor:
        """Of each cell of some of the images (bool, B), bxMxC."""


class ComputedLogits:
    """Logits that the classifier computes when they are needed.

    Args:
        classifier: Linear layer, F -> C.
        cells: Features of the cells, float, BxMxF.
        windows: Mean features of the windows, float, BxKxF.
    """

    def __init__(self, classifier: nn.Module, cells: torch.Tensor, windows: torch.Tensor) -> None:
        self._classifier = classifier
        self._cells = cells
        self._windows = windows

    def windows(self) -> torch.Tensor:
        """As `ClassifierLogits.windows`."""
        return self._classifier(self._windows)

    def whole(self) -> torch.Tensor:
        """As `ClassifierLogits.whole`."""
        return self._classifier(self._cells.mean(1))

    def cells(self, images: torch.Tensor) -> torch.Tensor:
        """As `ClassifierLogits.cells`."""
        return self._classifier(self._cells[images])


class PrecomputedLogits:
    """Logits of all cells, computed by a compiled graph.

    Args:
        logits: Logits of the cells, float, BxMxC.
        inside: Share of each cell in each window, float, KxM; rows sum to 1.
    """

    def __init__(self, logits: torch.Tensor, inside: torch.Tensor) -> None:
        self._logits = logits
        self._inside = inside

    def windows(self) -> torch.Tensor:
        """As `ClassifierLogits.windows`."""
        return self._inside @ self._logits

    def whole(self) -> torch.Tensor:
        """As `ClassifierLogits.whole`."""
        return self._logits.mean(1)

    def cells(self, images: torch.Tensor) -> torch.Tensor:
        """As `ClassifierLogits.cells`."""
        return self._logits[images]
