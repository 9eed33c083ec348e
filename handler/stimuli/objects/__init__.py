"""Object sources, one file each, behind one small protocol.

A source is a frozen network: it is never trained on emotions (Sec. III-A). The semantic network
takes the feature size from the source, so a source can be exchanged by configuration.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from handler.stimuli.stimuli import Objects


class ObjectSource(nn.Module, ABC):
    """Images -> regions.

    Attributes:
        feature_size: F, length of one region's feature vector.
        count: N, regions an image at most.
        vocabulary: name of each label index.
    """

    feature_size: int
    count: int
    vocabulary: Sequence[str]

    @abstractmethod
    def select(self, images: Sequence[torch.Tensor]) -> Objects:
        """The regions of each image (uint8, 3xHxW, any sizes)."""


def build_object_source(config: dict[str, Any]) -> ObjectSource:
    """The source that ``config["source"]`` names, built from the rest of ``config``.

    Raises:
        ValueError: no such source, or a setting it does not have.
    """
    settings = dict(config)
    source = settings.pop("source", None)
    if source == "grid":
        from handler.stimuli.objects.grid import GridObjects

        return GridObjects(**settings)
    raise ValueError(f"unknown object source '{source}': expected 'grid'")
