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
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as lightning
import torch
from pytorch_lightning.callbacks import ModelCheckpoint, TQDMProgressBar
from pytorch_lightning.loggers import CSVLogger
from pytorch_lightning.utilities.types import OptimizerLRSchedulerConfig
from torch import nn
from torch.nn import functional
from torch.optim.swa_utils import update_bn
from torch.utils.data import DataLoader, Sampler, TensorDataset
from torchmetrics.classification import MulticlassAccuracy
from torchvision.transforms.v2 import functional as transforms

from handler.organism.expression_net import ExpressionNet
from handler.values.checks import check_number
from handler.values.prediction import FACE_SIDE
from train.datasets.layouts.fer2013 import EXPRESSIONS, read_fer2013
from train.evaluation.intervals import wilson_interval
from train.fitting.run_folder import prepare
from train.fitting.trainer import LAST, AtomicCheckpointIO, is_first_process, quietly
from train.recipes.recipe import MAX_SEED, RecipeError, read_values
from train.seeds import derived_seed
from train.weights.home import Header, write_weights

TRUNK = "face-resnet.safetensors"
_KIND = "expression"
_TRAIN, _TEST = "Training", "PublicTest"
_EVALUATION_BATCH = 256
_PRECISIONS = ("32", "32-true", "bf16-mixed", "16-mixed")


@dataclass(frozen=True)
class ExpressionRecipe:
    """How the trunk is pre-trained.

    Attributes:
        name: of the recipe.
        seed: of everything random.
        width: channels of the trunk's first stage (64: the paper's authors').
        epochs: passes over the training faces.
        batch_size: faces a step.
        crop: side in pixels of what is cut from a face, in training.
        rotation: degrees, at most, to either side.
        zoom: fraction by which a face may grow or shrink.
        contrast: fraction by which brightness and contrast may change.
        flip: mirror half of the faces.
        lr: peak learning rate.
        momentum: of SGD.
        weight_decay: of SGD.
        label_smoothing: probability mass that goes to the other expressions.
        dropout: before the classifier.
        precision: as Lightning names it.
    """

    name: str = "expression"
    seed: int = 1
    width: int = 64
    epochs: int = 20
    batch_size: int = 128
    crop: int = 44
    rotation: float = 12.0
    zoom: float = 0.1
    contrast: float = 0.2
    flip: bool = True
    lr: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 5e-4
    label_smoothing: float = 0.1
    dropout: float = 0.3
    precision: str = "32-true"

    def __post_init__(self) -> None:
        check_number("seed", self.seed, least=0, most=MAX_SEED, whole=True)
        # Narrower ones end the process in the gradients of some processors' convolutions.
        check_number("width", self.width, least=8, whole=True)
        for name in ("epochs", "batch_size", "crop"):
            check_number(name, getattr(self, name), least=1, whole=True)
        for name in ("rotation", "zoom", "contrast", "lr", "momentum", "weight_decay"):
            check_number(name, getattr(self, name), least=0)
        for name in ("label_smoothing", "dropout"):
            check_number(name, getattr(self, name), least=0, below=1)
        if self.precision not in _PRECISIONS:
            expected = ", ".join(f"'{precision}'" for precision in _PRECISIONS)
            raise ValueError(f"precision is '{self.precision}': expected one of {expected}")
        if self.crop > FACE_SIDE:
            raise ValueError(f"crop is {self.crop}: faces are {FACE_SIDE} pixels wide")


def load_expression_recipe(name_or_path: str, overrides: Sequence[str] = ()) -> ExpressionRecipe:
    """A recipe of kind ``expression``; arguments as for `train.recipes.recipe.read_values`.

    Raises:
        RecipeError: there is none, or a setting in it is wrong.
    """
    values = read_values(name_or_path, overrides)
    kind = values.pop("kind", None)
    if kind != _KIND:
        raise RecipeError(f"recipe '{name_or_path}' is of kind '{kind}': expected '{_KIND}'")
    if "precision" in values:  # YAML reads 32 as a number
        values["precision"] = str(values["precision"])
    try:
        return ExpressionRecipe(**values)
    except (TypeError, ValueError) as error:
        raise RecipeError(f"recipe '{name_or_path}' is wrong: {error}") from None


@dataclass(frozen=True)
class ExpressionResult:
    """What a run came to.

    Attributes:
        trunk: the weights file.
        evaluation: content of ``evaluation.json``.
    """

    trunk: Path
    evaluation: dict[str, Any]


