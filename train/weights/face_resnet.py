"""The FER2013 ResNet-18 of Facial-Expression-Recognition.Pytorch, as Expression-Net's trunk.

That network saw grey faces copied into three channels, scaled to 0..1 and nothing else. Ours sees
one channel, scaled likewise: the sum of the stem's weights over the three channels gives the same
feature map. The classifier of seven expressions is left.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

from handler.organism.expression_net import FaceResNet
from train.weights.conversion import Conversion, NotThis, shapes_of, take


def is_face_resnet(tensors: Mapping[str, torch.Tensor]) -> bool:
    """Whether these are the tensors of a ResNet with a small stem and a linear classifier."""
    stem = tensors.get("conv1.weight")
    return (
        stem is not None
        and tuple(stem.shape[1:]) == (3, 3, 3)
        and {"layer4.1.conv2.weight", "linear.weight"} <= set(tensors)
    )


def convert_face_resnet(source: Mapping[str, torch.Tensor]) -> Conversion:
    """The trunk in the layout of `FaceResNet`.

    Raises:
        NotThis: The file is a ResNet of another depth.
    """
    width = len(source["conv1.weight"])
    with torch.device("meta"):
        trunk = FaceResNet(width)
    wanted = {name: (_their_name(name), shape) for name, shape in shapes_of(trunk).items()}
    wanted["0.0.weight"] = "conv1.weight", (width, 3, 3, 3)
    used = {theirs for theirs, _ in wanted.values()}
    for name in source:
        if name.startswith("layer") and name not in used:
            raise NotThis(f"has '{name}', which is not part of it")
    tensors = take(source, wanted)
    tensors["0.0.weight"] = tensors["0.0.weight"].sum(dim=1, keepdim=True)
    return Conversion(
        kind="face_resnet",
        name="fer2013-resnet18",
        about="ResNet-18 on FER2013 (Facial-Expression-Recognition.Pytorch)",
        settings={"width": width},
        tensors=tensors,
        used=used,
    )


def _their_name(name: str) -> str:
    """``0.0`` is the stem's convolution, ``0.1`` its norm; ``1`` to ``4`` are the stages."""
    stage, part, rest = name.split(".", 2)
    if stage == "0":
        return f"{'conv1' if part == '0' else 'bn1'}.{rest}"
    return f"layer{stage}.{part}.{rest.replace('downsample', 'shortcut')}"
