"""The network of a row: the parts behind the frozen backbones that the row has.

Where the full training fine-tunes Global-Net's backbone, here one hidden layer is trained on its
frozen feature. Semantic-Net and the response are those of the full model. So is Expression-Net
where its trunk is initialised at random; a pre-trained trunk stays frozen, and its feature is an
input of the response.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import nn

from handler.organism.expression_net import ExpressionNet
from handler.organism.semantic_net import SemanticNet
from handler.response import EmotionResponse
from handler.values.configs import SemanticConfig
from handler.values.emotions import Wheel
from train.ablation.features import FeatureBatch, FeatureSet
from train.ablation.studies import Variant


@dataclass(frozen=True)
class Sizes:
    """Sizes that the networks of all rows have in common.

    Attributes:
        colour: Size d1 of the frozen backbone's feature.
        objects: Size F of an object's feature.
        faces: Size d3 of a frozen trunk's feature; None where Expression-Net is trained.
        hidden: Number of units of the layer over v_g.
        expression_width: Width of a trained Expression-Net.
        dropout: Dropout rate before the classifier.
    """

    colour: int
    objects: int
    faces: int | None
    hidden: int
    expression_width: int
    dropout: float

    @classmethod
    def of(
        cls, features: FeatureSet, *, hidden: int, expression_width: int, dropout: float
    ) -> Sizes:
        """The sizes that fit ``features``."""
        return cls(
            colour=features.colour["rgb"].shape[-1],
            objects=features.objects.shape[-1],
            faces=None if features.faces_are_crops else features.faces.shape[-1],
            hidden=hidden,
            expression_width=expression_width,
            dropout=dropout,
        )


class MeanObjects(nn.Module):
    """The FC of Table II: a fully connected layer over the mean of the objects' features.

    Args:
        feature_size: Size F of an object's feature.
        config: Configuration of the Semantic-Net that this part replaces: size of the output,
            dropout of the input.
    """

    def __init__(self, *, feature_size: int, config: SemanticConfig) -> None:
        super().__init__()
        self.feature_size = config.hidden
        self.dropout = nn.Dropout(config.dropout)
        self.layer = nn.Sequential(nn.Linear(feature_size, config.hidden), nn.ReLU())

    def forward(self, features: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Features, BxNxF, and which are real, bool, BxN -> v_s, BxH; zeros without objects."""
        features = self.dropout(features).masked_fill(~mask.unsqueeze(-1), 0.0)
        present = mask.sum(dim=1, keepdim=True)
        mean = features.sum(dim=1) / present.clamp(min=1)
        return self.layer(mean) * (present > 0)


class AblationNetwork(nn.Module):
    """Organism and response behind frozen backbones.

    Args:
        variant: Branches, N, T and the feed.
        sizes: Sizes of the branches' inputs.
        semantic: Configuration of the recipe's Semantic-Net; T and the feed are the variant's.
        wheel: Wheel of the emotions.
    """

    def __init__(
        self, variant: Variant, *, sizes: Sizes, semantic: SemanticConfig, wheel: Wheel
    ) -> None:
        super().__init__()
        self.variant = variant
        self.global_layer = (
            nn.Sequential(nn.Linear(sizes.colour, sizes.hidden), nn.ReLU())
            if variant.colour
            else None
        )
        semantic = replace(semantic, steps=variant.steps, attention_feed=variant.attention_feed)
        self.semantic_net: SemanticNet | MeanObjects | None = None
        if variant.semantic == "lstms":
            self.semantic_net = SemanticNet(feature_size=sizes.objects, config=semantic)
        elif variant.semantic == "fc":
            self.semantic_net = MeanObjects(feature_size=sizes.objects, config=semantic)
        self.expression_net = (
            ExpressionNet(width=sizes.expression_width)
            if variant.expression and sizes.faces is None
            else None
        )
        feature_sizes = []
        if self.global_layer is not None:
            feature_sizes.append(sizes.hidden)
        if self.semantic_net is not None:
            feature_sizes.append(self.semantic_net.feature_size)
        if variant.expression:
            feature_sizes.append(
                self.expression_net.feature_size if self.expression_net else sizes.faces or 0
            )
        self.response = EmotionResponse(
            feature_sizes=feature_sizes, wheel=wheel, dropout=sizes.dropout
        )

    def batch(
        self, features: FeatureSet, rows: torch.Tensor, mirrored: torch.Tensor | None = None
    ) -> FeatureBatch:
        """The features of some photos that this network needs; see `FeatureSet.batch`."""
        return features.batch(
            rows,
            colour=self.variant.colour,
            objects=self.variant.objects if self.variant.semantic else 0,
            faces=self.variant.expression,
            mirrored=mirrored,
        )

    def forward(
        self, batch: FeatureBatch, *, precision: torch.dtype = torch.float32
    ) -> tuple[torch.Tensor, list[tuple[torch.Tensor, torch.Tensor]]]:
        """The response to B photos.

        Args:
            batch: Batch that `batch` made.
            precision: Floating-point type of the branches' products; the response is always in
                float32.

        Returns:
            Logarithms of p_emo, BxC; in training also, for each branch, log p_emo of that branch
            alone, and which photos have its stimulus, bool, B.
        """
        device = batch.face_mask.device.type
        with torch.autocast(device, dtype=precision, enabled=precision != torch.float32):
            features, present = self._perceive(batch)
        features = [feature.float() for feature in features]
        answers = self.response.each_alone(features) if self.training else []
        return self.response(features), list(zip(answers, present, strict=False))

    def _perceive(self, batch: FeatureBatch) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        features, present = [], []
        if self.global_layer is not None:
            assert batch.colour is not None
            features.append(self.global_layer(batch.colour))
            present.append(torch.ones_like(batch.face_mask))
        if self.semantic_net is not None:
            assert batch.objects is not None
            assert batch.object_mask is not None
            seen = self.semantic_net(batch.objects, batch.object_mask)
            features.append(seen[0] if isinstance(seen, tuple) else seen)
            present.append(batch.object_mask.any(dim=1))
        if self.variant.expression:
            assert batch.faces is not None
            if self.expression_net is not None:
                features.append(self.expression_net(batch.faces, batch.face_mask))
            else:
                features.append(batch.faces)
            present.append(batch.face_mask)
        return features, present
