"""The published Visual Genome files: what is imported finds what the files themselves find."""

from __future__ import annotations

import hashlib
import math
import pickle
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import plain_faster_rcnn as plain
import pytest
import torch
from published_weights import (
    ATTRIBUTES,
    CAFFE_ANCHORS,
    OBJECTS,
    airsplay,
    milvlg,
    tell_apart,
    vocabulary,
)

from handler.stimuli.objects.source import build_object_source
from train.weights import WeightsError, initial_objects, object_settings
from train.weights.home import read_weights
from train.weights.importing import Imported, import_weights
from train.weights.vocabulary import attribute_names, object_names

pytestmark = pytest.mark.integration

KEPT, PROPOSALS, SEEN = 10, 16, (131, 173)
STORED_ANCHORS = "proposal_generator.anchor_generator.cell_anchors.0"


def published_anchors() -> torch.Tensor:
    """As airsplay and Hugging Face configure them: 64 to 512 pixels, height over width."""
    sides = [(s / math.sqrt(r), s * math.sqrt(r)) for s in (64, 128, 256, 512) for r in (0.5, 1, 2)]
    return torch.tensor([[-w / 2, -h / 2, w / 2, h / 2] for w, h in sides])


@dataclass
class Files:
    """One network in three files, and what became of them."""

    home: Path
    objects: Path
    attributes: Path
    image: torch.Tensor
    airsplay: dict[str, torch.Tensor]
    milvlg: dict[str, torch.Tensor]
    imported: dict[str, Imported] = field(default_factory=dict)
    digests: dict[str, str] = field(default_factory=dict)

    def take_in(self, name: str, save: Callable[[Path], None]) -> None:
        """Save, import, and delete: they are large."""
        path = self.home / "a file whose name says nothing"
        save(path)
        self.digests[name] = hashlib.sha256(path.read_bytes()).hexdigest()
        self.imported[name] = import_weights(
            path, name=name, home=self.home, objects=self.objects, attributes=self.attributes
        )
        path.unlink()


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    home = tmp_path_factory.mktemp("weights")
    rng = torch.Generator().manual_seed(0)
    coarse = torch.rand(1, 3, 8, 10, generator=rng)
    smooth = torch.nn.functional.interpolate(coarse, size=(262, 346), mode="bicubic")[0]
    image = (smooth.clamp(0, 1) * 255).byte()
    weights = airsplay()
    tell_apart(weights, detect_plainly(weights, plain.AIRSPLAY, image).features)
    files = Files(
        home,
        vocabulary(home / "objects.txt", [f"thing {n}, alias {n}" for n in range(OBJECTS)]),
        vocabulary(home / "attributes.txt", [f"quality {n}" for n in range(ATTRIBUTES)]),
        image,
        weights,
        milvlg(weights),
    )

    def as_pickle(path: Path) -> None:
        arrays = {name: value.numpy() for name, value in files.airsplay.items()}
        path.write_bytes(pickle.dumps({"model": arrays, "__author__": "somebody"}, protocol=2))

    def as_bin(path: Path) -> None:
        counted = {k.replace("var", "counted"): torch.tensor(0) for k in weights if "g_var" in k}
        assert counted
        counters = {
            name.replace("running_counted", "num_batches_tracked"): value
            for name, value in counted.items()
        }
        torch.save({**weights, **counters, STORED_ANCHORS: published_anchors()}, path)

    def as_pth(path: Path) -> None:
        torch.save({"model": files.milvlg, "iteration": 380000, "optimizer": {}}, path)

    files.take_in("airsplay", as_pickle)
    files.take_in("hugging-face", as_bin)
    files.take_in("milvlg", as_pth)
    return files


def detect_plainly(
    weights: dict[str, torch.Tensor], layout: plain.Layout, image: torch.Tensor
) -> plain.Found:
    anchors = weights.get(STORED_ANCHORS, published_anchors())
    return plain.detect(
        weights, layout, image, size=SEEN, anchors=anchors, proposals=PROPOSALS, count=KEPT
    )


