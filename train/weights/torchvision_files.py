"""torchvision's published files: ResNets on ImageNet, and Faster R-CNN on COCO.

timm names the layers of its ResNets as torchvision does, so that a backbone's tensors keep their
names. The classifier `fc` is kept beside the trunk, for the grid source, which names its cells by
it.
"""

from __future__ import annotations

from collections.abc import Mapping

import timm
import torch
from torchvision.models.detection import fasterrcnn_resnet50_fpn_v2

from train.weights.conversion import Conversion, NotThis, shapes_of, take
from train.weights.initial import CLASSIFIER

_RESNETS = ("resnet18", "resnet50", "resnet101")
_DETECTOR = "detector."
_COUNTERS = "num_batches_tracked"


def is_coco(tensors: Mapping[str, torch.Tensor]) -> bool:
    """Whether these are the tensors of one of torchvision's Faster R-CNNs with a ResNet."""
    return {"backbone.body.conv1.weight", "roi_heads.box_predictor.cls_score.weight"} <= set(
        tensors
    )


def convert_coco(source: Mapping[str, torch.Tensor]) -> Conversion:
    """``fasterrcnn_resnet50_fpn_v2`` in the layout of `CocoObjects`.

    Raises:
        NotThis: The file is another detector of torchvision's.
    """
    with torch.device("meta"):
        detector = fasterrcnn_resnet50_fpn_v2(weights=None, weights_backbone=None)
    wanted = {_DETECTOR + name: (name, shape) for name, shape in shapes_of(detector).items()}
    _check_nothing_else(source, {name for name, _ in wanted.values()})
    return Conversion(
        kind="coco",
        name="coco",
        about="torchvision's Faster R-CNN ResNet-50 FPN v2 on COCO",
        settings={},
        tensors=take(source, wanted),
        used={name for name, _ in wanted.values()},
    )


def is_resnet(tensors: Mapping[str, torch.Tensor]) -> bool:
    """Whether these are the tensors of a ResNet for ImageNet, of any depth."""
    return (
        "conv1.weight" in tensors
        and tuple(tensors["conv1.weight"].shape) == (64, 3, 7, 7)
        and "layer4.0.conv1.weight" in tensors
    )


def convert_resnet(source: Mapping[str, torch.Tensor]) -> Conversion:
    """A ResNet in the layout of `Backbone.trunk`, its classifier beside it.

    Raises:
        NotThis: The file is none of the ResNets that are backbones here.
    """
    found = {name for name in source if not name.startswith("fc.") and _COUNTERS not in name}
    for name in _RESNETS:
        with torch.device("meta"):
            trunk = timm.create_model(name, pretrained=False, num_classes=0, global_pool="")
        shapes = shapes_of(trunk)
        if {key for key in shapes if _COUNTERS not in key} == found:
            break
    else:
        raise NotThis(f"is none of {', '.join(_RESNETS)}")
    wanted = {key: (key, shape) for key, shape in shapes.items()}
    features = trunk.num_features
    if "fc.weight" in source and "fc.bias" in source:
        classes = len(source["fc.bias"])
        wanted[f"{CLASSIFIER}weight"] = "fc.weight", (classes, features)
        wanted[f"{CLASSIFIER}bias"] = "fc.bias", (classes,)
    return Conversion(
        kind="backbone",
        name=f"imagenet-{name}",
        about=f"torchvision's {name} on ImageNet",
        settings={"backbone": name},
        tensors=take(source, wanted),
        used={theirs for theirs, _ in wanted.values()},
    )


def _check_nothing_else(source: Mapping[str, torch.Tensor], known: set[str]) -> None:
    """Refuse unused tensors: a larger network must not pass for a smaller one."""
    for name in source:
        if name not in known and _COUNTERS not in name:
            raise NotThis(f"has '{name}', which is not part of it")
