"""Float32 graphs hold no weights of their own: they refer to those of the archive."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import save_file

from handler.archive.files import seal
from handler.predictor import Predictor
from handler.values.errors import ArchiveError
from train.compiling.references import refer_to_weights

ROW = np.arange(4, dtype=np.float32)


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    """The sum of three tensors and an input, each in the graph."""
    tensors = [ROW / 4, ROW + 0.1, ROW * 7]
    nodes = [
        helper.make_node("Sum", ["pixels", "half", "full", "own"], ["features"]),
    ]
    made = helper.make_graph(
        nodes,
        "sum",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, [4])],
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, [4])],
        [
            numpy_helper.from_array(values, name)
            for values, name in zip(tensors, ("half", "full", "own"), strict=True)
        ],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, str(tmp_path / "whole.onnx"))
    stored = {"a": (ROW / 4).astype(np.float16), "b": ROW + 0.1, "c": np.arange(3)}
    save_file(stored, tmp_path / "weights.safetensors")
    return tmp_path / "whole.onnx"


def computed(graph: Path) -> np.ndarray:
    """The output of a graph for zeros."""
    session = onnxruntime.InferenceSession(str(graph), providers=["CPUExecutionProvider"])
    (output,) = session.run(None, {"pixels": np.zeros(4, np.float32)})
    return output


def test_weights_in_a_file_are_left_there_in_either_precision(graph: Path) -> None:
    bare = graph.with_name("bare.onnx")
    refer_to_weights(graph, bare, [graph.with_name("weights.safetensors")])
    held = onnx.load(str(bare), load_external_data=False).graph.initializer
    assert [one.name for one in held if one.data_location != TensorProto.EXTERNAL] == ["own"]
    assert len(held) == 3
    np.testing.assert_array_equal(computed(bare), computed(graph))


def test_a_graph_without_its_weights_computes_nothing(graph: Path) -> None:
    bare = graph.with_name("bare.onnx")
    refer_to_weights(graph, bare, [graph.with_name("weights.safetensors")])
    graph.with_name("weights.safetensors").unlink()
    with pytest.raises(Exception, match="does not exist"):
        computed(bare)


def test_the_float_form_of_a_model_is_small(compiled_model: Path) -> None:
    graphs = sorted(compiled_model.glob("*.onnx"))
    assert len(graphs) == 3
    weights = (compiled_model / "weights.safetensors").stat().st_size
    assert sum(graph.stat().st_size for graph in graphs) < 0.05 * weights


def test_a_graph_that_refers_to_another_folder_is_refused(
    compiled_model: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(compiled_model, tmp_path / "model"))
    shutil.copyfile(folder / "weights.safetensors", tmp_path / "weights.safetensors")
    graph = folder / "global_backbone.onnx"
    model = onnx.load(str(graph), load_external_data=False)
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = "../weights.safetensors"
    graph.write_bytes(model.SerializeToString())
    seal(folder)
    with pytest.raises(ArchiveError, match="no model can be built"):
        Predictor.load(folder)


def test_an_earlier_form_with_weights_of_its_own_answers_alike(
    compiled_model: Path, tmp_path: Path, photo, encode
) -> None:
    folder = Path(shutil.copytree(compiled_model, tmp_path / "model"))
    for graph in folder.glob("*.onnx"):
        whole = onnx.load(str(graph))  # with what it refers to
        for tensor in whole.graph.initializer:
            tensor.ClearField("external_data")
            tensor.data_location = TensorProto.DEFAULT
        graph.write_bytes(whole.SerializeToString())
    seal(folder)
    pictures = [encode(photo(seed), "PNG") for seed in range(3)]
    one, other = (Predictor.load(model).predict(pictures) for model in (compiled_model, folder))
    assert [answer.probabilities for answer in one] == [answer.probabilities for answer in other]