@pytest.mark.parametrize(
    ("name", "layout"), [("airsplay", plain.AIRSPLAY), ("milvlg", plain.MILVLG)]
)
def test_the_imported_detector_finds_what_the_file_itself_finds(
    files: Files, name: str, layout: plain.Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("detectron2")
    monkeypatch.setenv("VEA_WEIGHTS", str(files.home))
    recipe = {"source": "visual_genome", "count": KEPT, "proposals": PROPOSALS, "short_side": 131}
    source = build_object_source(object_settings(recipe, name))
    initial_objects(source, name)
    found = source.select([files.image])

    expected = detect_plainly(getattr(files, name), layout, files.image)
    count = len(expected.scores)
    assert count >= 8
    assert len(set(expected.labels.tolist())) >= 4, "regions of one class would prove little"
    assert found.mask[0].tolist() == [True] * count + [False] * (KEPT - count)
    assert torch.allclose(found.features[0, :count], expected.features, rtol=1e-4, atol=1e-4)
    assert torch.allclose(found.scores[0, :count], expected.scores, rtol=1e-4, atol=1e-4)
    assert torch.allclose(found.boxes[0, :count], expected.boxes, rtol=1e-4, atol=1e-3)
    assert torch.equal(found.labels[0, :count], expected.labels)
    assert source.vocabulary[int(expected.labels[0])] == f"thing {int(expected.labels[0])}"
    # The originals look up the embedding of the background where it is likelier than any object.
    sure = ~expected.background_won
    assert found.attributes is not None
    assert expected.attributes is not None
    assert len(set(expected.attributes[sure].tolist())) > 1
    assert torch.equal(found.attributes[0, :count][sure], expected.attributes[sure])


def test_the_same_network_in_two_layouts_is_the_same_file_but_for_its_source(files: Files) -> None:
    header, tensors = read_weights(files.imported["airsplay"].path)
    other_header, others = read_weights(files.imported["hugging-face"].path)
    assert header.settings == other_header.settings
    assert header.settings["plus_one"] is False
    assert header.settings["min_proposal"] == 0.0
    assert tensors.keys() == others.keys()
    for name, value in tensors.items():
        assert torch.equal(value, others[name]), name


def test_caffe_conventions_fold_into_the_tensors(files: Files) -> None:
    _, tensors = read_weights(files.imported["airsplay"].path)
    header, others = read_weights(files.imported["milvlg"].path)
    assert header.settings["plus_one"] is True
    assert header.settings["min_proposal"] == 16.0
    assert tensors.keys() == others.keys()
    for name, value in tensors.items():
        if name != "anchors":
            assert torch.allclose(value, others[name], rtol=1e-5, atol=1e-6), name
    assert torch.equal(others["anchors"], CAFFE_ANCHORS)
    assert torch.allclose(tensors["anchors"], published_anchors())


def test_the_header_says_where_the_weights_come_from(files: Files) -> None:
    for name, layout in (("airsplay", "airsplay"), ("milvlg", "MILVLG")):
        header, _ = read_weights(files.imported[name].path)
        assert header.kind == "visual_genome"
        assert header.sha256 == files.digests[name]
        assert layout in header.source
        assert header.settings["vocabulary"] == [f"thing {n}" for n in range(OBJECTS)]
        assert header.settings["attributes"] == [f"quality {n}" for n in range(ATTRIBUTES)]


def test_what_is_left_is_named(files: Files) -> None:
    assert files.imported["airsplay"].left == ("__author__",)
    assert files.imported["airsplay"].taken == len(files.airsplay)
    left = files.imported["milvlg"].left
    assert {name.rpartition(".")[2] for name in left} == {
        "num_batches_tracked",
        "iteration",
        "optimizer",
    }
    assert files.imported["hugging-face"].taken == len(files.airsplay) + 1, "its anchors"


def test_a_file_without_an_attribute_head_tells_no_attributes(files: Files, tmp_path: Path) -> None:
    plain_file = tmp_path / "faster_rcnn_from_caffe.pkl"
    arrays = {
        name: value.numpy()
        for name, value in files.airsplay.items()
        if not any(part in name for part in ("cls_embedding", "fc_attr", "attr_score"))
    }
    plain_file.write_bytes(pickle.dumps({"model": arrays}))
    imported = import_weights(plain_file, home=tmp_path, objects=files.objects)
    header, tensors = read_weights(imported.path)
    assert header.settings["attributes"] == []
    assert not [name for name in tensors if name.startswith("attribute.")]
    assert imported.path.name == "visual-genome.safetensors"


def without(name: str) -> Callable[[dict[str, torch.Tensor]], None]:
    def change(tensors: dict[str, torch.Tensor]) -> None:
        del tensors[name]

    return change


def with_value(name: str, value: torch.Tensor) -> Callable[[dict[str, torch.Tensor]], None]:
    def change(tensors: dict[str, torch.Tensor]) -> None:
        tensors[name] = value

    return change


@pytest.mark.parametrize(
    ("layout", "change", "said"),
    [
        ("milvlg", without(STORED_ANCHORS), "lacks 'proposal_generator.anchor_generator"),
        ("airsplay", without("backbone.res4.22.conv3.weight"), "lacks 'backbone.res4.22.conv3"),
        (
            "airsplay",
            with_value("roi_heads.res5.0.conv2.weight", torch.zeros(1, 2)),
            r"'roi_heads.res5.0.conv2.weight' has the shape \(1, 2\): expected \(512, 512, 3, 3\)",
        ),
        (
            "airsplay",
            with_value("proposal_generator.rpn_head.objectness_logits.weight", torch.zeros(15, 1)),
            "has 15 proposal logits: expected 12 .* or 24",
        ),
        (
            "airsplay",
            with_value("backbone.stem.conv1.norm.bias", torch.full((64,), torch.nan)),
            "not finite",
        ),
    ],
)
def test_another_network_is_refused_with_what_differs(
    files: Files,
    tmp_path: Path,
    layout: str,
    change: Callable[[dict[str, torch.Tensor]], None],
    said: str,
) -> None:
    tensors = dict(getattr(files, layout))
    change(tensors)
    path = tmp_path / "weights.pth"
    torch.save(tensors, path)
    with pytest.raises(WeightsError, match=f"looks like a Visual Genome.*{said}") as one:
        import_weights(path, home=tmp_path, objects=files.objects, attributes=files.attributes)
    assert "\n" not in str(one.value)
    assert not list(tmp_path.glob("*.safetensors"))
    path.unlink()


def test_a_vocabulary_of_another_length_is_refused_with_what_to_give(
    files: Files, tmp_path: Path
) -> None:
    path = tmp_path / "weights.pth"
    torch.save(files.airsplay, path)
    with pytest.raises(WeightsError, match=r"20 object classes .* 1600 names: .* --objects FILE"):
        import_weights(path, home=tmp_path)
    with pytest.raises(WeightsError, match=r"7 attribute classes .* 400 names: .*--attributes"):
        import_weights(path, home=tmp_path, objects=files.objects)
    path.unlink()


def test_the_shipped_vocabulary_is_the_published_one() -> None:
    objects, attributes = object_names(), attribute_names()
    assert (len(objects), len(attributes)) == (1600, 400)
    assert (objects[0], objects[16], objects[-1]) == ("yolk", "stop sign", "buoy")
    assert (attributes[0], attributes[-1]) == ("gray", "leaning")
    assert len(set(attributes)) == 400
