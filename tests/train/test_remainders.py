"""Packed 8-bit graphs make their weights of those of the archive, bit for bit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import save_file

from train.compiling.remainders import LEVELS, leave_out_weights

RNG = np.random.default_rng(4)
FILTERS = {
    "sparse": RNG.normal(size=(24, 16, 1, 1)).astype(np.float16),
    "deep": RNG.normal(size=(12, 1, 3, 3)).astype(np.float32),
    "matrix": RNG.normal(size=(20, 16)).astype(np.float16),
}
FILTERS["sparse"][5] = 0
# Between two steps: 1.0 is 64 of them, and this is 31.5.
FILTERS["deep"][2, 0] = [[1.0, 0.4921875, -0.4921875], [0.25, 0.5, 0.75], [0.1, 0.2, 0.3]]


def rounded(filters: np.ndarray) -> np.ndarray:
    """Steps of 7 bits, one in five beside the nearest one; every third filter is turned."""
    flat = filters.reshape(len(filters), -1).astype(np.float64)
    steps = np.rint(flat * LEVELS / np.maximum(np.abs(flat).max(axis=1, keepdims=True), 1e-8))
    steps += RNG.integers(-2, 3, steps.shape) // 2 * (RNG.random(steps.shape) < 0.4)
    steps[::3] *= -1
    return np.clip(steps, -LEVELS, LEVELS).astype(np.int8).reshape(filters.shape)


STEPS = {name: rounded(filters) for name, filters in FILTERS.items()}
STEPS["matrix"] = STEPS["matrix"].reshape(20, 16, 1, 1)  # as a convolution has it
STEPS["own"] = RNG.integers(-LEVELS, LEVELS, (24, 16, 1, 1)).astype(np.int8)


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    """A graph that tells its 8-bit weights, beside the file of float weights."""
    save_file(FILTERS, tmp_path / "weights.safetensors")
    made = helper.make_graph(
        [helper.make_node("Identity", [name], [f"told {name}"]) for name in STEPS],
        "tells",
        [],
        [
            helper.make_tensor_value_info(f"told {name}", TensorProto.INT8, values.shape)
            for name, values in STEPS.items()
        ],
        [numpy_helper.from_array(values, name) for name, values in STEPS.items()],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, str(tmp_path / "graph.onnx"))
    return tmp_path / "graph.onnx"


def lean(graph: Path) -> Path:
    target = graph.with_name("lean.onnx")
    leave_out_weights(graph, target, [graph.with_name("weights.safetensors")])
    return target


def held(graph: Path) -> dict[str, onnx.TensorProto]:
    model = onnx.load(str(graph), load_external_data=False)
    return {tensor.name: tensor for tensor in model.graph.initializer}


def test_the_weights_are_the_same_bit_for_bit(graph: Path) -> None:
    session = onnxruntime.InferenceSession(str(lean(graph)), providers=["CPUExecutionProvider"])
    for values, told in zip(STEPS.values(), session.run(None, {}), strict=True):
        np.testing.assert_array_equal(told, values)


def test_weights_that_no_tensor_explains_stay_and_all_others_leave(graph: Path) -> None:
    tensors = held(lean(graph))
    assert STEPS.keys() & tensors.keys() == {"own"}
    outside = {name for name, one in tensors.items() if one.data_location == TensorProto.EXTERNAL}
    assert outside == {f"weights.safetensors/{name}" for name in FILTERS}


def test_weights_between_two_steps_are_kept_away_from_the_middle(graph: Path) -> None:
    """There the last digit of a division would decide, which processors may compute otherwise."""
    remainders = numpy_helper.to_array(held(lean(graph))["deep/remainders"])[2, 0]
    turned = numpy_helper.to_array(held(lean(graph))["deep/turned"])[2].item()
    quarters = FILTERS["deep"][2, 0].astype(np.float64) * 4 * LEVELS + remainders
    beyond = quarters / turned % 1
    assert np.abs(beyond - 0.5).min() > 0.09
    assert (remainders % 4 != 0).sum() == 2


def test_a_graph_without_such_weights_stays_as_it_is(graph: Path) -> None:
    once = lean(graph)
    content = once.read_bytes()
    leave_out_weights(once, once, [graph.with_name("weights.safetensors")])
    assert once.read_bytes() == content


def test_the_scale_of_a_bias_is_that_of_the_inputs_times_that_of_the_weights(
    tmp_path: Path,
) -> None:
    scales = {
        "in": np.float32(0.1),
        "by": RNG.random(2, dtype=np.float32),
        "other": RNG.random(2, dtype=np.float32),
    }
    scales["sum"] = scales["in"] * scales["by"]
    parts = {
        "pixels": np.zeros((1, 1, 1, 1), np.uint8),
        "weights": np.zeros((2, 1, 1, 1), np.int8),
        "bias": np.ones(2, np.int32),
    }
    nodes = [
        helper.make_node("DequantizeLinear", ["pixels", "in"], ["x"]),
        helper.make_node("DequantizeLinear", ["weights", "by"], ["w"], axis=0),
        helper.make_node("DequantizeLinear", ["bias", "sum"], ["b"], axis=0),
        helper.make_node("DequantizeLinear", ["bias", "other"], ["c"], axis=0),
        helper.make_node("Conv", ["x", "w", "b"], ["one"]),
        helper.make_node("Conv", ["x", "w", "c"], ["two"]),
    ]
    outputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 2, 1, 1])
        for name in ("one", "two")
    ]
    tensors = [numpy_helper.from_array(v, name) for name, v in {**scales, **parts}.items()]
    made = helper.make_graph(nodes, "biases", [], outputs, tensors)
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, str(tmp_path / "graph.onnx"))
    leave_out_weights(tmp_path / "graph.onnx", tmp_path / "lean.onnx", [])
    assert {*scales, *parts} - held(tmp_path / "lean.onnx").keys() == {"sum"}
    one, other = (
        onnxruntime.InferenceSession(str(tmp_path / name)).run(None, {})
        for name in ("graph.onnx", "lean.onnx")
    )
    np.testing.assert_array_equal(one, other)
