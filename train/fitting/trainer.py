"""The trainer of a run: its files, and what makes the run resumable.

Lightning resumes in the middle of an epoch with correct counters, but its loaders restart the
epoch. Here the loader continues at the step (`train.fitting.data.ResumableBatchSampler`), and every
step has its own seed (`train.fitting.module`). So a resumed run ends with the weights of an
uninterrupted one.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytorch_lightning as lightning
import torch
from lightning_fabric.plugins import TorchCheckpointIO
from pytorch_lightning.callbacks import (
    Callback,
    Checkpoint,
    EarlyStopping,
    EMAWeightAveraging,
    ModelCheckpoint,
    TQDMProgressBar,
)
from pytorch_lightning.loggers import CSVLogger, Logger, TensorBoardLogger
from pytorch_lightning.utilities import rank_zero_only

from handler.atomic_files import atomic_write
from train.recipes.training import TrainingConfig

LAST, BEST = "last.ckpt", "best.ckpt"
_JUDGED_BY = "val_accuracy"
# What Lightning warns of: small data sets, frozen stages, loaders without processes, old runs.
_MEANT = (
    ".*does not have many workers.*",
    ".*smaller than the logging interval.*",
    ".*eval mode.*",
    ".*exists and is not empty.*",
    ".*LeafSpec.*",  # Lightning's own use of torch
)


class AtomicCheckpointIO(TorchCheckpointIO):
    """Checkpoints that are complete or absent, whenever the process is killed."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        """Write to a temporary file, then rename it."""
        with atomic_write(Path(path)) as partial:
            torch.save(checkpoint, partial)


class StepCheckpoint(Checkpoint):
    """Checkpoints within an epoch.

    Args:
        place: Path of the checkpoint.
        every: Steps between two checkpoints.
    """

    def __init__(self, place: Path, *, every: int) -> None:
        self.place = place
        self.every = every

    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save, but not after the last step of an epoch, which its validation follows."""
        within = batch_idx + 1 < trainer.num_training_batches
        if within and trainer.global_step % self.every == 0:
            trainer.save_checkpoint(self.place)


class Patience(EarlyStopping):
    """Early stopping whose decision to stop also holds in a resumed run."""

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Stop at once if patience had already run out."""
        if self.wait_count >= self.patience:
            trainer.should_stop = True


def build_trainer(config: TrainingConfig, run: Path, *, progress_bar: bool) -> lightning.Trainer:
    """A trainer that writes ``RUN/{last,best}.ckpt``, ``RUN/logs`` and ``RUN/tensorboard``."""
    # One file each, replaced: a second run must not leave the first one's state to resume from.
    one_file: dict[str, Any] = {"dirpath": run, "enable_version_counter": False}
    callbacks: list[Callback] = []
    if config.ema:
        callbacks.append(EMAWeightAveraging(decay=config.ema))
    if config.early_stopping:
        callbacks.append(Patience(_JUDGED_BY, mode="max", patience=config.early_stopping))
    if config.checkpoint_every:
        callbacks.append(StepCheckpoint(run / LAST, every=config.checkpoint_every))
    if config.keep == "best":  # before the last checkpoint, whose file refers to this one
        callbacks.append(
            ModelCheckpoint(
                filename=Path(BEST).stem, monitor=_JUDGED_BY, mode="max", save_top_k=1, **one_file
            )
        )
    callbacks.append(ModelCheckpoint(filename=Path(LAST).stem, **one_file))
    if progress_bar:
        callbacks.append(TQDMProgressBar(refresh_rate=10))
    devices = torch.cuda.device_count() if config.devices == "auto" else int(config.devices)
    return lightning.Trainer(
        max_epochs=config.epochs,
        accelerator="auto",
        devices=config.devices,
        # A branch is unused in a step where no image on the device has its stimulus.
        strategy="ddp_find_unused_parameters_true" if devices > 1 else "auto",
        precision=_precision(config),
        deterministic=config.deterministic,
        callbacks=callbacks,
        logger=_loggers(run),
        plugins=[AtomicCheckpointIO()],
        enable_progress_bar=progress_bar,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        log_every_n_steps=20,
        use_distributed_sampler=False,
    )


@contextmanager
def quietly() -> Iterator[None]:
    """Suppress the warnings about settings that are intended."""
    with warnings.catch_warnings():
        for message in _MEANT:
            warnings.filterwarnings("ignore", message)
        yield


def is_first_process() -> bool:
    """Whether this is the process that writes; with several devices there are others."""
    return getattr(rank_zero_only, "rank", 0) == 0


def _precision(config: TrainingConfig) -> Any:
    return "32-true" if config.precision == "32" else config.precision


def _loggers(run: Path) -> list[Logger]:
    loggers: list[Logger] = [CSVLogger(run, name="", version="logs", flush_logs_every_n_steps=20)]
    if find_spec("tensorboard") or find_spec("tensorboardX"):
        loggers.append(TensorBoardLogger(run, name="", version="tensorboard"))
    return loggers
