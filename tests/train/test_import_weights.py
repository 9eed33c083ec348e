"""Importing published backbones, the COCO detector and the FER2013 network."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import torch
from published_weights import face_resnet, save_face_resnet
from safetensors.torch import save_file
from torch.nn import functional as F
from torchvision.models import get_model

from handler.backbones import Backbone
from handler.organism.expression_net import ExpressionNet
from handler.stimuli.objects.coco import CocoObjects
from handler.stimuli.objects.grid import GridObjects
from train.weights import (
    WeightsError,
    initial_backbone,
    initial_expression,
    initial_objects,
    object_settings,
)
from train.weights.home import Header, read_header, read_weights, write_weights
from train.weights.importing import import_weights

pytestmark = pytest.mark.integration


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A weights home of its own for each test."""
    monkeypatch.setenv("VEA_WEIGHTS", str(tmp_path / "home"))
    return tmp_path / "home"


def settled(network: torch.nn.Module) -> torch.nn.Module:
    """Random normalisation: one that is left out, or put elsewhere, changes the result."""
    for part in network.modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            for value in (part.weight, part.bias, part.running_mean, part.running_var):
                value.data = 0.8 + 0.4 * torch.rand_like(value)
    return network.eval()


# ---------------------------------------------------------------- FER2013


def their_features(weights: dict[str, torch.Tensor], faces: torch.Tensor) -> torch.Tensor:
    """The feature map of the published network, from three equal channels scaled to 0..1."""

    def unit(name: str, norm: str, maps: torch.Tensor, stride: int, padding: int) -> torch.Tensor:
        maps = F.conv2d(maps, weights[f"{name}.weight"], stride=stride, padding=padding)
        parts = (weights[f"{norm}.{p}"] for p in ("running_mean", "running_var", "weight", "bias"))
        return F.batch_norm(maps, *parts)

    maps = F.relu(unit("conv1", "bn1", faces.expand(-1, 3, -1, -1) / 255, 1, 1))
    for stage in range(1, 5):
        for block in range(2):
            name, stride = f"layer{stage}.{block}", 2 if stage > 1 and block == 0 else 1
            inner = F.relu(unit(f"{name}.conv1", f"{name}.bn1", maps, stride, 1))
            inner = unit(f"{name}.conv2", f"{name}.bn2", inner, 1, 1)
            if f"{name}.shortcut.0.weight" in weights:
                maps = unit(f"{name}.shortcut.0", f"{name}.shortcut.1", maps, stride, 0)
            maps = F.relu(inner + maps)
    return maps


def test_the_face_network_gives_the_feature_map_of_its_file(tmp_path: Path, home: Path) -> None:
    weights = face_resnet(width=4)
    file = save_face_resnet(tmp_path / "PrivateTest_model_resnet18.t7", weights)
    imported = import_weights(file)
    assert imported.path == home / "fer2013-resnet18.safetensors"
    assert set(imported.left) == {
        "linear.weight",
        "linear.bias",
        "best_PublicTest_acc",
        "best_PrivateTest_acc",
        "best_PublicTest_acc_epoch",
    }
    assert imported.sha256 == hashlib.sha256(imported.path.read_bytes()).hexdigest()
    header = read_header(imported.path)
    assert (header.kind, header.settings) == ("face_resnet", {"width": 4})
    assert header.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()

    net = ExpressionNet(width=4).eval()
    initial_expression(net, "fer2013-resnet18")
    faces = torch.randint(0, 256, (2, 1, 48, 48)).float()
    with torch.inference_mode():
        found, expected = net.faces(faces / 255), their_features(weights, faces)
    assert found.shape == (2, 32, 6, 6)
    assert expected.std() > 0.1
    assert torch.allclose(found, expected, atol=1e-4, rtol=1e-4)


def test_a_face_network_that_was_trained_on_several_devices_is_taken_too(tmp_path: Path) -> None:
    weights = {f"module.{name}": value for name, value in face_resnet(width=4).items()}
    imported = import_weights(save_face_resnet(tmp_path / "model.t7", weights))
    assert imported.kind == "face_resnet"


def test_an_expression_net_of_another_width_is_refused(tmp_path: Path) -> None:
    import_weights(save_face_resnet(tmp_path / "model.t7", face_resnet(width=4)))
    with pytest.raises(WeightsError, match=r"4 channels wide, .* expression_width is 16"):
        initial_expression(ExpressionNet(width=16), "fer2013-resnet18")


