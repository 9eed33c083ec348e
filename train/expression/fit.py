"""Pre-training of Expression-Net on FER2013 (Sec. IV-B of the paper).

The faces of FER2013 (Goodfellow et al. 2013) are grey, 48x48, and labelled with the expression
shown, not with an emotion evoked; so only the trunk is kept, as a weights file that a recipe's
``init`` can name, and the seven-way classifier is left behind.

RUN/recipe.json              what was asked for
RUN/logs/metrics.csv         loss and accuracy after each epoch; before a resumption, RUN/logs-1/...
RUN/last.ckpt                to resume from (only this program reads it)
RUN/face-resnet.safetensors  the trunk
RUN/evaluation.json          accuracy on PublicTest, in three protocols
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as lightning
import torch
from pytorch_lightning.callbacks import ModelCheckpoint, TQDMProgressBar
from pytorch_lightning.loggers import CSVLogger
from torch.optim.swa_utils import update_bn
from torch.utils.data import DataLoader, TensorDataset

from train.datasets.layouts.fer2013 import read_fer2013
from train.expression.evaluate import BATCH, TEST, evaluate_expression
from train.expression.module import ExpressionModule
from train.expression.order import EpochOrder
from train.expression.recipe import ExpressionRecipe
from train.fitting.run_folder import check_run_folder, prepare
from train.fitting.trainer import LAST, AtomicCheckpointIO, is_first_process, quietly
from train.weights.home import Header, write_weights

TRUNK = "face-resnet.safetensors"
_EVALUATION = "evaluation.json"
_PRODUCTS = (TRUNK, _EVALUATION)
_TRAIN = "Training"


@dataclass(frozen=True)
class ExpressionResult:
    """Result of a run.

    Attributes:
        trunk: Path of the weights file.
        evaluation: Content of ``evaluation.json``.
    """

    trunk: Path
    evaluation: dict[str, Any]


def fit_expression(
    recipe: ExpressionRecipe,
    data: Path,
    run: Path,
    *,
    resume: bool = False,
    force: bool = False,
    progress_bar: bool = True,
    on_progress: Callable[[str, int, int], None] = lambda what, done, total: None,
) -> ExpressionResult:
    """Pre-train a trunk on FER2013's ``Training`` faces and measure it on ``PublicTest``.

    At the end the statistics of the batch norms are recomputed from whole training faces.

    Args:
        recipe: Configuration of the training.
        data: FER2013, in any layout that `read_fer2013` knows.
        run: Folder that the run writes.
        resume: Whether to resume from ``RUN/last.ckpt`` where it exists.
        force: Whether another run in the folder may be replaced.
        progress_bar: Whether Lightning's progress bar is shown.
        on_progress: Callback during the final measurement.

    Raises:
        DatasetError: ``data`` is not FER2013.
        RunError: ``run`` was begun with another recipe or other faces.
    """
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)  # it advertises
    lightning.seed_everything(recipe.seed, workers=True, verbose=False)
    if is_first_process():
        check_run_folder(run, asdict(recipe), products=_PRODUCTS, resume=resume, force=force)
    table = read_fer2013(data)
    train, test = _tensors(*table.split(_TRAIN)), _tensors(*table.split(TEST))
    checkpoint = run / LAST if resume and (run / LAST).exists() else None
    facts = {"recipe": asdict(recipe), "faces": _described({_TRAIN: train, TEST: test})}
    if is_first_process():
        prepare(run, facts, products=_PRODUCTS, resuming=checkpoint is not None, force=force)
    module = ExpressionModule(recipe)
    callbacks: list[Any] = [
        ModelCheckpoint(dirpath=run, filename=Path(LAST).stem, enable_version_counter=False)
    ]
    if progress_bar:
        callbacks.append(TQDMProgressBar(refresh_rate=10))
    trainer = lightning.Trainer(
        max_epochs=recipe.epochs,
        precision=recipe.precision,  # type: ignore[arg-type]
        callbacks=callbacks,
        logger=CSVLogger(run, name="", version="logs"),
        enable_progress_bar=progress_bar,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        log_every_n_steps=20,
        plugins=[AtomicCheckpointIO()],
    )
    loaders = (
        DataLoader(
            train,
            batch_size=recipe.batch_size,
            sampler=EpochOrder(len(train), seed=recipe.seed),
            drop_last=len(train) > recipe.batch_size,
        ),
        DataLoader(test, batch_size=BATCH),
    )
    with quietly():
        trainer.fit(module, *loaders, ckpt_path=checkpoint, weights_only=True)
    # The training used crops of augmented faces; Expression-Net will get whole ones.
    mixed = EpochOrder(len(train), seed=recipe.seed)
    device = trainer.strategy.root_device
    module.to(device)  # which the trainer leaves in the end
    update_bn(DataLoader(train, batch_size=BATCH, sampler=mixed), module, device)
    module.eval()
    evaluation = evaluate_expression(module, test, on_progress=on_progress)
    (run / _EVALUATION).write_text(json.dumps(evaluation, indent=2) + "\n")
    return ExpressionResult(write_trunk(module, run / TRUNK, source="FER2013"), evaluation)


def write_trunk(module: ExpressionModule, target: Path, *, source: str) -> Path:
    """Keep the trunk, without its classifier, as a weights file of kind ``face_resnet``."""
    header = Header("face_resnet", {"width": module.recipe.width}, source)
    return write_weights(target, header, module.net.faces.cpu().state_dict())


def _described(faces: dict[str, TensorDataset]) -> dict[str, Any]:
    """Number of faces of each usage, and the SHA-256 of all of them."""
    digest = hashlib.sha256()
    for usage in faces.values():
        for values in usage.tensors:
            digest.update(values.numpy().tobytes())
    return {name: len(usage) for name, usage in faces.items()} | {"sha256": digest.hexdigest()}


def _tensors(pixels: np.ndarray[Any, Any], labels: np.ndarray[Any, Any]) -> TensorDataset:
    return TensorDataset(torch.from_numpy(pixels).unsqueeze(1), torch.from_numpy(labels))
