"""Trunk, classifier and one optimisation step of the pre-training."""

from __future__ import annotations

import pytorch_lightning as lightning
import torch
from pytorch_lightning.utilities.types import OptimizerLRSchedulerConfig
from torch import nn
from torch.nn import functional
from torchmetrics.classification import MulticlassAccuracy

from handler.organism.expression_net import ExpressionNet
from train.datasets.layouts.fer2013 import EXPRESSIONS
from train.expression.augment import augment
from train.expression.recipe import ExpressionRecipe
from train.seeds import derived_seed


class ExpressionModule(lightning.LightningModule):
    """Trunk and classifier.

    Args:
        recipe: Recipe of the pre-training.
    """

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
        """One step on randomly augmented faces; a repeated step augments them in the same way."""
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