class ExpressionModule(lightning.LightningModule):
    """Trunk and classifier. Args: recipe: how they learn."""

    def __init__(self, recipe: ExpressionRecipe) -> None:
        super().__init__()
        self.recipe = recipe
        self.net = ExpressionNet(width=recipe.width)
        self.net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.classifier = nn.Sequential(
            nn.Dropout(recipe.dropout), nn.Linear(self.net.feature_size, len(EXPRESSIONS))
        )
        self.accuracy = MulticlassAccuracy(len(EXPRESSIONS), average="micro")

    def forward(self, faces: torch.Tensor) -> torch.Tensor:
        """Faces (uint8 or float, Bx1xSxS, 0 to 255) -> logits, Bx7."""
        everybody = torch.ones(len(faces), dtype=torch.bool, device=faces.device)
        return self.classifier(self.net(faces, everybody))

    def training_step(self, batch: list[torch.Tensor], _: int) -> torch.Tensor:
        """One step on faces that are moved about at random, the same way whenever it is redone."""
        faces, target = batch
        seed = derived_seed(self.recipe.seed, "step", self.global_step)
        torch.manual_seed(seed)  # dropout
        rng = torch.Generator().manual_seed(seed)
        logits = self(augment(faces, self.recipe, rng))
        loss = functional.cross_entropy(logits, target, label_smoothing=self.recipe.label_smoothing)
        self.log("train_loss", loss, on_step=False, on_epoch=True, prog_bar=True)
        return loss

    def validation_step(self, batch: list[torch.Tensor], _: int) -> None:
        """Accuracy on whole faces, as Expression-Net sees them."""
        faces, target = batch
        self.accuracy(self(faces).argmax(1), target)
        self.log("val_accuracy", self.accuracy, prog_bar=True, on_epoch=True)

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """SGD with Nesterov's momentum and one cycle of the learning rate."""
        recipe = self.recipe
        optimizer = torch.optim.SGD(
            self.parameters(),
            lr=recipe.lr,
            momentum=recipe.momentum,
            weight_decay=recipe.weight_decay,
            nesterov=recipe.momentum > 0,
        )
        steps = max(int(self.trainer.estimated_stepping_batches), 6)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, max_lr=recipe.lr, total_steps=steps, pct_start=0.25
        )
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }


