"""Two backbones in one graph, which computes once what both compute of the same pixels.

A frozen object backbone and a Global-Net whose first stages kept their ImageNet weights are the
same network up to there. In the graph of both, nodes that do the same with the same inputs become
one.
"""

from __future__ import annotations

from pathlib import Path

import onnx
import torch
from torch import nn
from torch.nn import functional

from handler.backbones import Backbone


class SideBySide(nn.Module):
    """Two backbones that see the same images, and the classifier of the second one.

    Args:
        one: First backbone.
        other: Second backbone, with a classifier.
    """

    def __init__(self, one: Backbone, other: Backbone) -> None:
        super().__init__()
        self.one = one
        self.other = other

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Images to maps.

        Args:
            images: uint8, Bx3xHxW.

        Returns:
            The feature maps of both, float, BxFxhxw, and the logits of the classifier in each cell
            of the second one, float, BxCxhxw.
        """
        found, classifier = self.other(images), self.other.classifier
        assert classifier is not None
        weights = classifier.weight[:, :, None, None]
        return self.one(images), found, functional.conv2d(found, weights, classifier.bias)


def begin_alike(one: Backbone, other: Backbone) -> bool:
    """Whether two backbones have the same first layer: the same kind and the same weights."""
    if one.name != other.name:
        return False
    weights = (next(backbone.trunk.parameters()) for backbone in (one, other))
    return torch.equal(*weights)


def merge_equal_nodes(graph: Path) -> None:
    """Keep one of each group of nodes that compute the same; the file is changed in place.

    Args:
        graph: Path of an ONNX graph whose nodes are in the order of computation.
    """
    model = onnx.load(str(graph))
    weights = {one.name: one for one in model.graph.initializer}
    # What a tensor is: a name, or for weights what they hold, whatever their name.
    values = {name: _content(tensor) for name, tensor in weights.items()}
    ends = {output.name for output in model.graph.output}  # which stay, even if they are equal
    kept: dict[tuple[object, ...], onnx.NodeProto] = {}
    renamed: dict[str, str] = {}
    for node in list(model.graph.node):
        inputs = [renamed.get(name, name) for name in node.input]
        does = tuple(attribute.SerializeToString() for attribute in node.attribute)
        same = node.op_type, does, tuple(values.get(name, name.encode()) for name in inputs)
        first = kept.setdefault(same, node)
        if ends.intersection(node.output):
            node.input[:] = inputs
        elif node.op_type == "Identity":  # how the exporter says that two weights are the same
            renamed[node.output[0]] = inputs[0]
            model.graph.node.remove(node)
        elif first is node:
            node.input[:] = inputs
        else:
            renamed.update(zip(node.output, first.output, strict=True))
            model.graph.node.remove(node)
    used = {name for node in model.graph.node for name in node.input}
    for name, tensor in weights.items():
        if name not in used:
            model.graph.initializer.remove(tensor)
    onnx.save(model, str(graph))


def _content(tensor: onnx.TensorProto) -> bytes:
    """Type, shape and numbers of weights, without their name."""
    copy = onnx.TensorProto()
    copy.CopyFrom(tensor)
    copy.ClearField("name")
    return copy.SerializeToString()
