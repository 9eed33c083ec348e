"""The mean of a model's weights before and after a fine-tuning.

Wortsman et al., "Robust Fine-Tuning of Zero-Shot Models", CVPR 2022: two networks of which one was
trained on from the other are so near to each other that the mean of their weights is a network as
well, about as good as the mean of their answers, at the cost of one.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

from handler.network import StimuliAwareNetwork
from train.weights.trained import BRANCHES, branch_columns, is_trained


class Start:
    """The weights that a network begins with, of its branches from trained models.

    Args:
        network: Network before the training.
        names: Initial weights by part, as `Recipe.initial` has them.
    """

    def __init__(self, network: StimuliAwareNetwork, names: Mapping[str, str]) -> None:
        self._parts = [part for part in BRANCHES if is_trained(names[part])]
        self._weights = {name: value.clone() for name, value in self._of(network).items()}

    @torch.no_grad()
    def blend_into(self, network: StimuliAwareNetwork, share: float) -> None:
        """Blend these weights into those of the trained network.

        Args:
            network: Trained network, changed in place; on the device of the first one.
            share: Weight of the start, 0 to 1.
        """
        for name, value in self._of(network).items():
            if value.is_floating_point():  # not the number of batches that were seen
                value.lerp_(self._weights[name], share)

    def _of(self, network: StimuliAwareNetwork) -> dict[str, torch.Tensor]:
        """Weights, statistics and columns of the branches, which are views of the network's."""
        found: dict[str, torch.Tensor] = {}
        for part, columns in branch_columns(network).items():
            if part in self._parts:
                branch = getattr(network, BRANCHES[part]).state_dict()
                found |= {f"{part}.{name}": value for name, value in branch.items()}
                found[part] = columns.detach()
        if found:
            found["bias"] = network.response.classifier.bias.detach()
        return found
