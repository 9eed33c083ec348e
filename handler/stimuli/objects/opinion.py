"""What a classifier of features says of the cells of feature maps, and of windows of them.

A classifier of one linear layer says of a mean of cells what it says of the cells, averaged. So
where a compiled graph has applied it to all cells, nothing is left to compute; where it has not, it
is asked for windows, which are few, and for cells only where that matters.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import nn


class Opinion(Protocol):
    """Logits of C categories, for feature maps of B images."""

    def windows(self) -> torch.Tensor:
        """Of the mean of each window, BxKxC."""

    def whole(self) -> torch.Tensor:
        """Of the mean of all cells, BxC."""

    def cells(self, images: torch.Tensor) -> torch.Tensor:
        """Of each cell of some of the images (bool, B), bxMxC."""


class Asked:
    """The classifier itself.

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
        """As `Opinion.windows`."""
        return self._classifier(self._windows)

    def whole(self) -> torch.Tensor:
        """As `Opinion.whole`."""
        return self._classifier(self._cells.mean(1))

    def cells(self, images: torch.Tensor) -> torch.Tensor:
        """As `Opinion.cells`."""
        return self._classifier(self._cells[images])


class Given:
    """What a graph has computed already.

    Args:
        logits: Logits of the cells, float, BxMxC.
        inside: Share of each cell in each window, float, KxM; rows sum to 1.
    """

    def __init__(self, logits: torch.Tensor, inside: torch.Tensor) -> None:
        self._logits = logits
        self._inside = inside

    def windows(self) -> torch.Tensor:
        """As `Opinion.windows`."""
        return self._inside @ self._logits

    def whole(self) -> torch.Tensor:
        """As `Opinion.whole`."""
        return self._logits.mean(1)

    def cells(self, images: torch.Tensor) -> torch.Tensor:
        """As `Opinion.cells`."""
        return self._logits[images]
