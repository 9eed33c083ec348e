"""`StimuliAwareNetwork`: organism and response together (Fig. 3 of the paper).

An ablation is a configuration: leave a branch out by setting it to None.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import nn

from handler.backbones import BackboneRuntime, TorchRuntime
from handler.organism.expression_net import ExpressionNet
from handler.organism.global_net import GlobalNet
from handler.organism.semantic_net import SemanticNet
from handler.response import EmotionResponse
from handler.stimuli.stimuli import Stimuli
from handler.values import emotions
from handler.values.backbones import EXPRESSION, GLOBAL
from handler.values.configs import NetworkConfig


@dataclass
class Perception:
    """What the organism makes of B images, before the response.

    Attributes:
        features: v_g, v_s, v_e, as far as there are such branches, each Bxd.
        present: Images that have the stimulus of each branch, bool, B.
        attention: Weight of each object in the last step, BxN; None without Semantic-Net.
        feature_map: F_g, Bxd1xhxw; None without Global-Net.
    """

    features: list[torch.Tensor]
    present: list[torch.Tensor]
    attention: torch.Tensor | None
    feature_map: torch.Tensor | None


@dataclass
class Response:
    """What the network says about B images.

    Attributes:
        log_probabilities: Logarithm of p_emo, BxC.
        attention: Weight of each object in the last step, BxN; None without Semantic-Net.
        feature_map: F_g, Bxd1xhxw; None without Global-Net.
        features: v_g, v_s, v_e, as far as there are such branches, each Bxd; side by side, they are
            the fused feature v_emo of Eq. 12.
        alone: In training, for each branch, log p_emo of that branch without the others, BxC, and
            the images that have its stimulus, bool, B; otherwise empty.
    """

    log_probabilities: torch.Tensor
    attention: torch.Tensor | None
    feature_map: torch.Tensor | None
    features: list[torch.Tensor] = field(default_factory=list)
    alone: list[tuple[torch.Tensor, torch.Tensor]] = field(default_factory=list)

    def put(self, rows: Sequence[int], others: Response) -> None:
        """Put the response to some of the images in its place; not in training.

        Args:
            rows: Positions of the images.
            others: Response to these images, in this order, of a network with the same branches.
        """
        here = list(rows)
        self.log_probabilities[here] = others.log_probabilities
        for mine, other in (
            *zip(self.features, others.features, strict=True),
            (self.attention, others.attention),
            (self.feature_map, others.feature_map),
        ):
            if mine is not None and other is not None:
                mine[here] = other


class StimuliAwareNetwork(nn.Module):
    """Organism and response.

    Args:
        config: Branches and their sizes.
        runtime: Runtime of Global-Net's backbone and of Expression-Net; torch by default.
    """

    def __init__(self, config: NetworkConfig, *, runtime: BackboneRuntime | None = None) -> None:
        super().__init__()
        self.config = config
        self.wheel = emotions.wheel(config.wheel)
        compiled = {part: (runtime or TorchRuntime()).trunk(part) for part in (GLOBAL, EXPRESSION)}
        self.global_net = (
            GlobalNet(config.global_backbone, compiled=compiled[GLOBAL])
            if config.global_backbone
            else None
        )
        self.semantic_net = (
            SemanticNet(feature_size=config.object_features, config=config.semantic)
            if config.semantic
            else None
        )
        self.expression_net = (
            ExpressionNet(width=config.expression_width, compiled=compiled[EXPRESSION])
            if config.expression_width
            else None
        )
        branches = (self.global_net, self.semantic_net, self.expression_net)
        sizes = [branch.feature_size for branch in branches if branch is not None]
        self.response = EmotionResponse(
            feature_sizes=sizes, wheel=self.wheel, dropout=config.dropout
        )

    def perceive(self, stimuli: Stimuli) -> Perception:
        """Stimuli of B images -> what each branch makes of them, Eq. 1 to 11."""
        features, present, attention, feature_map = [], [], None, None
        if self.global_net is not None:
            v_g, feature_map = self.global_net(stimuli.colour, stimuli.feature_map)
            features.append(v_g)
            present.append(torch.ones(len(v_g), dtype=torch.bool, device=v_g.device))
        if self.semantic_net is not None:
            objects = stimuli.objects
            v_s, steps = self.semantic_net(objects.features, objects.mask)
            features.append(v_s)
            present.append(objects.mask.any(dim=1))
            attention = steps[:, -1]
        if self.expression_net is not None:
            features.append(self.expression_net(stimuli.faces.crops, stimuli.faces.mask))
            present.append(stimuli.faces.mask)
        return Perception(features, present, attention, feature_map)

    def forward(self, stimuli: Stimuli) -> Response:
        """Stimuli of B images -> the response to each, Eq. 12 and 13."""
        seen = self.perceive(stimuli)
        answers = self.response.each_alone(seen.features) if self.training else []
        alone = list(zip(answers, seen.present, strict=False))
        return Response(
            self.response(seen.features), seen.attention, seen.feature_map, seen.features, alone
        )

    def activation_map(self, response: Response, emotion: torch.Tensor) -> torch.Tensor | None:
        """Where Global-Net sees the given emotion (class activation map, Fig. 12).

        Args:
            response: Response of this network to B images.
            emotion: int64, B, the emotion to explain in each.

        Returns:
            float, Bxhxw, the evidence of each place before pooling; None without Global-Net.
        """
        if response.feature_map is None:
            return None
        size = response.feature_map.shape[1]
        weights = self.response.classifier.weight[emotion, :size]  # Bxd1; v_g comes first
        # The map is in half precision where the network computed in it.
        return torch.einsum("bd,bdhw->bhw", weights, response.feature_map.to(weights.dtype))
