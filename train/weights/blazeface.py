"""MediaPipe's BlazeFace, full range, as published for TensorFlow.js, as `BlazeFace`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import nn

from handler.stimuli.faces.blazeface import BlazeFace
from train.weights.conversion import Conversion, NotThis, take
from train.weights.packages import BLAZEFACE

_PREFIX = "StatefulPartitionedCall/model/"
_SCORE, _PLACE = "classifier_face_4_NO_PRUNING", "regressor_face_4_NO_PRUNING"


def is_blazeface(tensors: Mapping[str, torch.Tensor]) -> bool:
    """Whether these are the arrays of a BlazeFace of one grid of 4 x 4 values."""
    return f"{_PREFIX}{_SCORE}/Conv2D/ReadVariableOp" in tensors


def convert_blazeface(source: Mapping[str, torch.Tensor]) -> Conversion:
    """The network in the layout of `BlazeFace`, in half precision as it was published.

    Raises:
        NotThis: The file is a BlazeFace of another shape.
    """
    with torch.device("meta"):
        network = BlazeFace()
    names = dict(_names(network))
    wanted = {
        ours: (theirs, _their_shape(network.get_submodule(ours.rpartition(".")[0]), ours))
        for ours, theirs in names.items()
    }
    taken = take(source, wanted)
    tensors = {
        name: _arranged(network.get_submodule(name.rpartition(".")[0]), tensor)
        for name, tensor in taken.items()
    }
    halves = {name: tensor.half() for name, tensor in tensors.items()}
    if any(not torch.equal(halves[name].float(), tensors[name]) for name in halves):
        raise NotThis("holds more than half precision")
    return Conversion(
        kind="blazeface",
        name=BLAZEFACE,
        about=(
            "BlazeFace, full range (MediaPipe; Copyright The MediaPipe Authors, Apache-2.0), "
            "from a TensorFlow.js graph"
        ),
        settings={},
        tensors=halves,
        # Whole numbers are constants of the graph's operations.
        used={
            *names.values(),
            *(name for name, value in source.items() if not value.is_floating_point()),
        },
    )


def _names(network: BlazeFace) -> Iterator[tuple[str, str]]:
    """Our name and the published name of each tensor."""
    point, depth = 0, 0
    yield from _of_convolution("stem", "conv2d")
    for number, scale in enumerate(network.scales):
        assert isinstance(scale, nn.Sequential)
        for block in range(len(scale)):
            yield from _of_block(f"scales.{number}.{block}", point + 1, depth)
            point, depth = point + 2, depth + 2
    for number, join in enumerate(network.joins):
        blocks = join.get_submodule("blocks")
        assert isinstance(blocks, nn.Sequential)
        yield from _of_convolution(f"joins.{number}.coarse", f"conv2d_{point + 1}")
        yield from _of_convolution(f"joins.{number}.fine", f"conv2d_{point + 2}")
        point += 2
        for block in range(len(blocks)):
            yield from _of_block(f"joins.{number}.blocks.{block}", point + 1, depth)
            point, depth = point + 2, depth + 2
    for ours, theirs in (("score", _SCORE), ("place", _PLACE)):
        yield f"{ours}.point.weight", f"{_PREFIX}{theirs}/Conv2D/ReadVariableOp"
        yield f"{ours}.point.bias", f"{_PREFIX}{theirs}/BiasAdd/ReadVariableOp"
        layer = f"{_PREFIX}depthwise_conv2d_{depth}"
        yield f"{ours}.depth.weight", f"{layer}/depthwise/ReadVariableOp"
        yield f"{ours}.depth.bias", f"{layer}/BiasAdd/ReadVariableOp"
        depth += 1


def _of_block(ours: str, point: int, depth: int) -> Iterator[tuple[str, str]]:
    for number, part in enumerate(("narrow", "widen")):
        layer = f"{_PREFIX}{_numbered('depthwise_conv2d', depth + number)}/depthwise"
        yield f"{ours}.{part}.0.weight", f"{layer}_weights"
        yield f"{ours}.{part}.0.bias", f"{layer}_bn_offset"
        yield from _of_convolution(f"{ours}.{part}.1", f"conv2d_{point + number}")


def _numbered(name: str, number: int) -> str:
    """Layers are numbered in the order in which they were made; the first has no number."""
    return f"{name}_{number}" if number else name


def _of_convolution(ours: str, theirs: str) -> Iterator[tuple[str, str]]:
    yield f"{ours}.weight", f"{_PREFIX}{theirs}/Conv2D_weights"
    yield f"{ours}.bias", f"{_PREFIX}{theirs}/Conv2D_bn_offset"


def _their_shape(layer: nn.Module, name: str) -> tuple[int, ...]:
    """Height and width first, then the channels, which a depthwise convolution does not mix."""
    assert isinstance(layer, nn.Conv2d)
    if name.endswith("bias"):
        return (layer.out_channels,)
    if layer.groups > 1:
        return (*layer.kernel_size, layer.groups, 1)
    return (*layer.kernel_size, layer.in_channels, layer.out_channels)


def _arranged(layer: nn.Module, tensor: torch.Tensor) -> torch.Tensor:
    assert isinstance(layer, nn.Conv2d)
    if tensor.ndim == 1:
        return tensor
    order = (2, 3, 0, 1) if layer.groups > 1 else (3, 2, 0, 1)
    return tensor.permute(*order).contiguous()