class EpochOrder(Sampler[int]):
    """All rows in an order that follows from (seed, epoch): a resumed run has it, too.

    Args:
        rows: how many.
        seed: of the orders.
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


def augment(faces: torch.Tensor, recipe: ExpressionRecipe, rng: torch.Generator) -> torch.Tensor:
    """Faces as another camera might have caught them.

    Args:
        faces: uint8, Bx1x48x48.
        recipe: how far they may change.
        rng: of the changes.

    Returns:
        float, Bx1xCxC, 0 to 255.
    """
    count, side, crop = len(faces), faces.shape[-1], recipe.crop

    def uniform(width: float) -> torch.Tensor:
        return (torch.rand(count, generator=rng) * 2 - 1) * width

    angle = uniform(recipe.rotation) * (torch.pi / 180)
    zoom = 1 + uniform(recipe.zoom)
    mirror = torch.ones(count)
    if recipe.flip:
        mirror = torch.randint(0, 2, (count,), generator=rng) * 2.0 - 1.0
    room = (side - crop) / side  # how far the cut may lie from the middle, in half sides
    fraction = crop / side
    cosine, sine = torch.cos(angle) * zoom * fraction, torch.sin(angle) * zoom * fraction
    places = torch.stack(
        [
            torch.stack([cosine * mirror, -sine, uniform(room)], 1),
            torch.stack([sine * mirror, cosine, uniform(room)], 1),
        ],
        1,
    )  # Bx2x3
    grid = functional.affine_grid(places, [count, 1, crop, crop], align_corners=False)
    moved = functional.grid_sample(
        faces.float(), grid.to(faces.device), padding_mode="border", align_corners=False
    )
    gain = (1 + uniform(recipe.contrast)).view(-1, 1, 1, 1).to(faces.device)
    shift = (uniform(recipe.contrast) * 128).view(-1, 1, 1, 1).to(faces.device)
    return ((moved - 128) * gain + 128 + shift).clamp(0, 255)


def fit_expression(
    recipe: ExpressionRecipe,
    data: Path,
    run: Path,
    *,
    resume: bool = False,
    progress_bar: bool = True,
    on_progress: Callable[[str, int, int], None] = lambda what, done, total: None,
) -> ExpressionResult:
    """Pre-train a trunk on FER2013's ``Training`` faces and measure it on ``PublicTest``.

    In the end the statistics of the batch norms are taken anew from whole training faces.

    Args:
        recipe: how.
        data: FER2013, in any layout that `read_fer2013` knows.
        run: where the run writes.
        resume: Whether to resume from ``RUN/last.ckpt`` where it exists.
        progress_bar: show Lightning's.
        on_progress: called while the last measurement runs.

    Raises:
        DatasetError: ``data`` is not FER2013.
        RunError: ``run`` was begun with another recipe or other faces.
    """
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)  # it advertises
    lightning.seed_everything(recipe.seed, workers=True, verbose=False)
    table = read_fer2013(data)
    train, test = _tensors(*table.split(_TRAIN)), _tensors(*table.split(_TEST))
    checkpoint = run / LAST if resume and (run / LAST).exists() else None
    facts = {"recipe": asdict(recipe), "faces": _described({_TRAIN: train, _TEST: test})}
    if is_first_process():
        prepare(run, facts, resuming=checkpoint is not None)
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
        DataLoader(test, batch_size=_EVALUATION_BATCH),
    )
    with quietly():
        trainer.fit(module, *loaders, ckpt_path=checkpoint, weights_only=True)
    # Training saw cuts of changed faces; Expression-Net will see whole ones.
    mixed = EpochOrder(len(train), seed=recipe.seed)
    device = trainer.strategy.root_device
    module.to(device)  # which the trainer leaves in the end
    update_bn(DataLoader(train, batch_size=_EVALUATION_BATCH, sampler=mixed), module, device)
    module.eval()
    evaluation = evaluate_expression(module, test, on_progress=on_progress)
    (run / "evaluation.json").write_text(json.dumps(evaluation, indent=2) + "\n")
    return ExpressionResult(write_trunk(module, run / TRUNK, source="FER2013"), evaluation)


def write_trunk(module: ExpressionModule, target: Path, *, source: str) -> Path:
    """Keep the trunk, without its classifier, as a weights file of kind ``face_resnet``."""
    header = Header("face_resnet", {"width": module.recipe.width}, source)
    return write_weights(target, header, module.net.faces.cpu().state_dict())


@torch.inference_mode()
def evaluate_expression(
    module: ExpressionModule,
    test: TensorDataset,
    *,
    on_progress: Callable[[str, int, int], None] = lambda what, done, total: None,
) -> dict[str, Any]:
    """Accuracy on labelled faces: whole, whole and mirrored, and ten crops, as published."""
    views = {"whole": _whole, "mirrored": _mirrored, "ten_crop": _ten_crop}
    hits = dict.fromkeys(views, 0)
    per_class = np.zeros((len(EXPRESSIONS), len(EXPRESSIONS)), dtype=int)
    done = 0
    for faces, target in DataLoader(test, batch_size=_EVALUATION_BATCH):
        for name, view in views.items():
            seen = view(faces.to(module.device), module.recipe.crop)
            answers = torch.stack([module(one).softmax(1) for one in seen]).mean(0).argmax(1).cpu()
            hits[name] += int((answers == target).sum())
            if name == "whole":
                np.add.at(per_class, (target.numpy(), answers.numpy()), 1)
        done += len(target)
        on_progress("faces", done, len(test))
    return {
        "split": _TEST,
        "faces": done,
        "accuracy": {
            name: {"value": count / done, "interval_95": list(wilson_interval(count / done, done))}
            for name, count in hits.items()
        },
        "confusion_matrix": {
            "labels": list(EXPRESSIONS),
            "rows_true_columns_predicted": per_class.tolist(),
        },
    }


def _whole(faces: torch.Tensor, _: int) -> list[torch.Tensor]:
    return [faces]


def _mirrored(faces: torch.Tensor, _: int) -> list[torch.Tensor]:
    return [faces, faces.flip(-1)]


def _ten_crop(faces: torch.Tensor, crop: int) -> list[torch.Tensor]:
    return list(transforms.ten_crop(faces, [crop, crop]))


def _described(faces: dict[str, TensorDataset]) -> dict[str, Any]:
    """How many there are, and what tells them from others."""
    digest = hashlib.sha256()
    for usage in faces.values():
        for values in usage.tensors:
            digest.update(values.numpy().tobytes())
    return {name: len(usage) for name, usage in faces.items()} | {"sha256": digest.hexdigest()}


def _tensors(pixels: np.ndarray[Any, Any], labels: np.ndarray[Any, Any]) -> TensorDataset:
    return TensorDataset(torch.from_numpy(pixels).unsqueeze(1), torch.from_numpy(labels))
