"""`EmotionModule`: how a `StimuliAwareNetwork` learns, as a LightningModule.

The network and the loss are the paper's; this file only says what is optimised, how fast, and what
stays frozen. Nothing in it asks which branches exist.
"""

from __future__ import annotations

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
from train.recipe import TrainingConfig

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
        log_probabilities = self.network(stimuli).log_probabilities
        loss: torch.Tensor = self.loss(log_probabilities, target)
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
        global_net = self.network.global_net
        backbone = set(global_net.parameters()) if global_net else set()
        groups = [
            {
                "params": [p for p in backbone if p.requires_grad],
                "lr": self.config.lr_backbone,
            },
            {
                "params": [p for p in self.network.parameters() if p not in backbone],
                "lr": self.config.lr,
            },
        ]
        groups = [group for group in groups if group["params"]]
        optimizer = torch.optim.AdamW(groups, weight_decay=self.config.weight_decay)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer,
            max_lr=[float(group["lr"]) for group in optimizer.param_groups],
            total_steps=int(self.trainer.estimated_stepping_batches),
            pct_start=0.2,
        )
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }

    def transfer_batch_to_device(
        self, batch: Batch, device: torch.device, dataloader_idx: int
    ) -> Batch:
        """Stimuli are not a type that Lightning knows how to move."""
        stimuli, target = batch
        return stimuli.to(device), target.to(device)


def frozen_stages(backbone: Backbone, stages: int) -> list[nn.Module]:
    """The stem and the first ``stages`` stages of a backbone; nothing for 0."""
    if stages == 0:
        return []
    trunk = backbone.trunk
    if hasattr(trunk, "blocks"):  # EfficientNet
        return [trunk.conv_stem, trunk.bn1, *trunk.blocks[:stages]]
    residual = [getattr(trunk, f"layer{i + 1}") for i in range(stages)]
    return [trunk.conv1, trunk.bn1, *residual]
