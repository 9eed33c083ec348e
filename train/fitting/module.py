"""`EmotionModule`: the training of a `StimuliAwareNetwork` as a LightningModule.

The network and the loss are the paper's; this module defines what is optimised, with which learning
rates, and what stays frozen. Nothing in it depends on which branches exist.
"""

from __future__ import annotations

from typing import Any

import pytorch_lightning as lightning
import torch
from pytorch_lightning.utilities.types import OptimizerLRSchedulerConfig
from torch import nn
from torch.distributions import Beta
from torch.nn import functional
from torch.optim.lr_scheduler import LRScheduler, OneCycleLR, StepLR
from torchmetrics.classification import MulticlassAccuracy

from handler.backbones import Backbone
from handler.network import StimuliAwareNetwork
from handler.response import polarity_log_probabilities
from handler.stimuli.stimuli import Stimuli
from train.fitting.losses import HierarchicalCrossEntropy
from train.fitting.mixup import mix
from train.recipes.reading import RecipeError
from train.recipes.training import TrainingConfig
from train.seeds import derived_seed

Batch = tuple[Stimuli, torch.Tensor]
FIGURES = "figures"


class EmotionModule(lightning.LightningModule):
    """Trains a network on cached stimuli.

    Args:
        network: Network, trained in place.
        config: Configuration of the training.
        steps_per_epoch: Number of batches in the training split.
        seed: Seed of dropout.
    """

    def __init__(
        self,
        network: StimuliAwareNetwork,
        config: TrainingConfig,
        *,
        steps_per_epoch: int = 1,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.network = network
        self.config = config
        self.steps_per_epoch = steps_per_epoch
        self.seed = seed
        self.loss = HierarchicalCrossEntropy(network.wheel, weight=config.polarity_weight)
        self.accuracy = MulticlassAccuracy(len(network.wheel), average="micro")
        self.polarity_accuracy = MulticlassAccuracy(2, average="micro")
        global_net = network.global_net
        self._frozen = (
            frozen_stages(global_net.backbone, config.freeze_stages) if global_net else []
        )
        for part in self._frozen:
            part.requires_grad_(False)

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Frozen stages keep their batch statistics; dropout follows from (seed, step, device)."""
        for part in self._frozen:
            part.eval()
        torch.manual_seed(derived_seed(self.seed, "step", self.global_step, self.global_rank))

    def training_step(self, batch: Batch, _: int) -> torch.Tensor:
        """One step; logs the loss and the running accuracy."""
        stimuli, labels = batch
        target = self.soft_target(labels)
        likeliest = target.argmax(1)
        if self.config.mixup:
            order = torch.randperm(len(target), device=target.device)
            weight = float(Beta(self.config.mixup, self.config.mixup).sample())
            weight = max(weight, 1 - weight)  # the accuracy is that of the heavier of two photos
            stimuli = mix(stimuli, order, weight)
            target = weight * target + (1 - weight) * target[order]
        response = self.network(stimuli)
        log_probabilities = response.log_probabilities
        loss: torch.Tensor = self.loss(log_probabilities, target)
        for alone, present in response.alone:
            if self.config.branch_weight and present.any():
                theirs = self.loss(alone[present], target[present])
                loss = loss + self.config.branch_weight * theirs
        hits = (log_probabilities.argmax(1) == likeliest).float().mean()
        shown: dict[str, Any] = {"prog_bar": True, "batch_size": len(target), "sync_dist": True}
        self.log("train_loss", loss, on_step=True, on_epoch=True, **shown)
        self.log("train_accuracy", hits, on_step=False, on_epoch=True, **shown)
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
        size = len(target)
        self.log("val_loss", self.loss(log_probabilities, target), batch_size=size, sync_dist=True)
        self.log("val_accuracy", self.accuracy, prog_bar=True, on_epoch=True, batch_size=size)
        self.log("val_polarity_accuracy", self.polarity_accuracy, on_epoch=True, batch_size=size)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Store the validation metrics of the weights in the checkpoint."""
        figures = self.trainer.callback_metrics.items()
        checkpoint[FIGURES] = {name: float(v) for name, v in figures if name.startswith("val_")}

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """The recipe's optimiser and schedule, which moves with every step."""
        kinds = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam}
        optimizer = kinds[self.config.optimizer](
            self.parameter_groups(), weight_decay=self.config.weight_decay
        )
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": self._schedule(optimizer), "interval": "step"},
        }

    def parameter_groups(self) -> list[dict[str, Any]]:
        """The trained parameters with their peak learning rates: Global-Net, then all others.

        Each group is in the network's order, as a checkpoint stores the optimiser's state by
        position.
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
        """Move a batch, as Lightning does not know the type of stimuli."""
        stimuli, target = batch
        return stimuli.to(device), target.to(device)

    def soft_target(self, labels: torch.Tensor) -> torch.Tensor:
        """Labels as distributions over the wheel, smoothed; int64, B, or BxC -> BxC."""
        size = len(self.network.wheel)
        soft = labels if labels.is_floating_point() else functional.one_hot(labels, size).float()
        smoothing = self.config.label_smoothing
        return (1 - smoothing) * soft + smoothing / size

    def _schedule(self, optimizer: torch.optim.Optimizer) -> LRScheduler:
        if self.config.schedule == "step":
            return StepLR(
                optimizer,
                step_size=self.config.step_epochs * self.steps_per_epoch,
                gamma=self.config.step_factor,
            )
        return OneCycleLR(
            optimizer,
            max_lr=[float(group["lr"]) for group in optimizer.param_groups],
            # torch divides by zero where the cycle rises for one step only, as it does for five.
            total_steps=max(self.config.epochs * self.steps_per_epoch, 6),
            pct_start=0.2,
        )


def frozen_stages(backbone: Backbone, stages: int) -> list[nn.Module]:
    """The stem and the first ``stages`` stages of a backbone; nothing for 0.

    Raises:
        RecipeError: The backbone has fewer stages.
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
