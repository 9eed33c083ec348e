"""Float weights -> weights of a few bits, rounded so that the outputs of the layers change least.

Rounding each weight to the nearest value of the grid makes errors that add up over the inputs of a
layer, since inputs are alike. Here the weights of a layer are rounded one input after the other,
and the weights that are still to be rounded make up for the error so far, as far as the inputs on
calibration photos allow (Frantar et al., "GPTQ", ICLR 2023). The layer's bias is corrected by what
rounding still adds to the mean of each output on these photos. The graph stays one in float32,
whose weights a quantiser then finds on its grid as they are.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
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
        bias: float32, GR; None for a convolution without a bias.
    """

    node: onnx.NodeProto
    weights: Array
    bias: Array | None

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


@dataclass(frozen=True)
class _Inputs:
    """What a layer's C inputs in each of G groups are on photos.

    Attributes:
        moments: Sum of the products of each two inputs, float64, GxCxC.
        sums: Sum of each input, float64, GxC.
        places: Number of places that were summed over.
    """

    moments: Array
    sums: Array
    places: int

    @property
    def means(self) -> Array:
        """GxC."""
        return self.sums / self.places

    @property
    def spread(self) -> Array:
        """The moments around the means, GxCxC."""
        return self.moments - self.sums[:, :, np.newaxis] * self.means[:, np.newaxis]


def round_weights(
    graph: Path,
    target: Path,
    photos: Sequence[Array],
    *,
    levels: int,
    skip: Collection[str] = (),
) -> None:
    """Write a float32 graph whose convolutions have weights of a grid of ``2 * levels + 1`` values.

    Args:
        graph: Path of a fused float32 graph.
        target: Path of the graph to write.
        photos: Calibration photos as the backbone sees them, uint8, each 3xHxW.
        levels: Number of steps between zero and the largest weight of an output channel.
        skip: Names of nodes whose weights stay as they are.
    """
    model = onnx.load(str(graph))
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    layers = [
        _layer(node, stored)
        for node in model.graph.node
        if node.op_type == "Conv" and node.name not in skip
    ]
    for layer, inputs in zip(layers, _inputs(model, layers, photos), strict=True):
        weights, bias = _rounded(layer, inputs, levels)
        name = layer.node.input[1]
        stored[name].CopyFrom(numpy_helper.from_array(weights, name))
        if bias is not None:  # of its own: layers with the same bias are not rounded alike
            layer.node.input[2] = f"{layer.node.output[0]}_bias"
            tensor = numpy_helper.from_array(bias, layer.node.input[2])
            model.graph.initializer.append(tensor)
    used = {name for node in model.graph.node for name in node.input}
    for tensor in list(model.graph.initializer):
        if tensor.name not in used:
            model.graph.initializer.remove(tensor)
    onnx.save(model, str(target))


def _layer(node: onnx.NodeProto, stored: Mapping[str, onnx.TensorProto]) -> _Layer:
    weights, *bias = (numpy_helper.to_array(stored[name]) for name in node.input[1:])
    return _Layer(node, weights, bias[0] if bias else None)


def _rounded(layer: _Layer, inputs: _Inputs, levels: int) -> tuple[Array, Array | None]:
    """Weights on the grid, and the bias that makes up for what they add in the mean; float32."""
    weights = layer.weights.reshape(layer.groups, -1, inputs.sums.shape[-1])
    if layer.bias is None:
        rounded = round_to_grid(weights, inputs.moments, levels)
        return rounded.reshape(layer.weights.shape).astype(np.float32), None
    rounded = round_to_grid(weights, inputs.spread, levels)
    added = (rounded - weights) @ inputs.means[:, :, np.newaxis]  # GxRx1
    bias = layer.bias - added.reshape(-1)
    return rounded.reshape(layer.weights.shape).astype(np.float32), bias.astype(np.float32)


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


def _inputs(
    model: onnx.ModelProto, layers: Sequence[_Layer], photos: Sequence[Array]
) -> list[_Inputs]:
    """What the inputs of each layer are on the photos."""
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
    totals: list[_Inputs | None] = [None] * len(layers)
    for photo in photos:
        values = session.run(names, {PIXELS: photo[np.newaxis]})
        inputs = dict(zip(names, values, strict=True))
        for position, layer in enumerate(layers):
            patches = layer.patches(inputs[layer.node.input[0]][0])
            totals[position] = _added(totals[position], patches)
    return [total for total in totals if total is not None]


def _added(before: _Inputs | None, patches: Array) -> _Inputs:
    """The sums with those of the patches of one more photo, GxCxP."""
    moments = (patches @ patches.transpose(0, 2, 1)).astype(np.float64)
    sums = patches.sum(axis=2, dtype=np.float64)
    if before is None:
        return _Inputs(moments, sums, patches.shape[2])
    before.moments[:] += moments  # in place: they are large
    before.sums[:] += sums
    return _Inputs(before.moments, before.sums, before.places + patches.shape[2])