# ---------------------------------------------------------------- ResNets


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_a_resnet_gives_the_features_and_classes_of_its_file(
    name: str, tmp_path: Path, home: Path
) -> None:
    network = settled(get_model(name, weights=None))
    torch.save(network.state_dict(), tmp_path / "weights")
    imported = import_weights(tmp_path / "weights")
    assert imported.path == home / f"imagenet-{name}.safetensors"
    assert imported.left == ()

    backbone = Backbone(name, classes=1000).eval()
    initial_backbone(backbone, "imagenet")
    images = torch.randint(0, 256, (1, 3, 64, 96), dtype=torch.uint8)
    with torch.inference_mode():
        maps = (images - backbone.mean) / backbone.std
        trunk = torch.nn.Sequential(*list(network.children())[:-2])
        expected, found = trunk(maps), backbone(images)
        assert expected.std() > 0
        assert torch.allclose(found, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))
        logits = backbone.classifier(found.mean(dim=(2, 3)))
        assert torch.allclose(
            logits, network(maps), rtol=1e-3, atol=1e-3 * float(logits.abs().max())
        )


def test_a_grid_source_takes_backbone_and_classifier(tmp_path: Path) -> None:
    network = get_model("resnet18", weights=None)
    torch.save(network.state_dict(), tmp_path / "weights.pth")
    import_weights(tmp_path / "weights.pth", name="mine")
    settings = object_settings({"source": "grid", "size": 64}, "mine")
    assert settings == {"source": "grid", "size": 64, "backbone": "resnet18"}
    source = GridObjects(backbone="resnet18", size=64)
    initial_objects(source, "mine")
    assert torch.equal(source.backbone.classifier.weight, network.fc.weight)
    assert torch.equal(source.backbone.trunk.conv1.weight, network.conv1.weight)


def test_a_file_without_a_classifier_cannot_fill_a_grid_source(tmp_path: Path) -> None:
    tensors = get_model("resnet18", weights=None).state_dict()
    for name in ("fc.weight", "fc.bias"):
        del tensors[name]
    torch.save(tensors, tmp_path / "weights.pth")
    import_weights(tmp_path / "weights.pth")
    initial_backbone(Backbone("resnet18"), "imagenet")
    with pytest.raises(WeightsError, match="holds no classifier"):
        initial_objects(GridObjects(backbone="resnet18"), "imagenet")


def test_counters_that_old_files_lack_start_at_zero(tmp_path: Path) -> None:
    tensors = get_model("resnet18", weights=None).state_dict()
    old = {name: value for name, value in tensors.items() if "num_batches" not in name}
    torch.save(old, tmp_path / "weights.pth")
    _, taken = read_weights(import_weights(tmp_path / "weights.pth").path)
    assert int(taken["bn1.num_batches_tracked"]) == 0


def test_half_precision_becomes_float32(tmp_path: Path) -> None:
    tensors = {
        name: v.half() for name, v in get_model("resnet18", weights=None).state_dict().items()
    }
    save_file(tensors, tmp_path / "model.safetensors")
    _, taken = read_weights(import_weights(tmp_path / "model.safetensors").path)
    assert taken["conv1.weight"].dtype == torch.float32


def test_a_resnet_of_another_depth_is_refused(tmp_path: Path) -> None:
    torch.save(get_model("resnet34", weights=None).state_dict(), tmp_path / "weights.pth")
    with pytest.raises(WeightsError, match="is none of resnet18, resnet50, resnet101"):
        import_weights(tmp_path / "weights.pth")


def test_resnet101_is_told_from_resnet50(tmp_path: Path) -> None:
    with torch.device("meta"):
        names = get_model("resnet101", weights=None).state_dict()
    zeros = {name: torch.zeros(value.shape, dtype=value.dtype) for name, value in names.items()}
    torch.save(zeros, tmp_path / "weights.pth")
    assert import_weights(tmp_path / "weights.pth").path.stem == "imagenet-resnet101"


def test_weights_of_another_backbone_are_refused(tmp_path: Path) -> None:
    torch.save(get_model("resnet18", weights=None).state_dict(), tmp_path / "weights.pth")
    path = import_weights(tmp_path / "weights.pth").path
    with pytest.raises(WeightsError, match="holds a resnet18: the recipe's backbone is a resnet50"):
        initial_backbone(Backbone("resnet50"), str(path))


# ---------------------------------------------------------------- COCO


def test_the_coco_detector_gives_the_features_of_its_file(tmp_path: Path, home: Path) -> None:
    network = settled(get_model("fasterrcnn_resnet50_fpn_v2", weights=None, weights_backbone=None))
    torch.save(network.state_dict(), tmp_path / "weights")
    imported = import_weights(tmp_path / "weights")
    (tmp_path / "weights").unlink()
    assert imported.path == home / "coco.safetensors"
    assert imported.left == ()
    assert object_settings({"source": "coco"}, "coco") == {"source": "coco"}

    source = CocoObjects(short_side=64)
    initial_objects(source, "coco")
    pixels, proposals = torch.rand(1, 3, 64, 64), [torch.tensor([[3.0, 4.0, 40.0, 50.0]])]
    features = []
    with torch.inference_mode():
        for detector in (source.detector, network):
            maps, heads = detector.backbone(pixels), detector.roi_heads
            of_box = heads.box_head(heads.box_roi_pool(maps, proposals, [(64, 64)]))
            features.append((maps["0"], of_box, *heads.box_predictor(of_box)))
    for found, expected in zip(*features, strict=True):
        assert expected.std() > 0
        assert torch.equal(found, expected)
    imported.path.unlink()


