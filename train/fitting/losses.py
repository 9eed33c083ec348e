"""The hierarchical cross-entropy loss (Sec. III-C2).

    L = L_emo + lambda L_pol    (18)

Eq. 16 and 17 are printed without the minus sign that makes them losses; both are negative
log-likelihoods here, computed from logarithms throughout.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from handler.response import polarity_log_probabilities
from handler.values.emotions import Wheel


class HierarchicalCrossEntropy(nn.Module):
    """Cross-entropy over emotions plus cross-entropy over polarities.

    A false prediction of the wrong polarity (hard) costs more than one of the right one (easy).

    Args:
        wheel: Wheel that tells which emotions are positive.
        weight: Weight lambda; 0 leaves the plain cross-entropy.
    """

    def __init__(self, wheel: Wheel, *, weight: float = 1.0) -> None:
        super().__init__()
        self.wheel = wheel
        self.weight = weight

    def forward(self, log_probabilities: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Mean loss of a batch.

        Args:
            log_probabilities: Logarithms of p_emo, BxC (already normalised: not logits).
            target: Emotion indices on the wheel, int64, B; or a distribution over it for each
                photo, BxC: the loss is then its expectation under that distribution.
        """
        polarity_log = polarity_log_probabilities(log_probabilities, self.wheel)
        if target.is_floating_point():
            positive = target[:, : self.wheel.positives].sum(dim=1)
            negative = target[:, self.wheel.positives :].sum(dim=1)
            emotion = -(target * log_probabilities).sum(dim=1).mean()
            polarity = -(torch.stack([positive, negative], 1) * polarity_log).sum(dim=1).mean()
        else:
            emotion = functional.nll_loss(log_probabilities, target)
            polarity = functional.nll_loss(polarity_log, (target >= self.wheel.positives).long())
        return emotion + self.weight * polarity
