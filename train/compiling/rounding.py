"""Float weights -> weights of a few bits, rounded so that the outputs of the layers change least.

Rounding each weight to the nearest value of the grid makes errors that add up over the inputs of a
layer, since inputs are alike. Here the weights of a layer are rounded one input after the other,
and the weights that are still to be rounded make up for the error so far, as far as the inputs on
calibration photos allow (Frantar et al., "GPTQ", ICLR 2023). The graph stays one in float32, whose
weights a quantiser then finds on its grid as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import numpy_helper

from handler.onnx_runtime import PIXELS

Array = np.ndarray[Any, np.dtype[Any]]
_DAMPING = 0.01  # of the mean moment, added to each input's own: keeps the moments invertible


@dataclass(frozen=True)
class _Layer:
    """A convolution of G groups with R outputs each, and C weights an output.

    Attributes:
        node: Node of the graph.
        weights: float32, as the graph holds them, (GR)xCixkxk.
    """

    node: onnx.NodeProto
    weights: Array

    @property
    def groups(self) -> int:
        return int(self._attribute("group", 1))

    def patches(self, inputs: Array) -> Array:
        """What each weight is multiplied with at each place, GxCxP; inputs of one image, FxHxW."""
        side = self.weights.shape[-1]
        top, left, bottom, right = self._attribute("pads", [0, 0, 0, 0])
        row, column = self._attribute("strides", [1, 1])
        padded = np.pad(inputs, ((0, 0), (top, bottom), (left, right)))
        windows = np.lib.stride_tricks.sliding_window_view(padded, (side, side), axis=(1, 2))
        places = windows[:, ::row, ::column]  # Fxhxwxkxk
        per_input = places.transpose(0, 3, 4, 1, 2).reshape(len(inputs), side * side, -1)
        return per_input.reshape(self.groups, -1, per_input.shape[-1])

    def _attribute(self, name: str, default: Any) -> Any:
        found = [a for a in self.node.attribute if a.name == name]
        return onnx.helper.get_attribute_value(found[0]) if found else default


def round_weights(graph: Path, target: Path, photos: Sequence[Array], *, levels: int) -> None:
    """Write a float32 graph whose convolutions have weights of a grid of ``2 * levels + 1`` values.

    Args:
        graph: Path of a fused float32 graph.
        target: Path of the graph to write.
        photos: Calibration photos as the backbone sees them, uint8, each 3xHxW.
        levels: Number of steps between zero and the largest weight of an output channel.
    """
    model = onnx.load(str(graph))
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    layers = [
        _Layer(node, numpy_helper.to_array(stored[node.input[1]]))
        for node in model.graph.node
        if node.op_type == "Conv"
    ]
    for layer, moments in zip(layers, _moments(model, layers, photos), strict=True):
        weights = layer.weights.reshape(layer.groups, -1, moments.shape[-1])
        rounded = round_to_grid(weights, moments, levels).reshape(layer.weights.shape)
        name = layer.node.input[1]
        stored[name].CopyFrom(numpy_helper.from_array(rounded.astype(np.float32), name))
    onnx.save(model, str(target))


def round_to_grid(weights: Array, moments: Array, levels: int) -> Array:
    """Weights on the grid that change a layer's outputs least, input after input.

    Args:
        weights: Weights before rounding, float, GxRxC, for R outputs of C inputs in each group.
        moments: Sum of the products of each two inputs over the places of photos, float, GxCxC.
        levels: Number of steps between zero and the largest weight of an output.

    Returns:
        float64, GxRxC: multiples of ``max |weights of the output| / levels``.
    """
    step = np.maximum(np.abs(weights).max(axis=2), 1e-12) / levels  # GxR
    # Inputs that matter most come first, while there is much left that can make up for the error.
    order = np.argsort(-np.diagonal(moments, axis1=1, axis2=2), axis=1)  # GxC
    left = np.take_along_axis(weights.astype(np.float64), order[:, np.newaxis], axis=2)
    correction = _corrections(moments, order)
    rounded = np.empty_like(left)
    for i in range(left.shape[2]):
        rounded[:, :, i] = np.clip(np.round(left[:, :, i] / step), -levels, levels) * step
        error = (left[:, :, i] - rounded[:, :, i]) / correction[:, i, i, np.newaxis]
        left[:, :, i + 1 :] -= error[:, :, np.newaxis] * correction[:, np.newaxis, i, i + 1 :]
    back = np.argsort(order, axis=1)
    rounded = np.take_along_axis(rounded, back[:, np.newaxis], axis=2)
    # The largest weight sets the grid: it keeps its place, or another grid would be found.
    largest = np.abs(weights).argmax(axis=2)[:, :, np.newaxis]
    sign = np.sign(np.take_along_axis(weights, largest, axis=2))
    np.put_along_axis(rounded, largest, sign * step[:, :, np.newaxis] * levels, axis=2)
    return rounded


def _corrections(moments: Array, order: Array) -> Array:
    """How much each later weight makes up for the error of an earlier one, GxCxC, upper triangular.

    The Cholesky factor of the inverse of the moments, as in the paper named above.
    """
    moments = np.take_along_axis(moments.astype(np.float64), order[:, :, np.newaxis], axis=1)
    moments = np.take_along_axis(moments, order[:, np.newaxis], axis=2)
    own = np.diagonal(moments, axis1=1, axis2=2)
    # An input that is always zero has no moments: any rounding will do.
    damped = np.maximum(_DAMPING * own.mean(axis=1, keepdims=True), 1e-9) + (own <= 0)
    inputs = np.arange(moments.shape[-1])
    moments[:, inputs, inputs] += damped
    return np.linalg.cholesky(np.linalg.inv(moments)).transpose(0, 2, 1)


def _moments(
    model: onnx.ModelProto, layers: Sequence[_Layer], photos: Sequence[Array]
) -> list[Array]:
    """For each layer the sum of the products of each two of its inputs, GxCxC."""
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    names = sorted({layer.node.input[0] for layer in layers})
    for name in names:
        value = onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)
        watched.graph.output.append(value)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors
    # Optimised, the graph would no longer have these tensors.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(
        watched.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    sums: list[Array | None] = [None] * len(layers)
    for photo in photos:
        values = session.run(names, {PIXELS: photo[np.newaxis]})
        inputs = dict(zip(names, values, strict=True))
        for position, layer in enumerate(layers):
            patches = layer.patches(inputs[layer.node.input[0]][0])
            products = patches @ patches.transpose(0, 2, 1)
            before = sums[position]
            sums[position] = products if before is None else before + products
    return [total for total in sums if total is not None]
