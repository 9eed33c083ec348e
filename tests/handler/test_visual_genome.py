"""The Visual Genome detector: against detectron2's own, in one pass, whatever the batch.

The weights are random, but tamed: without it the frozen batch normalisations overflow, and all
scores are alike.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import MethodType

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.nn import functional as F
from torchvision.ops import box_iou

from handler.stimuli.objects.source import build_object_source
from handler.stimuli.objects.visual_genome import UNNAMED, VisualGenomeObjects
from handler.stimuli.stimuli import Objects

pytestmark = pytest.mark.integration

CLASSES = tuple(f"thing {index}" for index in range(7))
ATTRIBUTES = "red", "wooden", "tall", "wet", "old", "round", "shiny", "open"
SMALL = {"count": 4, "proposals": 6, "short_side": 96, "long_side": 160, "nms": 0.8}


def tamed(source: VisualGenomeObjects) -> VisualGenomeObjects:
    """Random weights that neither overflow nor find everything equally likely."""
    for name, part in source.named_modules():
        if name.endswith("conv3.norm"):
            part.weight.fill_(0.2)
    source.backbone.stem.conv1.norm.weight.fill_(1 / 60)
    generator = torch.Generator().manual_seed(5)
    for part, spread in (
        (source.rpn.objectness_logits, 0.5),
        (source.rpn.anchor_deltas, 0.05),
        (source.box.cls_score, 1.5),
        (source.box.bbox_pred, 0.5),
    ):
        part.weight.normal_(0, spread, generator=generator)
    # Where there is nothing to see, this alone speaks: nothing must not look promising.
    source.rpn.conv.bias.normal_(0, 1, generator=generator)
    if source.attribute:
        source.attribute.attr_score.weight.normal_(0, 0.5, generator=generator)
        source.attribute.cls_embedding.weight.mul_(50)
    return source


@pytest.fixture(scope="module")
def source(photo) -> VisualGenomeObjects:
    torch.manual_seed(1)
    made = tamed(VisualGenomeObjects(vocabulary=CLASSES, attributes=ATTRIBUTES, **SMALL))
    # Features have much in common: only what sets a region apart shall tell its class.
    common = made.select([tensor_of(photo(9, (128, 96)))]).features.mean(dim=(0, 1))
    made.box.cls_score.bias.copy_(-made.box.cls_score.weight @ common)
    return made


@pytest.fixture(scope="module")
def pictures(photo) -> list[torch.Tensor]:
    """Of three sizes; the first is one that the network sees as it is."""
    sizes = (128, 96), (50, 80), (300, 90)
    return [tensor_of(photo(seed, size)) for seed, size in enumerate(sizes)]


@pytest.fixture(scope="module")
def found(source: VisualGenomeObjects, pictures: list[torch.Tensor]) -> Objects:
    return source.select(pictures)


def tensor_of(image: Image.Image) -> torch.Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


@contextmanager
def inputs(part: nn.Module) -> Iterator[list[tuple]]:
    """Collects what a part is called with."""
    calls: list[tuple] = []
    hook = part.register_forward_pre_hook(lambda _, arguments: calls.append(arguments))
    yield calls
    hook.remove()


# --- against detectron2 -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def stock(source: VisualGenomeObjects) -> nn.Module:
    """detectron2's own model, by its own configuration, with the weights of `source`.

    Only what no configuration can say is changed: the stem's max-pool, and the stride and dilation
    of res5. It keeps every (proposal, class) pair.
    """
    # `source` has opened the way for these.
    from detectron2.config import get_cfg  # noqa: PLC0415
    from detectron2.modeling import build_model  # noqa: PLC0415

    cfg = get_cfg()
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD = [102.9801, 115.9465, 122.7717], [1.0] * 3
    cfg.MODEL.RESNETS.DEPTH = 101
    cfg.MODEL.ANCHOR_GENERATOR.SIZES = [[64, 128, 256, 512]]
    cfg.MODEL.RPN.CONV_DIMS = [512]
    cfg.MODEL.RPN.POST_NMS_TOPK_TEST = source.proposals
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = len(CLASSES)
    cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST, cfg.MODEL.ROI_HEADS.NMS_THRESH_TEST = 0.0, 1.0
    cfg.MODEL.ROI_BOX_HEAD.POOLER_TYPE, cfg.MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION = "ROIPool", 14
    cfg.TEST.DETECTIONS_PER_IMAGE = 1000
    model = build_model(cfg).eval()

    def stem(self: nn.Module, images: torch.Tensor) -> torch.Tensor:
        return F.max_pool2d(F.relu(self.conv1(images)), 3, stride=2, padding=0, ceil_mode=True)

    model.backbone.stem.forward = MethodType(stem, model.backbone.stem)
    first = model.roi_heads.res5[0]
    first.conv1.stride = first.shortcut.stride = (1, 1)
    for block in model.roi_heads.res5:
        block.conv2.padding = block.conv2.dilation = (2, 2)
    places = {
        "rpn": "proposal_generator.rpn_head",
        "res5": "roi_heads.res5",
        "box": "roi_heads.box_predictor",
    }
    weights = {}
    for name, value in source.state_dict().items():
        part, _, rest = name.partition(".")
        if part not in ("anchors", "attribute"):
            weights[f"{places.get(part, part)}.{rest}"] = value
    missing, unexpected = model.load_state_dict(weights, strict=False)
    assert not unexpected
    assert set(missing) <= {"pixel_mean", "pixel_std"}
    return model


def test_the_regions_are_the_best_that_detectron2_itself_finds(
    source: VisualGenomeObjects, stock: nn.Module, pictures: list[torch.Tensor], found: Objects
) -> None:
    picture = pictures[0]
    assert picture.shape == (3, 96, 128), "a size that needs no resizing"
    with torch.inference_mode():
        (theirs,) = stock([{"image": picture.flip(0), "height": 96, "width": 128}])
    theirs = theirs["instances"]
    assert len(theirs) == source.proposals * len(CLASSES), "every pair is there"
    assert found.mask[0].all()
    for box, label, score in zip(found.boxes[0], found.labels[0], found.scores[0], strict=True):
        same = (theirs.pred_boxes.tensor - box).abs().amax(dim=1) < 0.01
        same &= theirs.pred_classes == label
        assert same.any(), "a region that detectron2 does not know"
        assert (theirs.scores[same] - score).abs().min() < 1e-4
    assert found.labels[0, 0] == theirs.pred_classes[0]
    assert found.scores[0, 0] == pytest.approx(float(theirs.scores[0]), abs=1e-4)


def test_the_features_are_those_that_detectron2_classifies(
    stock: nn.Module, pictures: list[torch.Tensor], found: Objects
) -> None:
    with torch.inference_mode():
        images = stock.preprocess_image([{"image": pictures[0].flip(0)}])
        maps = stock.backbone(images.tensor)
        proposals, _ = stock.proposal_generator(images, maps)
        boxes = [proposals[0].proposal_boxes]
        theirs = stock.roi_heads._shared_roi_transform([maps["res4"]], boxes).mean(dim=(2, 3))
    distances = torch.cdist(found.features[0], theirs)
    assert distances.amin(dim=1).max() < 1e-3
    assert len(set(distances.argmin(dim=1).tolist())) == 4, "each from another proposal"
    assert distances.amax() > 0.1, "and they differ"


def test_the_network_sees_what_pillow_makes_of_the_picture(
    source: VisualGenomeObjects, photo
) -> None:
    image = photo(4, (300, 200))
    with inputs(source.backbone) as calls:
        source.select([tensor_of(image)])
    ((seen, sizes),) = calls
    assert sizes == [(96, 144)]
    resized = np.asarray(image.resize((144, 96), Image.Resampling.BILINEAR)).astype(np.float32)
    expected = resized[:, :, ::-1] - np.array([102.9801, 115.9465, 122.7717])
    assert np.abs(seen[0].permute(1, 2, 0).numpy() - expected).max() <= 1.01


# --- one pass -----------------------------------------------------------------------------------


def test_a_batch_passes_through_each_part_once(
    source: VisualGenomeObjects,
    pictures: list[torch.Tensor],
    found: Objects,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(source, "slice", 5)
    with (
        inputs(source.backbone.stem.conv1) as images,
        inputs(source.rpn.conv) as maps,
        inputs(source.res5) as regions,
        inputs(source.box) as features,
    ):
        again = source.select(pictures)
    assert [len(call[0]) for call in images] == [3]
    assert [len(call[0]) for call in maps] == [3]
    assert [len(call[0]) for call in regions] == [5, 5, 5, 3], "18 proposals, in bounded slices"
    assert [len(call[0]) for call in features] == [6, 6, 6]
    assert torch.allclose(again.features, found.features, atol=1e-4)


def test_the_regions_of_a_picture_do_not_depend_on_its_neighbours(
    source: VisualGenomeObjects, pictures: list[torch.Tensor], found: Objects
) -> None:
    for row, picture in enumerate(pictures):
        alone = source.select([picture])
        assert torch.allclose(alone.features[0], found.features[row], atol=1e-4)
        assert torch.allclose(alone.boxes[0], found.boxes[row], atol=1e-2)
        assert torch.allclose(alone.scores[0], found.scores[row], atol=1e-4)
        assert torch.equal(alone.labels[0], found.labels[row])
        assert torch.equal(alone.attributes[0], found.attributes[row])


# --- what is answered ---------------------------------------------------------------------------


def test_boxes_lie_inside_their_picture_and_are_distinct(
    source: VisualGenomeObjects, pictures: list[torch.Tensor], found: Objects
) -> None:
    for row, picture in enumerate(pictures):
        boxes = found.boxes[row][found.mask[row]]
        height, width = picture.shape[-2:]
        assert (boxes >= 0).all()
        assert (boxes[:, 2:] > boxes[:, :2]).all()
        assert (boxes[:, 2:] <= torch.tensor([width, height])).all()
        assert box_iou(boxes, boxes).triu(diagonal=1).max() <= source.nms
        scores = found.scores[row].tolist()
        assert scores == sorted(scores, reverse=True)
    assert found.boxes[2].max() > 160, "in pixels of the picture, not of what the network sees"


def test_fewer_regions_than_asked_for_are_masked(
    source: VisualGenomeObjects, pictures: list[torch.Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source, "count", 9)
    many = source.select(pictures[:1])
    assert many.features.shape == (1, 9, 2048)
    assert 0 < int(many.mask.sum()) <= source.proposals
    assert (many.features[~many.mask] == 0).all()
    assert (many.attributes[~many.mask] == -1).all()
    assert (many.attributes[many.mask] >= 0).all()


def test_an_attribute_is_told_from_the_feature_and_the_class_and_never_is_none(
    source: VisualGenomeObjects, pictures: list[torch.Tensor], found: Objects
) -> None:
    head = source.attribute
    assert found.mask[0].all()
    for feature, label, attribute in zip(
        found.features[0], found.labels[0], found.attributes[0], strict=True
    ):
        seen = torch.cat([feature, head.cls_embedding.weight[label]])
        logits = head.attr_score(F.relu(head.fc_attr(seen)))
        assert attribute == logits[: len(ATTRIBUTES)].argmax()
    with torch.no_grad():
        head.attr_score.bias[-1] += 1000
        sure_of_none = source.select(pictures[:1])
        head.attr_score.bias[-1] -= 1000
    assert torch.equal(sure_of_none.attributes, found.attributes[:1])


def test_labels_and_attributes_have_names(source: VisualGenomeObjects, found: Objects) -> None:
    assert len(set(found.labels.flatten().tolist())) > 1, "or this file proves little"
    assert len(set(found.attributes.flatten().tolist())) > 1, "or this file proves little"
    assert source.vocabulary == CLASSES
    assert source.attributes == ATTRIBUTES
    assert found.labels.max() < len(CLASSES)
    assert found.attributes.max() < len(ATTRIBUTES)
    assert len(UNNAMED) == 1600


@pytest.mark.parametrize("shape", [(3, 1, 1), (3, 2, 3000)])
def test_a_picture_of_any_shape_can_be_searched(
    source: VisualGenomeObjects, shape: tuple[int, int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source, "proposals", 2)
    answer = source.select([torch.full(shape, 90, dtype=torch.uint8)])
    assert answer.boxes.shape == (1, 4, 4)
    assert answer.boxes.isfinite().all()


def test_half_precision_answers_in_full_precision_and_much_the_same(
    source: VisualGenomeObjects, pictures: list[torch.Tensor], found: Objects
) -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = source.select(pictures[:1])
    assert half.features.dtype == half.scores.dtype == half.boxes.dtype == torch.float32
    assert half.mask.any()
    top = (half.features[0, 0] - found.features[0]).norm(dim=1).min()
    assert top < 0.1 * found.features[0].norm(dim=1).max()


# --- the weights --------------------------------------------------------------------------------


def names_of_the_weights() -> set[str]:
    norm = ("weight", "bias", "running_mean", "running_var")
    names = {"anchors", "backbone.stem.conv1.weight"}
    names |= {f"backbone.stem.conv1.norm.{one}" for one in norm}
    stages = {"backbone.res2": 3, "backbone.res3": 4, "backbone.res4": 23, "res5": 3}
    for stage, blocks in stages.items():
        for block in range(blocks):
            for layer in ("conv1", "conv2", "conv3", *(["shortcut"] if block == 0 else [])):
                place = f"{stage}.{block}.{layer}"
                names |= {f"{place}.weight", *(f"{place}.norm.{one}" for one in norm)}
    linear = ("rpn.conv", "rpn.objectness_logits", "rpn.anchor_deltas", "box.cls_score")
    linear += ("box.bbox_pred", "attribute.fc_attr", "attribute.attr_score")
    names |= {f"{place}.{one}" for place in linear for one in ("weight", "bias")}
    return names | {"attribute.cls_embedding.weight"}


def test_the_weights_have_the_names_and_shapes_of_the_file_format(
    source: VisualGenomeObjects,
) -> None:
    weights = source.state_dict()
    assert set(weights) == names_of_the_weights()
    shapes = {
        "anchors": (12, 4),
        "rpn.objectness_logits.weight": (12, 512, 1, 1),
        "rpn.anchor_deltas.weight": (48, 512, 1, 1),
        "box.cls_score.weight": (8, 2048),
        "box.bbox_pred.weight": (28, 2048),
        "attribute.cls_embedding.weight": (8, 256),
        "attribute.fc_attr.weight": (512, 2304),
        "attribute.attr_score.weight": (9, 512),
    }
    for name, shape in shapes.items():
        assert weights[name].shape == shape, name
    sides = weights["anchors"][:, 2:] - weights["anchors"][:, :2]
    assert sides.prod(dim=1).sqrt().tolist() == pytest.approx(
        [side for side in (64, 128, 256, 512) for _ in range(3)], rel=1e-4
    )


def test_without_attributes_there_is_no_head_for_them(photo) -> None:
    settings = {"source": "visual_genome", **SMALL, "proposals": 2, "vocabulary": list(CLASSES)}
    plain = tamed(build_object_source(settings))
    assert not any(name.startswith("attribute") for name in plain.state_dict())
    answer = plain.select([tensor_of(photo(1, (128, 96)))])
    assert answer.attributes is None
    assert tuple(plain.attributes) == ()


def test_the_source_stays_frozen_whatever_mode_is_asked_for(source: VisualGenomeObjects) -> None:
    source.train()
    assert not any(part.training for part in source.modules())
    assert not any(weight.requires_grad for weight in source.parameters())


# --- boxes whose width is x2 - x1 + 1 -----------------------------------------------------------


def decoded_as_in_caffe(boxes: np.ndarray, deltas: np.ndarray) -> np.ndarray:
    """py-faster-rcnn: boxes (Rx4) hold their last pixels; deltas Rx4, weights 1."""
    sides = boxes[:, 2:] - boxes[:, :2] + 1
    centres = boxes[:, :2] + sides / 2 + deltas[:, :2] * sides
    halves = np.exp(deltas[:, 2:]) * sides / 2
    return np.concatenate([centres - halves, centres + halves], axis=1)


def test_a_class_box_is_decoded_as_in_caffe(source: VisualGenomeObjects) -> None:
    generator = torch.Generator().manual_seed(2)
    corners = torch.rand(5, 2, generator=generator) * 50
    proposals = torch.cat([corners, corners + 30], dim=1)
    deltas = torch.randn(5, 28, generator=generator)
    pixels = source.box.decode(deltas, proposals, plus_one=True)
    for label in range(7):
        scaled = deltas[:, 4 * label : 4 * label + 4] / torch.tensor([10.0, 10, 5, 5])
        expected = decoded_as_in_caffe(proposals.numpy(), scaled.numpy())
        # Outer edges are what everything else reckons with: one more than the last pixel.
        expected[:, 2:] += 1
        assert np.allclose(pixels[:, label].numpy(), expected, atol=1e-3)


def test_proposals_are_made_clipped_and_sifted_as_in_caffe(source: VisualGenomeObjects) -> None:
    features = torch.randn(1, 1024, 4, 6, generator=torch.Generator().manual_seed(3))
    settings = {"map_sizes": [(4, 6)], "sizes": [(60, 90)], "count": 50}
    with torch.inference_mode():
        (logits,), (deltas,) = source.rpn([features])
        (made,) = source.rpn.propose(
            features, source.anchors, smallest=[40.0], plus_one=True, **settings
        )
    shifts = np.array([[16 * x, 16 * y] * 2 for y in range(4) for x in range(6)])
    anchors = (shifts[:, None] + source.anchors.numpy()[None]).reshape(-1, 4)
    deltas = deltas.view(12, 4, 24).permute(2, 0, 1).reshape(-1, 4).numpy()
    boxes = decoded_as_in_caffe(anchors, deltas)
    boxes = np.clip(boxes, 0, np.array([89, 59, 89, 59]))
    large = ((boxes[:, 2:] - boxes[:, :2] + 1) >= 40).all(axis=1)
    assert large.any()
    assert not large.all()
    boxes, logits = boxes[large], logits[0].permute(1, 2, 0).reshape(-1).numpy()[large]
    assert np.allclose(made[0].numpy(), boxes[logits.argmax()], atol=1e-3)
    distances = np.abs(made.numpy()[:, None] - boxes[None]).max(axis=2).min(axis=1)
    assert distances.max() < 1e-3


def test_the_smallest_proposal_is_measured_in_the_picture_as_decoded(
    source: VisualGenomeObjects, pictures: list[torch.Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source, "min_proposal", 30.0)
    monkeypatch.setattr(source, "proposals", 2)
    asked: list[list[float]] = []
    propose = source.rpn.propose

    def watched(*arguments, **settings):
        asked.append(settings["smallest"])
        return propose(*arguments, **settings)

    monkeypatch.setattr(source.rpn, "propose", watched)
    source.select(pictures[:2])
    (smallest,) = asked
    assert smallest == pytest.approx([30.0, 30.0 * 96 / 50], rel=0.02)


# --- without detectron2 -------------------------------------------------------------------------


@pytest.mark.integration
def test_without_detectron2_only_this_source_is_unavailable() -> None:
    program = """
import sys
sys.modules["detectron2"] = None
import handler.stimuli.objects.visual_genome, handler.stimuli.selector, handler.predictor
from handler.values.errors import VeaError
from handler.stimuli.objects.source import build_object_source
build_object_source({"source": "grid"})
try:
    build_object_source({"source": "visual_genome"})
except VeaError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    (line,) = done.stdout.splitlines()
    assert "run `vea install-detectron2`" in line
