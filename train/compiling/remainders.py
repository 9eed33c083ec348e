"""8-bit graphs without weights of their own: ONNX Runtime makes them of the float weights.

A filter of an 8-bit graph is one of the archive's filters in steps of a 64th of its largest weight,
rounded, with the sign flipped where the batch norm that was folded into it is negative.
`train.compiling.rounding` rounds one weight in six to another step than the nearest. So the graph
needs these differences only, which compress to a seventh of a byte each, and computes

    round((weights * 4 * 64 / largest + remainders) / (4 or -4))

once, when ONNX Runtime loads it. A remainder counts quarters of a step: four where the rounding
was to the other side, and one more or less for the few weights that lie so near to the middle
between two steps that the last digit of a division could decide.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from train.compiling.references import Array, StoredTensor, refer, stored_tensors

LEVELS = 64
"""Number of steps between zero and the largest weight of a filter, in ONNX Runtime's range of
weights of 7 bits."""
_QUARTERS = 4
_SMALLEST = np.float32(1e-8)  # in place of a largest weight of zero; below that of half precision
_MIDDLE = 1e-4  # of a step: this near to the middle, a weight is kept away from it
_ALIKE = 0.9  # cosine that the filters of two tensors have only if one was made from the other


def leave_out_weights(graph: Path, target: Path, weights: Sequence[Path]) -> None:
    """Write an 8-bit graph that computes its weights from those that files hold.

    The weights are the same, bit for bit. Those that no tensor of a file explains stay.

    Args:
        graph: Path of an 8-bit graph, with `LEVELS`.
        target: Path of the graph to write; may be the same.
        weights: Paths of safetensors files, which lie in the folder of ``target`` for whoever loads
            it.
    """
    stored = [one for file in weights for one in stored_tensors(file) if one.values.ndim > 1]
    # What already lies in other files stays there.
    model = onnx.load(str(graph), load_external_data=False)
    graph_held = model.graph.initializer
    nodes = list(_bias_scales(model))
    referred: set[str] = set()
    for tensor in list(graph_held):
        if tensor.data_type != TensorProto.INT8 or len(tensor.dims) < 2:
            continue
        values = numpy_helper.to_array(tensor)
        made = _made_from(values, stored)
        if made is None:
            continue
        graph_held.remove(tensor)
        if made.source.reference not in referred:
            referred.add(made.source.reference)
            graph_held.append(refer(made.source.reference, tensor.dims, made.source))
        shape = (len(values), *[1] * (values.ndim - 1))
        for name, part, dims in (
            ("remainders", made.remainders, values.shape),
            ("turned", made.turned, shape),
        ):
            array = part.reshape(dims).astype(np.int8)
            graph_held.append(numpy_helper.from_array(array, f"{tensor.name}/{name}"))
        nodes += _computation(tensor.name, made.source.reference, values.ndim)
    if referred:
        graph_held.append(numpy_helper.from_array(np.float32(_QUARTERS * LEVELS), "quarters"))
        graph_held.append(numpy_helper.from_array(_SMALLEST, "smallest"))
    nodes += model.graph.node
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    target.write_bytes(model.SerializeToString())


@dataclass(frozen=True)
class _Made:
    """How the weights of F filters, with C numbers each, are made.

    Attributes:
        source: Tensor that they are made from.
        remainders: Quarters of a step, float32, FxC.
        turned: 4, or -4 for a filter whose sign changes, float32, Fx1.
    """

    source: StoredTensor
    remainders: Array
    turned: Array


def _made_from(values: Array, stored: Sequence[StoredTensor]) -> _Made | None:
    """How weights (int8, filters first) are made; None if no tensor explains it."""
    steps = values.reshape(len(values), -1).astype(np.float32)
    best, source = _ALIKE, None
    for one in stored:
        if len(one.values) == len(steps) and one.values.size == steps.size:
            cosine = float(np.abs(_cosines(steps, _filters(one))).mean())
            if cosine > best:
                best, source = cosine, one
    if source is None:
        return None
    filters = _filters(source)
    turned = np.where(_cosines(steps, filters) < 0, -_QUARTERS, _QUARTERS).astype(np.float32)
    largest = np.maximum(np.abs(filters).max(axis=1, keepdims=True), _SMALLEST)
    quarters = filters * (np.float32(_QUARTERS * LEVELS) / largest)
    nearest = quarters / turned
    remainders = (steps - np.rint(nearest)) * turned
    beyond = nearest - np.rint(nearest)
    between = np.abs(np.abs(beyond) - 0.5) < _MIDDLE
    remainders -= np.where(between, np.sign(beyond) * np.sign(turned), 0)
    exact = np.array_equal(np.rint((quarters + remainders) / turned), steps)
    if not exact or np.abs(remainders).max() > np.iinfo(np.int8).max:
        return None
    return _Made(source, remainders, turned)


def _filters(tensor: StoredTensor) -> Array:
    """float32, FxC."""
    return tensor.values.reshape(len(tensor.values), -1).astype(np.float32)


def _cosines(one: Array, other: Array) -> Array:
    """Cosine of the angle of each two filters, Fx1; one for a filter of zeros."""
    product = (one * other).sum(axis=1, keepdims=True)
    lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    return np.divide(product, lengths[:, None], out=np.ones_like(product), where=product != 0)


def _computation(weights: str, source: str, axes: int) -> Iterator[onnx.NodeProto]:
    """Nodes whose result is named ``weights``."""

    def name(part: str) -> str:
        return f"{weights}/{part}"

    def node(kind: str, inputs: Sequence[str], output: str, **settings: object) -> onnx.NodeProto:
        return helper.make_node(kind, list(inputs), [output], **settings)

    others = list(range(1, axes))
    yield node("Cast", [source], name("float"), to=TensorProto.FLOAT)
    yield node("Abs", [name("float")], name("sizes"))
    yield node("ReduceMax", [name("sizes")], name("largest"), axes=others, keepdims=1)
    yield node("Max", [name("largest"), "smallest"], name("divisor"))
    yield node("Div", ["quarters", name("divisor")], name("factor"))
    yield node("Mul", [name("float"), name("factor")], name("quarters"))
    yield node("Cast", [name("remainders")], name("added"), to=TensorProto.FLOAT)
    yield node("Add", [name("quarters"), name("added")], name("sum"))
    yield node("Cast", [name("turned")], name("divided"), to=TensorProto.FLOAT)
    yield node("Div", [name("sum"), name("divided")], name("steps"))
    yield node("Round", [name("steps")], name("rounded"))
    yield node("Cast", [name("rounded")], weights, to=TensorProto.INT8)


def _bias_scales(model: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    """Nodes that compute the scale of each bias, which is that of the inputs times the weights'.

    Such scales leave the graph.
    """
    held = {one.name: one for one in model.graph.initializer}
    scale = {n.output[0]: n.input[1] for n in model.graph.node if n.op_type == "DequantizeLinear"}
    for node in model.graph.node:
        scales = [scale.get(name, "") for name in node.input]
        if node.op_type != "Conv" or len(scales) < 3 or not held.keys() >= set(scales):
            continue
        inputs, weights, bias = (numpy_helper.to_array(held[name]) for name in scales)
        if np.array_equal(inputs * weights, bias):
            model.graph.initializer.remove(held.pop(scales[2]))
            yield helper.make_node("Mul", scales[:2], [scales[2]])
