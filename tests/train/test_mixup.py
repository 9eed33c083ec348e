"""Blends of two photos: every stimulus by the same weight, and the label with them."""

from __future__ import annotations

import pytest
import torch

from handler.stimuli.stimuli import Faces, Objects, Stimuli
from train.fitting.mixup import mix

SWAPPED = torch.tensor([1, 0])


def stimuli(*, counts: tuple[int, int], mask: list[list[bool]]) -> Stimuli:
    """Two photos: 10 and 200 throughout, features 1 and 3."""
    grey = torch.tensor([10, 200], dtype=torch.uint8)
    regions = torch.tensor([1.0, 3.0]).view(2, 1, 1).repeat(1, 2, 4)
    return Stimuli(
        colour=grey.view(2, 1, 1, 1).repeat(1, 3, 5, 5),
        objects=Objects(
            features=regions,
            boxes=torch.zeros(2, 2, 4),
            scores=torch.zeros(2, 2),
            labels=torch.zeros(2, 2, dtype=torch.int64),
            mask=torch.tensor(mask),
        ),
        faces=Faces(
            crops=grey.view(2, 1, 1, 1).repeat(1, 1, 48, 48),
            boxes=torch.zeros(2, 4),
            scores=torch.zeros(2),
            counts=torch.tensor(counts),
        ),
    )


def test_every_stimulus_is_blended_by_the_same_share() -> None:
    mixed = mix(stimuli(counts=(1, 2), mask=[[True, True]] * 2), SWAPPED, 0.75)
    assert mixed.colour[:, 0, 0, 0].tolist() == [57.5, 152.5]
    assert mixed.objects.features[:, 1, 3].tolist() == [1.5, 2.5]
    assert mixed.faces.crops[:, 0, 7, 7].tolist() == [57.5, 152.5]


@pytest.mark.parametrize(("counts", "left"), [((1, 0), 10.0), ((0, 1), 200.0)])
def test_a_face_that_only_one_photo_has_stays_whole(counts: tuple[int, int], left: float) -> None:
    mixed = mix(stimuli(counts=counts, mask=[[True, True]] * 2), SWAPPED, 0.75)
    assert mixed.faces.mask.tolist() == [True, True]
    assert mixed.faces.crops[:, 0, 0, 0].tolist() == [left, left]


def test_no_face_comes_of_two_photos_without_one() -> None:
    mixed = mix(stimuli(counts=(0, 0), mask=[[True, True]] * 2), SWAPPED, 0.75)
    assert not mixed.faces.mask.any()


def test_an_object_that_only_one_photo_has_stays_whole() -> None:
    mixed = mix(stimuli(counts=(0, 0), mask=[[True, True], [True, False]]), SWAPPED, 0.75)
    assert mixed.objects.mask.tolist() == [[True, True], [True, True]]
    assert mixed.objects.features[:, :, 0].tolist() == [[1.5, 1.0], [2.5, 1.0]]


def test_the_photos_themselves_are_left_as_they_were() -> None:
    given = stimuli(counts=(1, 1), mask=[[True, True]] * 2)
    mix(given, SWAPPED, 0.5)
    assert given.colour.dtype == torch.uint8
    assert given.colour[:, 0, 0, 0].tolist() == [10, 200]
    assert given.objects.features[:, 0, 0].tolist() == [1.0, 3.0]
