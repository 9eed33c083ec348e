"""`Stimuli`: what an organism perceives of a batch of images (Sec. III-A).

Colour is the whole image (I_g = I), objects are N regions with their features (I_s, F_s), the face
is one aligned crop (I_e). Images without a face, or with fewer than N objects, carry a mask; there
are no zero objects that a mean or an attention could mistake for real ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import TypeVar

import torch


@dataclass
class Objects:
    """Regions of B images.

    Attributes:
        features: Region features, float, BxNxF.
        boxes: Boxes, float, BxNx4, xyxy, absolute pixels of the image as decoded.
        scores: Detection confidence, float, BxN, 0 to 1.
        labels: int64, BxN, indices into the source's vocabulary.
        mask: Regions that are present, bool, BxN.
        attributes: int64, BxN, indices into the source's attributes, -1 for none; None where the
            source tells no attributes.
        names: int64, BxN, indices into the source's names; None where the labels are the names.
        name_scores: Confidence of the names, float, BxN, 0 to 1; None without names.
    """

    features: torch.Tensor
    boxes: torch.Tensor
    scores: torch.Tensor
    labels: torch.Tensor
    mask: torch.Tensor
    attributes: torch.Tensor | None = None
    names: torch.Tensor | None = None
    name_scores: torch.Tensor | None = None


@dataclass
class Faces:
    """The largest face of each of B images.

    Attributes:
        crops: uint8, Bx1x48x48, grey, aligned; zeros where there is no face.
        boxes: Boxes, float, Bx4, xyxy, absolute pixels of the image as decoded.
        scores: Detector score, float, B; unbounded, a higher score is more certain.
        counts: int64, B, how many faces were found.
    """

    crops: torch.Tensor
    boxes: torch.Tensor
    scores: torch.Tensor
    counts: torch.Tensor

    @property
    def mask(self) -> torch.Tensor:
        """bool, B, true where there is a face."""
        return self.counts > 0


_Group = TypeVar("_Group", Objects, Faces)


@dataclass
class Stimuli:
    """The three stimuli of B images.

    Attributes:
        colour: uint8, Bx3xHxW, the whole image, resized.
        objects: Selected regions.
        faces: Selected faces.
        feature_map: F_g of the colour, float, Bxd1xhxw, where one pass of the backbones gave it and
            the objects; None where Global-Net has yet to compute it.
    """

    colour: torch.Tensor
    objects: Objects
    faces: Faces
    feature_map: torch.Tensor | None = None

    def to(self, device: torch.device | str) -> Stimuli:
        """The same stimuli on ``device``."""
        return Stimuli(
            self.colour.to(device),
            _move(self.objects, device),
            _move(self.faces, device),
            None if self.feature_map is None else self.feature_map.to(device),
        )


def take(stimuli: Stimuli, rows: Sequence[int]) -> Stimuli:
    """The stimuli of some of the images, by their positions."""
    index = torch.tensor(rows, dtype=torch.long, device=stimuli.colour.device)
    return Stimuli(
        stimuli.colour[index],
        _take(stimuli.objects, index),
        _take(stimuli.faces, index),
        None if stimuli.feature_map is None else stimuli.feature_map[index],
    )


def put(group: _Group, rows: Sequence[int], others: _Group) -> None:
    """Put what others say of some of the images in its place.

    Args:
        group: Objects or faces of B images, which are changed.
        rows: Positions of the images.
        others: Objects or faces of these images, in this order.
    """
    for field in fields(group):
        part = getattr(group, field.name)
        if part is not None:
            part[list(rows)] = getattr(others, field.name)


def _take(group: _Group, index: torch.Tensor) -> _Group:
    parts = {f.name: getattr(group, f.name) for f in fields(group)}
    return replace(group, **{name: part[index] for name, part in parts.items() if part is not None})


def _move(group: _Group, device: torch.device | str) -> _Group:
    parts = {f.name: getattr(group, f.name) for f in fields(group)}
    return replace(
        group, **{name: part.to(device) for name, part in parts.items() if part is not None}
    )
