"""NanoDet-g: what is imported computes what the published graph computes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from published_nanodet import write_nanodet
from tfjs_interpreter import run_graph

from handler.stimuli.objects.light import LightObjects
from handler.stimuli.objects.nanodet import CHANNELS, CLASSES, map_sides
from train.weights import WeightsError, initial_objects, object_settings
from train.weights.importing import import_weights
from train.weights.reading import read_checkpoint

# BGR, as the authors normalise.
MEAN, STD = (103.53, 116.28, 123.675), (57.375, 57.12, 58.395)
SIDE = 416


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A weights home of its own for each test."""
    monkeypatch.setenv("VEA_WEIGHTS", str(tmp_path / "home"))
    return tmp_path / "home"


def their_answers(file: Path, image: torch.Tensor) -> list[np.ndarray]:
    """Probabilities of the things and logits of the sides, of each map, as the graph tells them."""
    nodes = json.loads(file.read_text())["modelTopology"]["node"]
    constants = {name: value.numpy() for name, value in read_checkpoint(file).tensors.items()}
    bgr = image.flip(0).numpy().astype(np.float32)
    pixels = (bgr - np.reshape(MEAN, (3, 1, 1))) / np.reshape(STD, (3, 1, 1))
    outputs = ["Identity", "Identity_1", "Identity_2", "Identity_3", "Identity_4", "Identity_5"]
    return run_graph(nodes, constants, {"input_1": pixels[np.newaxis].astype("f4")}, outputs)


def test_the_imported_detector_answers_as_the_published_graph(tmp_path: Path, home: Path) -> None:
    file = write_nanodet(tmp_path)
    imported = import_weights(file)
    assert imported.path == home / "nanodet-g.safetensors"
    assert imported.left == ()
    source = LightObjects(size=SIDE)
    initial_objects(source, "nanodet-g")
    chooser = torch.Generator().manual_seed(0)
    image = torch.randint(0, 256, (3, SIDE, SIDE), dtype=torch.uint8, generator=chooser)
    with torch.inference_mode():
        ours = source.detector(image.unsqueeze(0))[0, CHANNELS:]
    theirs = their_answers(file, image)
    for level, part in enumerate(ours.split([n**2 for n in map_sides(SIDE)], dim=1)):
        things, sides = theirs[level][0], theirs[level + 3][0]
        assert things.std() > 0.05, "else anything would agree"
        assert np.allclose(part[:CLASSES].sigmoid().T, things, atol=1e-4)
        assert np.allclose(part[CLASSES:].T, sides, atol=1e-3, rtol=1e-3)


def test_the_source_takes_the_weights_by_their_name(tmp_path: Path) -> None:
    import_weights(write_nanodet(tmp_path))
    assert object_settings({"source": "light", "size": 256}, "nanodet-g") == {
        "source": "light",
        "size": 256,
    }
    with pytest.raises(WeightsError, match="is for the source 'light'"):
        object_settings({"source": "coco"}, "nanodet-g")


def test_another_file_of_weights_beside_the_same_graph_is_told_apart(tmp_path: Path) -> None:
    one = import_weights(write_nanodet(tmp_path, seed=3))
    with pytest.raises(WeightsError, match="there are other weights called 'nanodet-g'"):
        import_weights(write_nanodet(tmp_path, seed=4))
    again = import_weights(write_nanodet(tmp_path, seed=3))
    assert again.sha256 == one.sha256


@pytest.mark.parametrize(
    ("name", "shape", "said"),
    [
        ("PartitionedCall/split_25", [1, 1, 128, 64], "has the shape"),
        ("PartitionedCall/split_33", [1, 1, 128, 33], "has the shape"),
        ("PartitionedCall/split_34", [1, 1, 128, 124], "which is not part of it"),
    ],
)
def test_another_variant_is_refused(name: str, shape: list[int], said: str, tmp_path: Path) -> None:
    file = write_nanodet(tmp_path)
    document = json.loads(file.read_text())
    (group,) = document["weightsManifest"]
    group["weights"] = [one for one in group["weights"] if one["name"] != name]
    group["weights"].append({"name": name, "shape": shape, "dtype": "float32"})
    group["paths"] = ["other.bin"]
    sizes = [
        np.prod(one["shape"]) * (2 if "quantization" in one else 4) for one in group["weights"]
    ]
    (tmp_path / "other.bin").write_bytes(bytes(int(sum(sizes))))
    file.write_text(json.dumps(document))
    with pytest.raises(WeightsError, match=f"looks like NanoDet-g, but it .*{said}") as one:
        import_weights(file)
    assert "\n" not in str(one.value)
