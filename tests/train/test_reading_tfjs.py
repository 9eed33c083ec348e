"""TensorFlow.js graph models: a JSON file, and the weights in files beside it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from train.weights import WeightsError
from train.weights.reading import read_checkpoint

KERNEL = np.arange(24, dtype=np.float32).reshape(1, 2, 3, 4) / 8  # exact in float16
BIAS = np.array([1.5, -2.25], dtype=np.float32)
LEVELS = np.array([0, 128, 255], dtype=np.uint8)
PERM = np.array([0, 3, 1, 2], dtype=np.int32)
HALF = {"dtype": "float16", "original_dtype": "float32"}
WEIGHTS: list[dict[str, Any]] = [
    {"name": "kernel", "shape": [1, 2, 3, 4], "dtype": "float32", "quantization": HALF},
    {"name": "bias", "shape": [2], "dtype": "float32"},
    {
        "name": "levels",
        "shape": [3],
        "dtype": "float32",
        "quantization": {"dtype": "uint8", "scale": 0.5, "min": -1.0},
    },
    {"name": "empty", "shape": [0, 1], "dtype": "int32"},
    {"name": "perm", "shape": [4], "dtype": "int32"},
    {"name": "last", "shape": [0], "dtype": "int32"},
]
DATA = KERNEL.astype("<f2").tobytes() + BIAS.tobytes() + LEVELS.tobytes() + PERM.tobytes()


def graph(folder: Path, **changes: Any) -> Path:
    """A graph model whose weights are in two files, cut within a tensor."""
    (folder / "a.bin").write_bytes(DATA[:20])
    (folder / "b.bin").write_bytes(DATA[20:])
    group = {"paths": ["a.bin", "b.bin"], "weights": WEIGHTS} | changes
    file = folder / "model.json"
    file.write_text("\n" + json.dumps({"modelTopology": {"node": []}, "weightsManifest": [group]}))
    return file


def test_weights_come_back_whatever_way_they_are_quantised(tmp_path: Path) -> None:
    checkpoint = read_checkpoint(graph(tmp_path))
    assert list(checkpoint.tensors) == [str(weight["name"]) for weight in WEIGHTS]
    assert torch.equal(checkpoint.tensors["kernel"], torch.from_numpy(KERNEL))
    assert torch.equal(checkpoint.tensors["bias"], torch.from_numpy(BIAS))
    assert checkpoint.tensors["levels"].tolist() == [-1.0, 63.0, 126.5]
    assert checkpoint.tensors["levels"].dtype == torch.float32
    assert checkpoint.tensors["perm"].tolist() == [0, 3, 1, 2]
    assert checkpoint.tensors["empty"].shape == (0, 1)
    assert [file.name for file in checkpoint.files] == ["a.bin", "b.bin"]


@pytest.mark.parametrize("name", ["../a.bin", "/etc/hostname", "sub/a.bin", "..", ""])
def test_weights_outside_the_folder_are_refused(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (tmp_path / "a.bin").write_bytes(DATA)
    with pytest.raises(WeightsError, match="expected a file beside it") as one:
        read_checkpoint(graph(folder, paths=[name]))
    assert "\n" not in str(one.value)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"paths": ["a.bin", "gone.bin"]}, r"needs .*gone\.bin beside it: No such file"),
        ({"paths": ["a.bin"]}, "is damaged or incomplete"),
        ({"paths": ["a.bin", "b.bin", "b.bin"]}, "its files hold .* bytes of weights"),
        ({"weights": [{"name": "a", "shape": [-1], "dtype": "int32"}]}, "has the shape"),
        ({"weights": [{"name": "a", "shape": [1 << 70], "dtype": "int32"}]}, "is damaged"),
        ({"weights": [{"name": "a", "shape": [1], "dtype": "string"}]}, "is damaged"),
        ({"weights": [{"shape": [1]}]}, "is damaged"),
        ({"weights": 3}, r"is not a TensorFlow\.js graph model"),
    ],
)
def test_what_is_wrong_is_told_in_one_line(
    changes: dict[str, Any], said: str, tmp_path: Path
) -> None:
    with pytest.raises(WeightsError, match=said) as one:
        read_checkpoint(graph(tmp_path, **changes))
    assert "\n" not in str(one.value)


@pytest.mark.parametrize("text", ["{", "{}", '{"weightsManifest": 1}', '{"a": ' + "[" * 100_000])
def test_other_json_is_no_graph_model(text: str, tmp_path: Path) -> None:
    file = tmp_path / "model.json"
    file.write_text(text)
    with pytest.raises(WeightsError, match=r"is not a TensorFlow\.js graph model"):
        read_checkpoint(file)
