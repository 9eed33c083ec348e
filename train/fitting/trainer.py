"""The trainer of a run: what it writes while it runs, and what lets it go on after being killed.

Lightning goes on in the middle of an epoch with its counters right and its data at the beginning;
here the loader knows the step (`train.fitting.data.StepBatches`), and every step its own randomness
(`train.fitting.module`). So a run that goes on ends with the weights of one that was never
interrupted.
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

from handler.atomic_files import whole_file
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


class WholeFiles(TorchCheckpointIO):
    """Checkpoints that are there whole or not at all, whenever the process is killed."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        """Write beside the place, then rename."""
        with whole_file(Path(path)) as partial:
            torch.save(checkpoint, partial)


class StepCheckpoint(Checkpoint):
    """Keeps the state within an epoch too. Args: place: of the file; every: so many steps."""

    def __init__(self, place: Path, *, every: int) -> None:
        self.place = place
        self.every = every

    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """The last step of an epoch is left to the checkpoint that follows its validation."""
        within = batch_idx + 1 < trainer.num_training_batches
        if within and trainer.global_step % self.every == 0:
            trainer.save_checkpoint(self.place)


class Patience(EarlyStopping):
    """Early stopping that a run which goes on after it has stopped does not forget."""

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Nothing is trained once patience has run out."""
        if self.wait_count >= self.patience:
            trainer.should_stop = True


def build_trainer(config: TrainingConfig, run: Path, *, progress_bar: bool) -> lightning.Trainer:
    """A trainer that writes ``RUN/{last,best}.ckpt``, ``RUN/logs`` and ``RUN/tensorboard``."""
    # One file each, replaced: a second run must not leave the first one's state to go on from.
    one_file: dict[str, Any] = {"dirpath": run, "enable_version_counter": False}
    callbacks: list[Callback] = []
    if config.ema:
        callbacks.append(EMAWeightAveraging(decay=config.ema))
    if config.early_stopping:
        callbacks.append(Patience(_JUDGED_BY, mode="max", patience=config.early_stopping))
    if config.checkpoint_every:
        callbacks.append(StepCheckpoint(run / LAST, every=config.checkpoint_every))
    if config.keep == "best":  # before the last one, whose file must know of it
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
        # A branch whose stimulus no image of a device's share has is not used in that step.
        strategy="ddp_find_unused_parameters_true" if devices > 1 else "auto",
        precision=_precision(config),
        deterministic=config.deterministic,
        callbacks=callbacks,
        logger=_loggers(run),
        plugins=[WholeFiles()],
        enable_progress_bar=progress_bar,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        log_every_n_steps=20,
        use_distributed_sampler=False,
    )


@contextmanager
def quietly() -> Iterator[None]:
    """Without the warnings about what is meant to be so."""
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
