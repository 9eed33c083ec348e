"""One graph for two backbones: the answers of two graphs, where both see the same alike."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from handler.archive.files import LANDMARKS, compiled_files, precise_files, read_card, seal
from handler.archive.loading import LoadedArchive, load_archive
from handler.archive.writing import write_model_folder
from handler.onnx_runtime import OnnxRuntime
from handler.predictor import Predictor
from handler.values.backbones import EXPRESSION, GLOBAL, OBJECTS
from handler.values.errors import ArchiveError
from train.compiling.build import Calibration, add_compiled_form
from train.compiling.sharing import merge_equal_nodes
from train.package import package

SHARED_GRAPH = "backbones.onnx"
SIDE = 96
STAGES = 2  # whose weights both have


@pytest.fixture(scope="module")
def alike_model(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model, whose Global-Net begins as the backbone of its objects does."""
    folder = tmp_path_factory.mktemp("alike") / "model"
    return write(folder, tiny_model, share_weights)


def share_weights(archive: LoadedArchive) -> None:
    """Give Global-Net the stem and the first stages of the object backbone."""
    assert archive.network.global_net is not None
    trunk, other = (
        archive.network.global_net.backbone.trunk,
        archive.selector.objects.backbone.trunk,
    )
    for name in ("conv_stem", "bn1", *(f"blocks.{number}" for number in range(STAGES))):
        trunk.get_submodule(name).load_state_dict(other.get_submodule(name).state_dict())


def write(folder: Path, model: Path, change: Callable[[LoadedArchive], None]) -> Path:
    """The model with other weights and with one size for all, in a folder of its own."""
    archive = load_archive(model)
    change(archive)
    objects = {**archive.config.selector.objects, "size": SIDE}
    write_model_folder(
        folder,
        config=replace(
            archive.config, selector=replace(archive.config.selector, size=SIDE, objects=objects)
        ),
        network=archive.network,
        selector=archive.selector,
        landmarks=model / LANDMARKS,
        card={},
    )
    return folder


