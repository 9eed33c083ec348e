"""Emotion prediction, the R of stimulus-organism-response (Sec. III-C1).

    v_emo = [v_g, v_s, v_e]                     (12)
    p_emo = softmax(W v_emo)                    (13)
    p_pol = sums of p_emo over the polarities   (14, 15)

Everything is kept as logarithms: a softmax followed by a logarithm loses small probabilities, and a
softmax followed by a cross-entropy trains on the wrong numbers.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional

from handler.values.emotions import Wheel


class EmotionResponse(nn.Module):
    """Fusion and classifier.

    Args:
        feature_sizes: d1, d2, d3 of the parts that are present.
        wheel: Emotions to predict.
        dropout: Dropout rate of the fused feature, in training.
    """

    def __init__(self, *, feature_sizes: Sequence[int], wheel: Wheel, dropout: float) -> None:
        super().__init__()
        self.wheel = wheel
        self.feature_sizes = list(feature_sizes)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(sum(feature_sizes), len(wheel))

    def forward(self, parts: Sequence[torch.Tensor]) -> torch.Tensor:
        """Features (each Bxd) -> log p_emo, BxC."""
        fused = torch.cat(list(parts), dim=1)  # v_emo
        return self.classifier(self.dropout(fused)).log_softmax(dim=1)

    def each_alone(self, parts: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """What each feature says without the others: as `forward`, one answer for each part."""
        return [
            functional.linear(self.dropout(part), weight, self.classifier.bias).log_softmax(dim=1)
            for part, weight in zip(parts, self.columns(), strict=True)
        ]

    def columns(self) -> tuple[torch.Tensor, ...]:
        """The columns of W that belong to each part, Cxd, as views of it (Eq. 13 is linear)."""
        return self.classifier.weight.split(self.feature_sizes, dim=1)


def polarity_log_probabilities(log_probabilities: torch.Tensor, wheel: Wheel) -> torch.Tensor:
    """Eq. 14 and 15: log p_emo, BxC -> log p_pol, Bx2, positive first."""
    positive = log_probabilities[:, : wheel.positives].logsumexp(dim=1)
    negative = log_probabilities[:, wheel.positives :].logsumexp(dim=1)
    return torch.stack([positive, negative], dim=1)
