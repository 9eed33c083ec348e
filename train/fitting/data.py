"""Batches for training: cached stimuli, with the colour image cropped and mirrored at random.

Which photos a training batch holds follows from (seed, step) alone, so a run that was interrupted
at any step resumes with the very batch that it would have seen.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import distributed
from torch.utils.data import DataLoader, Dataset, Sampler

from handler.images import ImageRefused, decode
from handler.stimuli.selector import fit_colour
from handler.stimuli.stimuli import Stimuli
from handler.values.configs import SelectorConfig
from train.fitting.augment import apply_seeded, build_augmentation
from train.recipes.training import TrainingConfig
from train.seeds import derived_seed
from train.stimuli.cache import CacheError, StimuliCache

Batch = tuple[Stimuli, torch.Tensor]
_MAX_WORKERS = 16  # more processes than that wait for the disk


class Sample(NamedTuple):
    """A row of a data set in one epoch, which decides its random view."""

    position: int
    epoch: int


class StimuliDataset(Dataset[Batch]):
    """Rows of a cache that could be decoded, with their labels.

    Args:
        cache: Stimuli of the photos.
        paths: Paths of the photos, one for each row of the cache; read where the cache keeps no
            colour.
        labels: Labels, one for each row: integers, or a tensor, which may hold a distribution for
            each photo.
        selector: Configuration of the colour stimulus.
        training: Configuration of the augmentation; None leaves the stimulus whole.
        seed: Seed of the augmentation.
    """

    def __init__(
        self,
        cache: StimuliCache,
        paths: Sequence[str],
        labels: Sequence[int] | torch.Tensor,
        selector: SelectorConfig,
        *,
        training: TrainingConfig | None = None,
        seed: int = 0,
    ) -> None:
        self.cache = cache
        self.paths = list(paths)
        self.labels = torch.as_tensor(labels)
        self.selector = selector
        self.seed = seed
        self.rows = [row for row in range(cache.rows) if row not in cache.refused]
        self._augmentation = build_augmentation(training, selector) if training else None
        self._of_photo = training is not None and training.augment == "random_crop"

    def __len__(self) -> int:
        return len(self.rows)

    def __getitems__(self, samples: Sequence[Sample | int]) -> Batch:
        """A whole batch at once: the cache reads rows together."""
        wanted = [s if isinstance(s, Sample) else Sample(s, 0) for s in samples]
        rows = [self.rows[sample.position] for sample in wanted]
        stimuli = self.cache.stimuli(rows)
        views = list(stimuli.colour)
        if self._of_photo or not stimuli.colour.numel():
            views = [self._read(row) for row in rows]
        if self._augmentation is not None:
            views = [
                apply_seeded(
                    self._augmentation, view, derived_seed(self.seed, "view", sample.epoch, row)
                )
                for view, sample, row in zip(views, wanted, rows, strict=True)
            ]
        stimuli.colour = torch.stack(views)
        return stimuli, self.labels[rows]

    def _read(self, row: int) -> torch.Tensor:
        """The whole photo if the augmentation needs it, else its colour stimulus."""
        try:
            photo = decode(Path(self.paths[row]).read_bytes())
        except (OSError, ImageRefused) as error:
            raise CacheError(f"{self.paths[row]} can no longer be read: {error}") from None
        return photo if self._of_photo else fit_colour(photo, self.selector)


class ResumableBatchSampler(Sampler[list[Sample]]):
    """Shuffled batches of an epoch, from the step that the run has reached.

    Every epoch has its own order; a short last batch is left out. With several devices each takes
    its part of every batch.

    Args:
        images: Number of images.
        batch_size: Number of images in a step, over all devices.
        seed: Seed of the order.
    """

    def __init__(self, images: int, *, batch_size: int, seed: int) -> None:
        self.images = images
        self.batch_size = min(batch_size, images)
        self.seed = seed
        # Asked at the beginning of every epoch; the trainer's, once there is one.
        self.steps_done: Callable[[], int] = lambda: 0

    def __len__(self) -> int:
        """Steps an epoch."""
        return self.images // self.batch_size

    def __iter__(self) -> Iterator[list[Sample]]:
        epoch, first = divmod(self.steps_done(), len(self))
        rng = torch.Generator().manual_seed(derived_seed(self.seed, "order", epoch))
        order = torch.randperm(self.images, generator=rng).tolist()
        together = distributed.is_available() and distributed.is_initialized()
        rank, world = (distributed.get_rank(), distributed.get_world_size()) if together else (0, 1)
        for start in range(first * self.batch_size, len(self) * self.batch_size, self.batch_size):
            part = order[start : start + self.batch_size][rank::world]
            yield [Sample(position, epoch) for position in part]


class TrainingLoader(DataLoader[Batch]):
    """The loader of training batches.

    Args:
        dataset: Stimuli of the training photos.
        batches: Sampler of the batches.
        workers: Number of processes that load; 0 loads in this one.
    """

    def __init__(
        self, dataset: StimuliDataset, batches: ResumableBatchSampler, *, workers: int
    ) -> None:
        super().__init__(
            dataset,
            batch_sampler=batches,
            collate_fn=_as_is,
            num_workers=workers,
            persistent_workers=workers > 0,
        )
        self.batches = batches

    def state_dict(self) -> dict[str, Any]:
        """An empty state, as the trainer's step says where the run is; Lightning needs it."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Nothing to do."""


def refuse_unreadable(dataset: StimuliDataset, split: str) -> None:
    """Check that a photo of the split can be read.

    Raises:
        CacheError: No photo can be read; the message names the split.
    """
    if not len(dataset):
        reason = next(iter(dataset.cache.refused.values()))
        raise CacheError(
            f"no photo of the {split} split could be read (the first: {reason}): "
            "see `vea data check DIR --decode`, and download the photos again"
        )


def training_loader(
    dataset: StimuliDataset, config: TrainingConfig, *, seed: int, workers: int
) -> TrainingLoader:
    """Shuffled batches.

    Raises:
        CacheError: No photo could be read.
    """
    refuse_unreadable(dataset, "training")
    batches = ResumableBatchSampler(len(dataset), batch_size=config.batch_size, seed=seed)
    return TrainingLoader(dataset, batches, workers=workers)


def validation_loader(
    dataset: StimuliDataset, *, batch_size: int, workers: int = 0
) -> DataLoader[Batch]:
    """All rows in order."""
    return DataLoader(dataset, batch_size=batch_size, collate_fn=_as_is, num_workers=workers)


def default_workers(config: TrainingConfig) -> int:
    """Number of processes that load batches: one a core, or 0 where they have little to do.

    It is 0 where the cache keeps the colour and the network is trained on the same cores. A GPU
    would wait for a single process that cuts every view.
    """
    if config.colour and not torch.cuda.is_available():
        return 0
    return min(os.cpu_count() or 1, _MAX_WORKERS)


def _as_is(batch: Any) -> Any:
    return batch