@pytest.fixture(scope="module")
def shared(alike_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Likewise, with a compiled form in float32."""
    folder = tmp_path_factory.mktemp("shared") / "model"
    add_compiled_form(alike_model, folder, None)
    return folder


@pytest.fixture(scope="module")
def eight_bits(alike_model: Path, tmp_path_factory: pytest.TempPathFactory, photo, encode) -> Path:
    """Likewise, in 8 bits, with a float32 form that decides in all cases."""
    place = tmp_path_factory.mktemp("int8")
    photos = [place / f"{seed}.png" for seed in range(9)]
    for seed, file in enumerate(photos):
        file.write_bytes(encode(photo(seed), "PNG"))
    add_compiled_form(
        alike_model, place / "model", Calibration(photos, "a test"), recheck_ratio=1e6
    )
    return place / "model"


@pytest.fixture(scope="module")
def images(photo, encode) -> list[bytes]:
    """More pictures than a batch has."""
    return [encode(photo(seed), "PNG") for seed in range(9)]


def convolutions(graph: Path) -> int:
    """Number of convolutions in a graph."""
    model = onnx.load(str(graph), load_external_data=False)
    return sum(node.op_type == "Conv" for node in model.graph.node)


def test_the_first_layers_are_in_the_graph_once(shared: Path, alike_model: Path) -> None:
    config = read_card(shared)[0]
    assert config.shared_graph
    assert set(compiled_files(config).values()) == {SHARED_GRAPH, "expression_net.onnx"}
    assert not (shared / "global_backbone.onnx").exists()
    trunk = load_archive(alike_model).selector.objects.backbone.trunk
    each = sum(isinstance(layer, torch.nn.Conv2d) for layer in trunk.modules())
    common = 1 + sum(
        isinstance(layer, torch.nn.Conv2d)
        for stage in list(trunk.blocks)[:STAGES]
        for layer in stage.modules()
    )
    classifier = 1
    assert convolutions(shared / SHARED_GRAPH) == 2 * each - common + classifier


def test_backbones_that_are_equal_throughout_still_have_an_output_each(tmp_path: Path) -> None:
    value = onnx.helper.make_tensor_value_info
    nodes = [
        onnx.helper.make_node("Neg", ["pixels"], ["a"]),
        onnx.helper.make_node("Neg", ["pixels"], ["b"]),
        onnx.helper.make_node("Abs", ["a"], [GLOBAL]),
        onnx.helper.make_node("Abs", ["b"], [OBJECTS]),
    ]
    ends = [value(name, onnx.TensorProto.FLOAT, [1]) for name in ("pixels", GLOBAL, OBJECTS)]
    onnx.save(
        onnx.helper.make_model(onnx.helper.make_graph(nodes, "two", ends[:1], ends[1:])),
        str(tmp_path / "two.onnx"),
    )
    merge_equal_nodes(tmp_path / "two.onnx")
    merged = onnx.load(str(tmp_path / "two.onnx"))
    onnx.checker.check_model(merged)
    assert [node.op_type for node in merged.graph.node] == ["Neg", "Abs", "Abs"]
    assert [node.output[0] for node in merged.graph.node[1:]] == [GLOBAL, OBJECTS]


def test_it_answers_as_the_weights_do(shared: Path, images: list[bytes]) -> None:
    one, other = (
        Predictor.load(shared, runtime=runtime).predict(images, explain=True)
        for runtime in ("torch", "onnx")
    )
    for a, b in zip(one, other, strict=True):
        assert b.probabilities == pytest.approx(a.probabilities, abs=1e-4)
        assert [item.box for item in b.objects] == [item.box for item in a.objects]
        np.testing.assert_allclose(b.activation, a.activation, atol=1e-3)


def test_one_pass_gives_what_each_part_gives_alone(shared: Path, alike_model: Path) -> None:
    runtime = OnnxRuntime({"shared": shared / SHARED_GRAPH}, threads=1)
    pictures = torch.randint(0, 256, (3, 3, SIDE, SIDE), dtype=torch.uint8)
    both, alone = runtime.shared(), [runtime.trunk(part) for part in (GLOBAL, OBJECTS)]
    assert both is not None
    *maps, logits = both(pictures)
    for seen, trunk in zip(maps, alone, strict=True):
        assert trunk is not None
        assert torch.equal(seen, trunk(pictures))
    classifier = load_archive(alike_model).selector.objects.backbone.classifier
    expected = classifier(maps[1].flatten(2).transpose(1, 2)).transpose(1, 2)
    torch.testing.assert_close(logits.flatten(2), expected, atol=1e-4, rtol=1e-4)
    assert runtime.trunk("faces") is None


@pytest.mark.integration
def test_a_float_form_of_both_decides_where_eight_bits_are_unsure(
    eight_bits: Path, images: list[bytes]
) -> None:
    config = read_card(eight_bits)[0]
    assert set(precise_files(config).values()) == {
        "backbones_float32.onnx",
        "expression_net_float32.onnx",
    }
    weights = Predictor.load(eight_bits, runtime="torch").predict(images, explain=True)
    unsure = Predictor.load(eight_bits)
    for a, b in zip(weights, unsure.predict(images, explain=True), strict=True):
        assert b.probabilities == pytest.approx(a.probabilities, abs=1e-4)
        np.testing.assert_allclose(b.activation, a.activation, atol=1e-3)
    assert unsure.rechecked == len(images)


@pytest.mark.integration
def test_eight_bits_alone_answer_nearly_as_the_weights_do(
    eight_bits: Path, images: list[bytes], tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(eight_bits, tmp_path / "model"))
    config = replace(read_card(folder)[0], recheck_ratio=None)
    (folder / "config.json").write_text(config.to_json())
    seal(folder)
    floats, eights = (
        np.array([list(answer.probabilities.values()) for answer in predictor.predict(images)])
        for predictor in (Predictor.load(folder, runtime=name) for name in ("torch", "onnx"))
    )
    assert not np.array_equal(floats, eights)
    # Random weights suffer more from rounding than trained ones.
    assert np.corrcoef(floats.ravel(), eights.ravel())[0, 1] > 0.5


@pytest.mark.integration
def test_a_packed_form_without_weights_of_its_own_answers_as_the_complete_one(
    eight_bits: Path, images: list[bytes], tmp_path: Path
) -> None:
    mar = package(eight_bits, tmp_path, name="small", version="1", card={})
    complete, packed = (
        Predictor.load(path).predict(images, explain=True) for path in (eight_bits, mar)
    )
    for one, other in zip(complete, packed, strict=True):
        assert (one.probabilities, one.activation) == (other.probabilities, other.activation)
    shutil.unpack_archive(mar, tmp_path / "unpacked", "zip")
    whole, lean = (
        [
            tensor.name
            for tensor in onnx.load(str(file), load_external_data=False).graph.initializer
            if tensor.name.endswith("weight_quantized")
        ]
        for file in (eight_bits / SHARED_GRAPH, tmp_path / "unpacked" / SHARED_GRAPH)
    )
    assert (len(whole) > 20, lean) == (True, [])


def test_backbones_that_begin_otherwise_have_graphs_of_their_own(
    tiny_model: Path, tmp_path: Path
) -> None:
    model = write(tmp_path / "model", tiny_model, lambda archive: None)
    assert read_card(model)[0].sees_once
    add_compiled_form(model, tmp_path / "compiled", None)
    config = read_card(tmp_path / "compiled")[0]
    assert not config.shared_graph
    assert compiled_files(config).keys() == {GLOBAL, OBJECTS, EXPRESSION}


def test_backbones_that_see_pictures_of_two_sizes_cannot_share(compiled_model: Path) -> None:
    config = read_card(compiled_model)[0]
    assert not config.shared_graph
    with pytest.raises(ValueError, match="shared_graph is for a compiled form"):
        replace(config, shared_graph=True)


def test_the_digest_covers_graph_and_setting(shared: Path, tmp_path: Path) -> None:
    listed = json.loads((shared / "contents.json").read_text())
    assert SHARED_GRAPH in listed
    assert json.loads((shared / "config.json").read_text())["shared_graph"] is True
    folder = Path(shutil.copytree(shared, tmp_path / "model"))
    with (folder / SHARED_GRAPH).open("ab") as file:
        file.write(b"\0")
    with pytest.raises(ArchiveError, match="digest"):
        Predictor.load(folder)
