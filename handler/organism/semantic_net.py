"""Semantic-Net: how several objects together evoke an emotion (Sec. III-B2).

At every step t the attention LSTM looks at what the correlation LSTM made of the objects so far,
and decides anew how much each object matters:

    h_att(t) = LSTM_att(x_att(t), h_att(t-1))                  (3)
    x_att(t) = [h_cor(t-1), f_mean]                            (4)
    a_i(t)   = w_a tanh(W_f f_i + W_h h_att(t))                (5)
    alpha(t) = softmax(a(t))                                   (6)
    f_att    = sum_i alpha_i(t) f_i                            (7)
    h_cor(t) = LSTM_cor(x_cor(t), h_cor(t-1))                  (8)
    x_cor(t) = [h_att(t-1), f_att]                             (9)
    v_s      = h_cor(T)                                        (10)

The paper leaves T open and prints h_att(t-1) in Eq. 9, where the up-down model it builds on feeds
h_att(t). Both are settings: `steps` and `attention_feed`.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from handler.values.configs import SemanticConfig


class BahdanauAttention(nn.Module):
    """Eq. 5 to 7: a weight for each object, given the attention LSTM's state."""

    def __init__(self, *, feature_size: int, hidden: int, attention: int) -> None:
        super().__init__()
        self.of_features = nn.Linear(feature_size, attention, bias=False)  # W_f
        self.of_state = nn.Linear(hidden, attention, bias=False)  # W_h
        self.score = nn.Linear(attention, 1, bias=False)  # w_a

    def forward(
        self,
        features: torch.Tensor,
        projected: torch.Tensor,
        state: torch.Tensor,
        mask: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Attend.

        Args:
            features: Object features f, BxNxF.
            projected: W_f f, BxNxM; it is the same at every step.
            state: h_att(t), BxH.
            mask: Objects that are present, bool, BxN.

        Returns:
            f_att, BxF, and alpha, BxN (zeros for an image without objects).
        """
        scores = self.score(torch.tanh(projected + self.of_state(state).unsqueeze(1))).squeeze(-1)
        scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
        weights = scores.softmax(dim=1) * mask  # BxN
        return torch.einsum("bn,bnf->bf", weights, features), weights


def _step(gates: torch.Tensor, cell: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """An LSTM's next state and cell, BxH each, from its gates before activation, Bx4H."""
    take, forget, new, give = gates.chunk(4, dim=1)
    cell = forget.sigmoid() * cell + take.sigmoid() * new.tanh()
    return give.sigmoid() * cell.tanh(), cell


class SemanticNet(nn.Module):
    """Args: feature_size: F, taken from the object source. config: the settings."""

    def __init__(self, *, feature_size: int, config: SemanticConfig) -> None:
        super().__init__()
        self.config = config
        self.feature_size = config.hidden
        self.dropout = nn.Dropout(config.dropout)
        self.attention_lstm = nn.LSTMCell(config.hidden + feature_size, config.hidden)
        self.correlation_lstm = nn.LSTMCell(config.hidden + feature_size, config.hidden)
        self.attention = BahdanauAttention(
            feature_size=feature_size, hidden=config.hidden, attention=config.attention
        )

    def forward(
        self, features: torch.Tensor, mask: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Object features to one semantic feature.

        Args:
            features: F_s, BxNxF.
            mask: Objects that are present, bool, BxN.

        Returns:
            v_s, BxH (zeros for an image without objects), and the attention weights of every
            step, BxTxN.
        """
        # Filled, not multiplied: whatever lies under the mask, not a number included, is gone.
        features = self.dropout(features).masked_fill(~mask.unsqueeze(-1), 0.0)
        present = mask.sum(dim=1, keepdim=True).to(features.dtype)  # Bx1
        mean = features.sum(dim=1) / present.clamp(min=1)  # f_mean, BxF
        projected = self.attention.of_features(features)  # BxNxM

        zeros = features.new_zeros(len(features), self.config.hidden)
        h_att, c_att, h_cor, c_cor = zeros, zeros, zeros, zeros
        # What f_mean brings to the attention LSTM's gates is the same at every step.
        lstm, hidden = self.attention_lstm, self.config.hidden
        of_mean = functional.linear(mean, lstm.weight_ih[:, hidden:], lstm.bias_ih + lstm.bias_hh)
        steps = []
        for _ in range(self.config.steps):
            h_before = h_att
            gates = torch.addmm(of_mean, h_cor, lstm.weight_ih[:, :hidden].t())
            gates = torch.addmm(gates, h_att, lstm.weight_hh.t())
            h_att, c_att = _step(gates, c_att)
            attended, weights = self.attention(features, projected, h_att, mask)
            feed = h_before if self.config.attention_feed == "previous" else h_att
            h_cor, c_cor = self.correlation_lstm(torch.cat([feed, attended], 1), (h_cor, c_cor))
            steps.append(weights)
        return h_cor * (present > 0), torch.stack(steps, dim=1)
