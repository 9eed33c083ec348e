"""`EmotionModule`: how a `StimuliAwareNetwork` learns, as a LightningModule.

The network and the loss are the paper's; this file only says what is optimised, how fast, and what
stays frozen. Nothing in it asks which branches exist.
"""

from __future__ import annotations

from typing import Any

import pytorch_lightning as lightning
import torch
from pytorch_lightning.utilities.types import OptimizerLRSchedulerConfig
from torch import nn
from torchmetrics.classification import MulticlassAccuracy

from handler.backbones import Backbone
from handler.network import StimuliAwareNetwork
from handler.response import polarity_log_probabilities
from handler.stimuli.stimuli import Stimuli
from train.losses import HierarchicalCrossEntropy
from train.recipe import RecipeError, TrainingConfig

Batch = tuple[Stimuli, torch.Tensor]


class EmotionModule(lightning.LightningModule):
    """Trains a network on cached stimuli.

    Args:
        network: to be trained, in place.
        config: how.
    """

    def __init__(self, network: StimuliAwareNetwork, config: TrainingConfig) -> None:
        super().__init__()
        self.network = network
        self.config = config
        self.loss = HierarchicalCrossEntropy(network.wheel, weight=config.polarity_weight)
        self.accuracy = MulticlassAccuracy(len(network.wheel), average="micro")
        self.polarity_accuracy = MulticlassAccuracy(2, average="micro")
        global_net = network.global_net
        self._frozen = (
            frozen_stages(global_net.backbone, config.freeze_stages) if global_net else []
        )
        for part in self._frozen:
            part.requires_grad_(False)

    def on_train_epoch_start(self) -> None:
        """Frozen stages keep their batch statistics too."""
        for part in self._frozen:
            part.eval()

    def training_step(self, batch: Batch, _: int) -> torch.Tensor:
        """One step; logs the loss and the running accuracy."""
        stimuli, target = batch
        response = self.network(stimuli)
        log_probabilities = response.log_probabilities
        loss: torch.Tensor = self.loss(log_probabilities, target)
        for alone, present in response.alone:
            if self.config.branch_weight and present.any():
                loss = loss + self.config.branch_weight * self.loss(alone[present], target[present])
        hits = (log_probabilities.argmax(1) == target).float().mean()
        self.log("train_loss", loss, on_step=True, on_epoch=True, prog_bar=True)
        self.log("train_accuracy", hits, on_step=False, on_epoch=True, prog_bar=True)
        return loss

    def validation_step(self, batch: Batch, _: int) -> None:
        """Accuracy over emotions and over polarities."""
        stimuli, target = batch
        log_probabilities = self.network(stimuli).log_probabilities
        wheel = self.network.wheel
        self.accuracy(log_probabilities.argmax(1), target)
        self.polarity_accuracy(
            polarity_log_probabilities(log_probabilities, wheel).argmax(1),
            (target >= wheel.positives).long(),
        )
        self.log("val_loss", self.loss(log_probabilities, target), batch_size=len(target))
        self.log("val_accuracy", self.accuracy, prog_bar=True, on_epoch=True)
        self.log("val_polarity_accuracy", self.polarity_accuracy, on_epoch=True)

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """AdamW with one cycle of the learning rate over the whole run."""
        optimizer = torch.optim.AdamW(
            self.parameter_groups(), weight_decay=self.config.weight_decay
        )
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer,
            max_lr=[float(group["lr"]) for group in optimizer.param_groups],
            # torch divides by zero where the cycle rises for one step only, as it does for five.
            total_steps=max(int(self.trainer.estimated_stepping_batches), 6),
            pct_start=0.2,
        )
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }

    def parameter_groups(self) -> list[dict[str, Any]]:
        """What is trained, with its peak learning rate: Global-Net, then everything else.

        Parameters come in the network's order in each group: a checkpoint knows the optimiser's
        state by position.
        """
        groups: list[dict[str, Any]] = [
            {"params": [], "lr": self.config.lr_backbone},
            {"params": [], "lr": self.config.lr},
        ]
        for name, parameter in self.network.named_parameters():
            if parameter.requires_grad:
                groups[0 if name.startswith("global_net.") else 1]["params"].append(parameter)
        return [group for group in groups if group["params"]]

    def transfer_batch_to_device(
        self, batch: Batch, device: torch.device, dataloader_idx: int
    ) -> Batch:
        """Stimuli are not a type that Lightning knows how to move."""
        stimuli, target = batch
        return stimuli.to(device), target.to(device)


def frozen_stages(backbone: Backbone, stages: int) -> list[nn.Module]:
    """The stem and the first ``stages`` stages of a backbone; nothing for 0.

    Raises:
        RecipeError: the backbone has fewer stages.
    """
    if stages == 0:
        return []
    trunk = backbone.trunk
    if hasattr(trunk, "blocks"):  # EfficientNet
        stem, body = [trunk.conv_stem, trunk.bn1], list(trunk.blocks)
    else:
        stem = [trunk.conv1, trunk.bn1]
        body = [trunk.layer1, trunk.layer2, trunk.layer3, trunk.layer4]
    if stages > len(body):
        raise RecipeError(f"freeze_stages is {stages}: '{backbone.name}' has {len(body)} stages")
    return [*stem, *body[:stages]]
