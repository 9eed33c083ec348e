"""The convolutional backbones that a configuration may name.

One table row a backbone: its feature size and the pixel statistics that its ImageNet weights were
trained with. `resnet50` and `resnet18` are the paper's, `resnet101` is their larger sister;
`tf_efficientnet_lite0` and its larger sister `tf_efficientnet_lite2` are the light ones.
"""

from __future__ import annotations

from dataclasses import dataclass

GLOBAL, OBJECTS, FACES, REASONS = "global", "objects", "faces", "reasons"
EXPRESSION = "expression"
"""Parts of an archive that may be compiled: Global-Net's backbone, the network of the grid or light
object source, that of the light face source, the detector of further reasons, and Expression-Net's
residual network."""
SHARED = "shared"
"""The graph of `GLOBAL` and `OBJECTS` in one, where both see the same pixels with the same layers
first."""

_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


_CENTRED = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


@dataclass(frozen=True)
class BackboneSpec:
    """What must be known of a backbone before it is built.

    Attributes:
        feature_size: Number of channels of the last feature map.
        mean: Mean of each RGB channel, of pixels scaled to 0..1.
        std: Standard deviation of each RGB channel, of pixels scaled to 0..1.
    """

    feature_size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


BACKBONES: dict[str, BackboneSpec] = {
    "resnet18": BackboneSpec(512, *_IMAGENET),
    "resnet50": BackboneSpec(2048, *_IMAGENET),
    "resnet101": BackboneSpec(2048, *_IMAGENET),
    "tf_efficientnet_lite0": BackboneSpec(1280, *_CENTRED),
    "tf_efficientnet_lite2": BackboneSpec(1280, *_CENTRED),
}


def backbone_spec(name: str) -> BackboneSpec:
    """The table row of ``name``.

    Raises:
        ValueError: The backbone is not in the table.
    """
    try:
        return BACKBONES[name]
    except KeyError:
        known = ", ".join(sorted(BACKBONES))
        raise ValueError(f"unknown backbone '{name}': expected one of {known}") from None
