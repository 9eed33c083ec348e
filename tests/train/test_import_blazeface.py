"""BlazeFace from its published graph: recognised, converted, and the same as the graph computes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from handler.stimuli.faces.light import load_network
from tests.train.tfjs_interpreter import run_graph
from train.weights import WeightsError
from train.weights.home import SHIPPED, read_header
from train.weights.importing import import_weights
from train.weights.reading import read_checkpoint

GRAPH = Path(__file__).parent / "published" / "facemesh-detection-full.json"


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The published graph under another name, with its weights, to be damaged."""
    shutil.copy(GRAPH.with_suffix(".bin"), tmp_path)
    return Path(shutil.copy(GRAPH, tmp_path / "anything"))


def test_the_published_graph_gives_the_weights_that_come_with_the_program(
    copy: Path, tmp_path: Path
) -> None:
    imported = import_weights(copy, home=tmp_path)
    assert imported.path.name == "blazeface-full.safetensors"
    assert imported.path.read_bytes() == (SHIPPED / imported.path.name).read_bytes()
    # What is left finds whole people.
    assert len(imported.left) == 8
    assert all("person" in name or "depthwise_conv2d_4" in name for name in imported.left)
    assert "Apache-2.0" in read_header(imported.path).source


def test_the_network_answers_as_the_published_graph_does(portrait: Image.Image) -> None:
    pixels = np.asarray(portrait.resize((192, 192)))
    noise = np.random.default_rng(1).integers(0, 256, pixels.shape, np.uint8)
    images = np.stack([pixels, noise])
    network = load_network(SHIPPED / "blazeface-full.safetensors")
    ours = network(torch.from_numpy(images).permute(0, 3, 1, 2)).numpy()
    (published,) = run_graph(
        json.loads(GRAPH.read_text())["modelTopology"]["node"],
        {name: value.numpy() for name, value in read_checkpoint(GRAPH).tensors.items()},
        {"input": images.astype(np.float32) / 127.5 - 1},
        ["Identity"],
    )
    assert published.shape == (2, 48 * 48, 17)
    np.testing.assert_allclose(
        ours, published.reshape(2, 48, 48, 17).transpose(0, 3, 1, 2), rtol=1e-3, atol=2e-3
    )


def test_a_graph_of_another_shape_is_refused(copy: Path, tmp_path: Path) -> None:
    graph = json.loads(copy.read_text())
    weights = graph["weightsManifest"][0]["weights"]
    stem = next(weight for weight in weights if weight["name"].endswith("/conv2d/Conv2D_weights"))
    stem["shape"] = [3, 3, 32, 3]
    copy.write_text(json.dumps(graph))
    with pytest.raises(
        WeightsError, match=r"looks like BlazeFace, .*Conv2D_weights.*\(3, 3, 32, 3\)"
    ):
        import_weights(copy, home=tmp_path / "home")
