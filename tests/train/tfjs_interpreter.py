"""TensorFlow.js graphs computed with NumPy, node by node: slow, and independent of any network."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


def run_graph(
    nodes: Sequence[Mapping[str, Any]],
    constants: Mapping[str, Array],
    inputs: Mapping[str, Array],
    outputs: Sequence[str],
) -> list[Array]:
    """The values of some nodes.

    Args:
        nodes: Nodes of the graph, as its JSON file has them.
        constants: Weights and other constants by name.
        inputs: Values of the graph's placeholders by name.
        outputs: Names of the wanted nodes.
    """
    by_name = {node["name"]: node for node in nodes}
    known: dict[str, Any] = {**constants, **inputs}

    def value(name: str) -> Any:
        name, _, part = name.partition(":")
        if name not in known:
            node = by_name[name]
            given = [value(one) for one in node.get("input", [])]
            known[name] = _OPERATIONS[node["op"]](given, node.get("attr", {}))
        return known[name][int(part or 0)] if isinstance(known[name], list) else known[name]

    return [value(name) for name in outputs]


def _convolve(given: Sequence[Array], attributes: Mapping[str, Any]) -> Array:
    """Images, NHWC, and a kernel, height x width x input x output; without padding."""
    images, kernel = given
    assert base64.b64decode(attributes["padding"]["s"]) == b"VALID"
    views = _windows(images, kernel.shape[:2], attributes["strides"])  # NhwCyx
    return np.tensordot(views, kernel, axes=([4, 5, 3], [0, 1, 2]))


def _fused(given: Sequence[Array], attributes: Mapping[str, Any]) -> Array:
    """A convolution of 1x1 or without padding, and what follows it."""
    images, kernel, bias = given
    assert kernel.shape[:2] == (1, 1) or base64.b64decode(attributes["padding"]["s"]) == b"VALID"
    views = _windows(images, kernel.shape[:2], attributes["strides"])
    result = np.tensordot(views, kernel, axes=([4, 5, 3], [0, 1, 2])) + bias
    return _followed(result, attributes)


def _depthwise(given: Sequence[Array], attributes: Mapping[str, Any]) -> Array:
    """Each channel with a kernel of its own, height x width x channels x 1; without padding."""
    images, kernel, bias = given
    assert base64.b64decode(attributes["padding"]["s"]) == b"VALID"
    views = _windows(images, kernel.shape[:2], attributes["strides"])
    result = np.einsum("nhwcyx,yxc->nhwc", views, kernel[..., 0]) + bias
    return _followed(result, attributes)


def _followed(result: Array, attributes: Mapping[str, Any]) -> Array:
    operations = [base64.b64decode(name) for name in attributes["fused_ops"]["list"]["s"]]
    assert operations in ([b"BiasAdd"], [b"BiasAdd", b"Relu"])
    return result.clip(0) if b"Relu" in operations else result


def _depth_to_space(given: Sequence[Array], attributes: Mapping[str, Any]) -> Array:
    block = int(attributes["block_size"]["i"])
    count, height, width, channels = given[0].shape
    cells = given[0].reshape(count, height, width, block, block, channels // block**2)
    return cells.transpose(0, 1, 3, 2, 4, 5).reshape(count, height * block, width * block, -1)


def _first(given: Sequence[Array], _: Mapping[str, Any]) -> Array:
    """A slice that takes the first of some numbers, as the graphs here do."""
    values, *bounds = given
    assert [bound.tolist() for bound in bounds] == [[0], [1], [1]]
    return values[0]


def _max_pool(given: Sequence[Array], attributes: Mapping[str, Any]) -> Array:
    assert base64.b64decode(attributes["padding"]["s"]) == b"VALID"
    size = [int(side) for side in attributes["ksize"]["list"]["i"][1:3]]
    return _windows(given[0], size, attributes["strides"]).max(axis=(4, 5))


def _windows(images: Array, size: Sequence[int], strides: Mapping[str, Any]) -> Array:
    _, down, across, _ = (int(step) for step in strides["list"]["i"])
    views = np.lib.stride_tricks.sliding_window_view(images, tuple(size), axis=(1, 2))
    return views[:, ::down, ::across]


def _resize(given: Sequence[Array], attributes: Mapping[str, Any]) -> Array:
    """Bilinear; the centres of pixels are at halves."""
    images, size = given
    assert attributes["half_pixel_centers"]["b"]
    for axis, length in zip((1, 2), size.tolist(), strict=True):
        here = images.shape[axis]
        place = np.clip((np.arange(length) + 0.5) * (here / length) - 0.5, 0, here - 1)
        low = np.floor(place).astype(int)
        high = np.minimum(low + 1, here - 1)
        shape = [1, 1, 1, 1]
        shape[axis] = length
        share = (place - low).astype(np.float32).reshape(shape)
        images = images.take(low, axis) * (1 - share) + images.take(high, axis) * share
    return images


def _dense(given: Sequence[Array], attributes: Mapping[str, Any]) -> Array:
    """Values at some places of an array, and a default everywhere else."""
    places, shape, values, default = given
    dense = np.full(shape, default)
    dense[tuple(places.T)] = values
    return dense


def _leaky(given: Sequence[Array], attributes: Mapping[str, Any]) -> Array:
    (x,) = given
    return np.where(x < 0, np.float32(attributes["alpha"]["f"]) * x, x)


_OPERATIONS: dict[str, Any] = {
    "Add": lambda given, _: given[0] + given[1],
    "AddV2": lambda given, _: given[0] + given[1],
    "ConcatV2": lambda given, _: np.concatenate(given[:-1], axis=int(given[-1])),
    "Conv2D": _convolve,
    "DepthToSpace": _depth_to_space,
    "FusedDepthwiseConv2dNative": _depthwise,
    "Identity": lambda given, _: given[0],
    "LeakyRelu": _leaky,
    "MaxPool": _max_pool,
    "Pack": lambda given, _: np.array(given),
    "Pad": lambda given, _: np.pad(given[0], given[1]),
    "PadV2": lambda given, _: np.pad(given[0], given[1], constant_values=given[2]),
    "Relu": lambda given, _: given[0].clip(0),
    "Reshape": lambda given, _: given[0].reshape(given[1]),
    "ResizeBilinear": _resize,
    "Shape": lambda given, _: np.array(given[0].shape),
    "Sigmoid": lambda given, _: 1 / (1 + np.exp(-given[0])),
    "SparseToDense": _dense,
    "SplitV": lambda given, _: np.split(given[0], np.cumsum(given[1])[:-1], axis=int(given[2])),
    "StridedSlice": _first,
    "Transpose": lambda given, _: given[0].transpose(given[1]),
    "_FusedConv2D": _fused,
}
