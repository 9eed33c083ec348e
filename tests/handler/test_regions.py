"""From proposals to the N most confident distinct regions."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st
from torchvision.ops import box_iou

from handler.stimuli.objects.regions import Regions, distinct_regions, stack_regions


def proposals(seed: int, rows: int, classes: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    """Boxes (RxCx4, some of them out of an image of 90x120) and probabilities (RxC)."""
    generator = torch.Generator().manual_seed(seed)
    corners = torch.rand(rows, classes, 2, generator=generator) * 100 - 10
    sides = torch.rand(rows, classes, 2, generator=generator) * 60 + 1
    probabilities = torch.rand(rows, classes + 1, generator=generator).softmax(dim=1)[:, :-1]
    return torch.cat([corners, corners + sides], dim=2), probabilities


def select(boxes: torch.Tensor, probabilities: torch.Tensor, **changes: object) -> Regions:
    settings = {"seen": (90, 120), "decoded": (90, 120), "count": 10, "threshold": 0.5}
    return distinct_regions(boxes, probabilities, **{**settings, **changes})


@given(st.integers(0, 10_000), st.integers(0, 40), st.integers(1, 12), st.floats(0.1, 0.9))
def test_regions_are_few_distinct_ordered_and_inside_the_image(
    seed: int, rows: int, count: int, threshold: float
) -> None:
    boxes, probabilities = proposals(seed, rows)
    found = select(boxes, probabilities, count=count, threshold=threshold)
    assert len(found.proposals) <= count
    assert len(set(found.proposals.tolist())) == len(found.proposals)
    assert found.scores.tolist() == sorted(found.scores.tolist(), reverse=True)
    assert (found.boxes >= 0).all()
    assert (found.boxes[:, 2:] <= torch.tensor([120.0, 90.0])).all()
    overlaps = box_iou(found.boxes, found.boxes).triu(diagonal=1)
    assert (overlaps <= threshold + 1e-6).all()


@given(st.integers(0, 10_000), st.integers(1, 40))
def test_a_region_has_the_best_class_of_its_proposal_and_the_box_of_that_class(
    seed: int, rows: int
) -> None:
    boxes, probabilities = proposals(seed, rows)
    found = select(boxes, probabilities)
    for proposal, box, score, label in zip(
        found.proposals, found.boxes, found.scores, found.labels, strict=True
    ):
        assert score == probabilities[proposal].max()
        assert label == probabilities[proposal].argmax()
        own = boxes[proposal, label]
        limits = torch.tensor([120.0, 90.0, 120.0, 90.0])
        assert torch.equal(box, torch.minimum(own.clamp(min=0), limits))


def test_what_is_left_out_overlaps_something_surer_or_is_the_less_sure() -> None:
    boxes, probabilities = proposals(3, 40)
    found = select(boxes, probabilities, count=8)
    everything = select(boxes, probabilities, count=40)
    assert found.proposals.tolist() == everything.proposals.tolist()[:8]
    scores, labels = probabilities.max(dim=1)
    left_out = set(range(40)) - set(everything.proposals.tolist())
    assert left_out
    for proposal in left_out:
        own = boxes[proposal, labels[proposal]].clamp(min=0)
        own = torch.minimum(own, torch.tensor([120.0, 90.0, 120.0, 90.0]))
        close = box_iou(own[None], everything.boxes)[0] > 0.5
        assert (close & (everything.scores >= scores[proposal])).any()


def test_one_place_under_two_names_is_one_region() -> None:
    box = torch.tensor([10.0, 10.0, 50.0, 50.0])
    boxes = box.expand(2, 3, 4)
    probabilities = torch.tensor([[0.6, 0.1, 0.1], [0.1, 0.7, 0.1]])
    found = select(boxes, probabilities)
    assert found.proposals.tolist() == [1]
    assert found.labels.tolist() == [1]


def test_boxes_are_given_in_the_pixels_of_the_image_as_decoded() -> None:
    boxes = torch.tensor([[[10.0, 20.0, 70.0, 95.0]]])
    found = select(boxes, torch.tensor([[0.9]]), seen=(90, 120), decoded=(180, 60))
    assert found.boxes.tolist() == [[5.0, 40.0, 35.0, 180.0]]


def test_what_has_no_area_or_no_number_is_no_region() -> None:
    boxes = torch.tensor(
        [
            [[10.0, 10.0, 10.0, 40.0]],
            [[130.0, 10.0, 160.0, 40.0]],
            [[float("nan"), 10.0, 30.0, 40.0]],
            [[10.0, 10.0, 30.0, 40.0]],
        ]
    )
    found = select(boxes, torch.tensor([[0.9], [0.8], [0.7], [0.1]]))
    assert found.proposals.tolist() == [3]


def test_fewer_regions_than_asked_for_are_masked_not_made_up() -> None:
    two, none = select(*proposals(1, 2), threshold=1.0), select(*proposals(1, 0))
    features = [torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.zeros(0, 2)]
    objects = stack_regions([two, none], features, count=3)
    assert objects.mask.tolist() == [[True, True, False], [False, False, False]]
    assert torch.equal(objects.features[0, :2], features[0][two.proposals])
    assert (objects.features[~objects.mask] == 0).all()
    assert (objects.boxes[~objects.mask] == 0).all()
    assert (objects.scores[~objects.mask] == 0).all()
