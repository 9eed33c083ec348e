"""torchvision's detector as an object source: its boxes, names and features in one pass."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from torch import nn
from torchvision.models.detection import FasterRCNN_ResNet50_FPN_V2_Weights

from handler.stimuli.objects.coco import CocoObjects
from handler.stimuli.objects.source import build_object_source

CATEGORIES = FasterRCNN_ResNet50_FPN_V2_Weights.COCO_V1.meta["categories"]
GAPS = [index for index, name in enumerate(CATEGORIES) if name == "N/A"]


@pytest.fixture(scope="module")
def picture(photo) -> Callable[..., torch.Tensor]:
    """Makes smooth pictures as the decoder yields them."""

    def make(height: int, width: int, seed: int = 0) -> torch.Tensor:
        return torch.from_numpy(np.array(photo(seed, (width, height)))).permute(2, 0, 1)

    return make


@pytest.fixture(scope="module")
def coco(picture) -> CocoObjects:
    """A small view, random weights under which regions and names differ."""
    torch.manual_seed(5)
    source = build_object_source(
        {"source": "coco", "short_side": 96, "long_side": 160, "count": 6, "proposals": 60}
    )
    norms = [part for part in source.modules() if isinstance(part, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0
        norm.train()
    source.select([picture(96, 144, seed=9)])
    source.eval()
    nn.init.normal_(source.detector.roi_heads.box_predictor.cls_score.weight, std=0.2)
    return source


@contextmanager
def calls(*parts: nn.Module) -> Iterator[list[int]]:
    """How often each part ran."""
    counts = [0] * len(parts)

    def counter(place: int) -> Callable[..., None]:
        def count(*_: object) -> None:
            counts[place] += 1

        return count

    hooks = [part.register_forward_hook(counter(i)) for i, part in enumerate(parts)]
    try:
        yield counts
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def quarters(source: CocoObjects) -> Iterator[None]:
    """The proposals are the four quarters of the image as seen, and the boxes stay as they are."""

    def propose(seen, maps):
        height, width = seen.image_sizes[0]
        y, x = height / 2, width / 2
        corners = [(0, 0), (x, 0), (0, y), (x, y)]
        return [torch.tensor([[a, b, a + x, b + y] for a, b in corners])], {}

    regression = source.detector.roi_heads.box_predictor.bbox_pred
    kept = {name: value.clone() for name, value in regression.state_dict().items()}
    proposing = source.detector.rpn.forward
    try:
        nn.init.zeros_(regression.weight)
        nn.init.zeros_(regression.bias)
        source.detector.rpn.forward = propose
        yield
    finally:
        source.detector.rpn.forward = proposing
        regression.load_state_dict(kept)


def test_regions_are_those_that_torchvision_itself_finds(coco: CocoObjects, picture) -> None:
    image = picture(70, 110)
    found = coco.select([image])
    heads = coco.detector.roi_heads
    threshold, most = heads.score_thresh, heads.detections_per_img
    try:
        heads.score_thresh, heads.detections_per_img = 0.0, 100_000
        with torch.inference_mode():
            (own,) = coco.detector([image.float() / 255.0])
    finally:
        heads.score_thresh, heads.detections_per_img = threshold, most
    assert found.mask.all()
    assert len(set(found.labels[0].tolist())) > 1, "else any name would be right"
    for box, score, label in zip(found.boxes[0], found.scores[0], found.labels[0], strict=True):
        name = coco.vocabulary[label]
        same = (own["labels"] == CATEGORIES.index(name)) & ((own["scores"] - score).abs() < 1e-5)
        assert same.any(), f"torchvision knows no such {name}"
        assert (own["boxes"][same] - box).abs().amax(dim=1).min() < 1e-2


def test_the_feature_of_a_region_is_what_its_name_was_told_from(coco: CocoObjects, picture) -> None:
    found = coco.select([picture(70, 110)])
    with torch.inference_mode():
        logits, _ = coco.detector.roi_heads.box_predictor(found.features[0])
    probabilities = logits.softmax(dim=1)
    for row, label in enumerate(found.labels[0].tolist()):
        index = CATEGORIES.index(coco.vocabulary[label])
        assert float(probabilities[row, index]) == pytest.approx(float(found.scores[0, row]))
    assert found.features.shape == (1, 6, 1024)


def test_regions_are_distinct_and_come_most_confident_first(coco: CocoObjects, picture) -> None:
    found = coco.select([picture(70, 110)])
    scores = found.scores[0].tolist()
    assert scores == sorted(scores, reverse=True)
    assert all(0 < score <= 1 for score in scores)
    rows = {tuple(feature) for feature in found.features[0].tolist()}
    assert len(rows) == 6


def test_one_pass_through_the_network_yields_boxes_and_features(coco: CocoObjects, picture) -> None:
    detector = coco.detector
    with calls(detector.backbone.body, detector.rpn.head, detector.roi_heads.box_head) as counts:
        coco.select([picture(70, 110)])
    assert counts == [1, 1, 1]


def test_no_more_proposals_than_asked_for_pass_through_the_box_head(picture) -> None:
    source = CocoObjects(short_side=64, long_side=96, proposals=7)
    seen: list[int] = []
    source.detector.roi_heads.box_head.register_forward_hook(
        lambda part, given, made: seen.append(len(made))
    )
    found = source.select([picture(64, 64)])
    assert seen == [7]
    assert found.mask.shape == (1, 10)
    assert not found.mask[0, 7:].any(), "ten are asked for, seven can be there"


def test_missing_regions_are_zeros_and_the_mask_says_so(coco: CocoObjects, picture) -> None:
    with quarters(coco):
        found = coco.select([picture(70, 110)])
    assert found.mask.tolist() == [[True] * 4 + [False] * 2]
    for part in (found.features, found.boxes, found.scores, found.labels):
        assert (part[0, 4:] == 0).all()
    assert found.attributes is None


@pytest.mark.parametrize(
    "size", [(96, 144), (50, 40), (400, 130), (600, 900), (1, 1), (3, 900), (900, 2)]
)
def test_boxes_are_in_the_pixels_of_the_image_as_decoded(
    coco: CocoObjects, picture, size: tuple[int, int]
) -> None:
    height, width = size
    with quarters(coco):
        found = coco.select([picture(height, width)])
    expected = {(x, y) for x in (0.0, width / 2) for y in (0.0, height / 2)}
    corners = {tuple(box[:2]) for box in found.boxes[0, :4].tolist()}
    for x, y in expected:
        near = [
            c for c in corners if abs(c[0] - x) < 1e-3 * width and abs(c[1] - y) < 1e-3 * height
        ]
        assert len(near) == 1
    sides = found.boxes[0, :4, 2:] - found.boxes[0, :4, :2]
    assert torch.allclose(sides, torch.tensor([width / 2, height / 2]), rtol=1e-3)


def test_the_neighbours_of_an_image_do_not_change_its_regions(coco: CocoObjects, picture) -> None:
    images = [picture(70, 110), picture(120, 60, seed=1), picture(30, 30, seed=2)]
    together = coco.select(images)
    for row, image in enumerate(images):
        alone = coco.select([image])
        assert torch.equal(together.features[row], alone.features[0])
        assert torch.equal(together.boxes[row], alone.boxes[0])


def test_a_large_photo_is_shrunk_with_smoothing(coco: CocoObjects) -> None:
    stripes = torch.zeros(3, 960, 1440, dtype=torch.uint8)
    stripes[:, :, ::2] = 255
    seen: list[torch.Tensor] = []
    hook = coco.detector.transform.register_forward_pre_hook(
        lambda part, given: seen.append(given[0][0])
    )
    coco.select([stripes])
    hook.remove()
    assert seen[0].shape == (3, 96, 144)
    assert seen[0].min() > 0.4, "without smoothing some columns would be black"
    assert seen[0].max() < 0.6


def test_the_vocabulary_is_the_80_things_of_coco(coco: CocoObjects) -> None:
    assert len(coco.vocabulary) == len(set(coco.vocabulary)) == 80
    assert coco.vocabulary[0] == "person"
    assert coco.vocabulary[-1] == "toothbrush"
    assert not {"N/A", "__background__"} & set(coco.vocabulary)
    assert len(coco.attributes) == 0


def test_nothing_is_named_by_an_output_without_a_name(coco: CocoObjects, picture) -> None:
    bias = coco.detector.roi_heads.box_predictor.cls_score.bias
    kept = bias.detach().clone()
    try:
        bias[[0, *GAPS]] += 20.0
        found = coco.select([picture(70, 110)])
    finally:
        bias.copy_(kept)
    assert found.mask.any()
    assert found.labels.max() < 80
    assert found.scores.max() < 1e-3, "of what is left after the outputs without a name"


def test_the_state_has_torchvisions_names_under_detector(coco: CocoObjects) -> None:
    state = coco.state_dict()
    assert all(name.startswith("detector.") for name in state)
    assert state["detector.backbone.body.conv1.weight"].shape == (64, 3, 7, 7)
    assert state["detector.roi_heads.box_predictor.cls_score.weight"].shape == (91, 1024)
    assert "detector.rpn.head.bbox_pred.bias" in state


def test_the_source_stays_frozen_whatever_mode_is_asked_for(coco: CocoObjects) -> None:
    coco.train()
    assert not any(part.training for part in coco.modules())
    assert not any(p.requires_grad for p in coco.parameters())
