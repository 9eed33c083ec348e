"""Batches for training: cached stimuli, with the colour image cropped and mirrored at random."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from handler.stimuli.stimuli import Stimuli
from train.recipe import TrainingConfig
from train.stimuli_cache import StimuliCache


class StimuliDataset(Dataset[tuple[Stimuli, torch.Tensor]]):
    """Rows of a cache that could be decoded, with their labels.

    Args:
        cache: the stimuli.
        labels: int, one for each row of the cache.
        augment: for the colour image of each row (uint8, 3xSxS); None leaves it whole.
    """

    def __init__(
        self, cache: StimuliCache, labels: list[int], augment: v2.Transform | None = None
    ) -> None:
        self.cache = cache
        self.labels = labels
        self.augment = augment
        self.rows = [row for row in range(cache.rows) if row not in cache.refused]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitems__(self, indices: list[int]) -> tuple[Stimuli, torch.Tensor]:
        """A whole batch at once: the cache reads rows together."""
        rows = [self.rows[i] for i in indices]
        stimuli = self.cache.stimuli(rows)
        if self.augment is not None:
            stimuli.colour = torch.stack([self.augment(image) for image in stimuli.colour])
        return stimuli, torch.tensor([self.labels[row] for row in rows])


def training_loader(
    cache: StimuliCache, labels: list[int], config: TrainingConfig, *, seed: int
) -> DataLoader[tuple[Stimuli, torch.Tensor]]:
    """Shuffled, augmented batches; a short last batch is left out."""
    augment: list[v2.Transform] = [
        v2.RandomResizedCrop(config.crop, scale=config.crop_scale, antialias=True)
    ]
    if config.flip:
        augment.append(v2.RandomHorizontalFlip())
    dataset = StimuliDataset(cache, labels, v2.Compose(augment))
    return DataLoader(
        dataset,
        batch_size=config.batch_size,
        shuffle=True,
        drop_last=len(dataset) > config.batch_size,
        collate_fn=_as_is,
        generator=torch.Generator().manual_seed(seed),
    )


def validation_loader(
    cache: StimuliCache, labels: list[int], *, batch_size: int
) -> DataLoader[tuple[Stimuli, torch.Tensor]]:
    """All rows in order, colour images whole."""
    return DataLoader(StimuliDataset(cache, labels), batch_size=batch_size, collate_fn=_as_is)


def _as_is(batch: Any) -> Any:
    return batch
