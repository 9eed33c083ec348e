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

from handler.backbones import BackboneRuntime, TorchRuntime
from handler.stimuli.stimuli import Objects
from handler.values.backbones import OBJECTS


class ObjectSource(nn.Module, ABC):
    """Images -> regions.

    Attributes:
        feature_size: F, length of one region's feature vector.
        count: N, regions an image at most.
        vocabulary: Name of each label index.
        names: Name of each index in `Objects.names`; empty if the source names regions by
            `Objects.labels`.
        name_threshold: Least score of a name that is likely right, 0 to 1; below it a region has no
            name.
        attributes: Name of each attribute index; empty if the source has no attributes.
        cpu_batch: Best batch size on a CPU, where larger batches exceed the cache.
        gpu_batch: Best batch size on a GPU, limited by its memory.
    """

    feature_size: int
    count: int
    vocabulary: Sequence[str]
    names: Sequence[str] = ()
    name_threshold: float
    attributes: Sequence[str] = ()
    cpu_batch: int = 8
    gpu_batch: int = 64

    @abstractmethod
    def select(self, images: Sequence[torch.Tensor]) -> Objects:
        """The regions of each image (uint8, 3xHxW, any sizes)."""


def build_object_source(
    config: dict[str, Any], runtime: BackboneRuntime | None = None
) -> ObjectSource:
    """The source that ``config["source"]`` names, built from the rest of ``config``.

    Args:
        config: Name and settings of the source.
        runtime: Runtime of the backbone of grid objects and of the light detector; the other
            detectors always run with torch, which is also the default.

    Raises:
        ValueError: There is no such source.
        TypeError: The source does not have one of the settings.
        VeaError: The source needs a package that is not installed.
    """
    settings = dict(config)
    source = settings.pop("source", None)
    # Each source is imported alone: a host needs the packages of the source it uses, no others.
    if source == "grid":
        from handler.stimuli.objects.grid import GridObjects

        return GridObjects(**settings, compiled=(runtime or TorchRuntime()).trunk(OBJECTS))
    if source == "light":
        from handler.stimuli.objects.light import LightObjects

        return LightObjects(**settings, compiled=(runtime or TorchRuntime()).trunk(OBJECTS))
    if source == "visual_genome":
        from handler.stimuli.objects.visual_genome import VisualGenomeObjects

        return VisualGenomeObjects(**settings)
    if source == "coco":
        from handler.stimuli.objects.coco import CocoObjects

        return CocoObjects(**settings)
    raise ValueError(
        f"unknown object source '{source}': expected 'grid', 'light', 'visual_genome' or 'coco'"
    )