def test_another_detector_of_torchvision_is_refused(tmp_path: Path) -> None:
    with torch.device("meta"):
        other = get_model("fasterrcnn_resnet50_fpn", weights=None, weights_backbone=None)
    tensors = {k: torch.zeros(v.shape, dtype=v.dtype) for k, v in other.state_dict().items()}
    torch.save(tensors, tmp_path / "weights.pth")
    with pytest.raises(WeightsError, match=r"looks like torchvision's .*_v2, but it"):
        import_weights(tmp_path / "weights.pth")
    (tmp_path / "weights.pth").unlink()


# ---------------------------------------------------------------- everything else


def test_a_weights_file_of_this_program_is_taken_as_it_is(tmp_path: Path, home: Path) -> None:
    net = ExpressionNet(width=4)
    described = {"format": 1, "kind": "face_resnet", "settings": {"width": 4}, "source": "FER2013"}
    mine = tmp_path / "face-resnet.safetensors"
    save_file(net.faces.state_dict(), mine, metadata={"vea": json.dumps(described)})
    imported = import_weights(mine, name="mine")
    assert imported.path == home / "mine.safetensors"
    other = ExpressionNet(width=4)
    initial_expression(other, "mine")
    assert torch.equal(other.faces[0][0].weight, net.faces[0][0].weight)
    initial_expression(ExpressionNet(width=4), str(mine))


def test_a_file_of_other_tensors_is_refused_with_what_is_known(tmp_path: Path) -> None:
    torch.save({"state_dict": {"encoder.weight": torch.ones(2)}}, tmp_path / "model.pth")
    with pytest.raises(WeightsError, match=r"holds encoder.weight, .*: expected a Visual") as one:
        import_weights(tmp_path / "model.pth")
    assert "\n" not in str(one.value)


def test_vocabularies_are_only_for_visual_genome(tmp_path: Path) -> None:
    file = save_face_resnet(tmp_path / "model.t7", face_resnet(width=4))
    with pytest.raises(WeightsError, match="not a Visual Genome detector"):
        import_weights(file, objects=tmp_path / "objects.txt")


@pytest.mark.parametrize("name", ["imagenet", "random", "../mine", "a b", ""])
def test_names_that_recipes_could_not_say_are_refused(name: str, tmp_path: Path) -> None:
    file = save_face_resnet(tmp_path / "model.t7", face_resnet(width=4))
    with pytest.raises(WeightsError, match="is not a valid name of weights"):
        import_weights(file, name=name or " ")


def test_weights_for_another_source_are_refused(home: Path) -> None:
    write_weights(home / "coco.safetensors", Header("coco"), {"x": torch.ones(1)})
    write_weights(home / "face.safetensors", Header("face_resnet"), {"x": torch.ones(1)})
    with pytest.raises(WeightsError, match=r"for the source 'coco': .* come from 'grid'"):
        object_settings({"source": "grid"}, "coco")
    with pytest.raises(WeightsError, match="for Expression-Net"):
        object_settings({"source": "coco"}, "face")
    with pytest.raises(WeightsError, match="kind coco: expected kind face_resnet"):
        initial_expression(ExpressionNet(width=4), "coco")
    with pytest.raises(WeightsError, match="kind coco: expected kind backbone"):
        initial_objects(GridObjects(), "coco")


def test_what_a_recipe_says_itself_stands(home: Path) -> None:
    settings = {"vocabulary": ["a"], "attributes": [], "plus_one": True, "min_proposal": 16.0}
    write_weights(home / "vg.safetensors", Header("visual_genome", settings), {"x": torch.ones(1)})
    recipe = {"source": "visual_genome", "count": 5, "min_proposal": 8.0}
    assert object_settings(recipe, "vg") == {**settings, **recipe}
    assert object_settings(recipe, "random") == recipe


def test_other_weights_of_a_name_are_replaced_on_demand_only(tmp_path: Path, home: Path) -> None:
    save_face_resnet(tmp_path / "one.t7", face_resnet(seed=1))
    save_face_resnet(tmp_path / "two.t7", face_resnet(seed=2))
    first = import_weights(tmp_path / "one.t7", name="faces")
    written = first.path.stat().st_mtime_ns
    assert import_weights(tmp_path / "one.t7", name="faces") == first
    assert first.path.stat().st_mtime_ns == written, "the same weights are left as they are"
    with pytest.raises(WeightsError, match=r"other weights called 'faces' .*--force"):
        import_weights(tmp_path / "two.t7", name="faces")
    assert hashlib.sha256(first.path.read_bytes()).hexdigest() == first.sha256
    assert import_weights(tmp_path / "two.t7", name="faces", force=True).sha256 != first.sha256
    assert [path.name for path in home.iterdir()] == ["faces.safetensors"]
