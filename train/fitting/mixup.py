"""Mixup: training on blends of two photos, labelled with both (Zhang et al., ICLR 2018).

Every stimulus is blended by the same share: the whole images pixel by pixel, the objects rank by
rank, the faces pixel by pixel. What only one of the two photos has, such as a face, stays as it is.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from handler.stimuli.stimuli import Stimuli


def mix(stimuli: Stimuli, order: torch.Tensor, share: float) -> Stimuli:
    """Blend each photo of a batch with another one.

    Args:
        stimuli: of B photos.
        order: int64, B, which photo each is blended with.
        share: of the photo itself, 0 to 1.
    """
    colour = stimuli.colour.float()
    objects, faces = stimuli.objects, stimuli.faces
    crops = faces.crops.float()
    return Stimuli(
        colour=share * colour + (1 - share) * colour[order],
        objects=replace(
            objects,
            features=_blend(
                objects.features, objects.mask, objects.features[order], objects.mask[order], share
            ),
            mask=objects.mask | objects.mask[order],
        ),
        faces=replace(
            faces,
            crops=_blend(crops, faces.mask, crops[order], faces.mask[order], share),
            counts=torch.maximum(faces.counts, faces.counts[order]),
        ),
    )


def _blend(
    ours: torch.Tensor,
    we_have: torch.Tensor,
    theirs: torch.Tensor,
    they_have: torch.Tensor,
    share: float,
) -> torch.Tensor:
    shares = torch.where(they_have, torch.where(we_have, share, 0.0), 1.0).to(ours.dtype)
    shares = shares.reshape(shares.shape + (1,) * (ours.dim() - shares.dim()))
    return shares * ours + (1 - shares) * theirs
