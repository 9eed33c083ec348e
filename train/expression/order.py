"""The order of the training faces in each epoch."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch.utils.data import Sampler

from train.seeds import derived_seed


class EpochOrder(Sampler[int]):
    """All rows in an order that follows from (seed, epoch), as in a resumed run.

    Args:
        rows: Number of rows.
        seed: Seed of the orders.
    """

    def __init__(self, rows: int, *, seed: int) -> None:
        self.rows = rows
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Lightning calls this before each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.rows

    def __iter__(self) -> Iterator[int]:
        rng = torch.Generator().manual_seed(derived_seed(self.seed, "epoch", self.epoch))
        return iter(torch.randperm(self.rows, generator=rng).tolist())
