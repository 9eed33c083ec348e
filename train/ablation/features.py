"""The features that the studies are trained on, in memory, and batches of them.

They are stored in half precision, as in the stimuli cache, and with the largest N of the studies:
sources sort their objects by confidence, so a smaller N takes the first N of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class FeatureBatch:
    """Features of B photos, on which rows of a study are trained and evaluated.

    Attributes:
        colour: Feature v_g of Global-Net, float, Bxd1; None where Global-Net is left out.
        objects: Features of the objects, float, BxNxF; None where nothing reads them.
        object_mask: Mask of the objects that exist, bool, BxN; None where ``objects`` is None.
        faces: Feature v_e, float, Bxd3, or, for an Expression-Net that is trained, crops, uint8,
            Bx1x48x48; None where Expression-Net is left out.
        face_mask: Mask of the photos with a face, bool, B.
    """

    colour: torch.Tensor | None
    objects: torch.Tensor | None
    object_mask: torch.Tensor | None
    faces: torch.Tensor | None
    face_mask: torch.Tensor


@dataclass(frozen=True)
class FeatureSet:
    """The features of the n photos of a split, in memory, in half precision.

    Attributes:
        labels: Labels of the photos, int64, n.
        digests: SHA-256 of each photo's file.
        colour: Features of the picture by colour space, ``rgb`` and ``y`` where rows need it:
            nx2xd1, the second of each two from the mirrored picture, or nx1xd1 without it.
        objects: Features of the objects, nxNxF, in descending order of confidence.
        object_mask: Mask of the objects that exist, bool, nxN.
        faces: Features of a frozen trunk, nxd3, zeros without a face; else crops, uint8, nx1x48x48.
        face_mask: Mask of the photos with a face, bool, n.
        identity: Identifier of the parts that computed the features, weights included.
    """

    labels: torch.Tensor
    digests: Sequence[str]
    colour: Mapping[str, torch.Tensor]
    objects: torch.Tensor
    object_mask: torch.Tensor
    faces: torch.Tensor
    face_mask: torch.Tensor
    identity: str

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def faces_are_crops(self) -> bool:
        """Whether Expression-Net is to be trained, its trunk included."""
        return self.faces.dtype == torch.uint8

    def batch(
        self,
        rows: torch.Tensor,
        *,
        colour: str | None,
        objects: int,
        faces: bool,
        mirrored: torch.Tensor | None = None,
    ) -> FeatureBatch:
        """The features of some photos.

        Args:
            rows: Rows of the photos, int64, B.
            colour: Colour space, ``rgb`` or ``y``; None leaves the picture out.
            objects: Largest number of objects; 0 leaves them out.
            faces: Whether faces are part of the batch.
            mirrored: Mask of the photos whose picture is mirrored, bool, B; None mirrors none.
        """
        side = torch.zeros_like(rows) if mirrored is None else mirrored.long()
        return FeatureBatch(
            colour=self.colour[colour][rows, side].float() if colour else None,
            # Cut before it is copied: the rest would only be moved about.
            objects=self.objects[:, :objects][rows].float() if objects else None,
            object_mask=self.object_mask[:, :objects][rows] if objects else None,
            faces=self._faces(rows) if faces else None,
            face_mask=self.face_mask[rows],
        )

    def _faces(self, rows: torch.Tensor) -> torch.Tensor:
        chosen = self.faces[rows]
        return chosen if self.faces_are_crops else chosen.float()
