"""Mixup: training on blends of two photos, labelled with both (Zhang et al., ICLR 2018).

Every stimulus is blended with the same weight: the whole images pixel by pixel, the objects rank by
rank, the faces pixel by pixel. A stimulus of only one of the two photos, such as a face, stays as
it is.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from handler.stimuli.stimuli import Stimuli


def mix(stimuli: Stimuli, order: torch.Tensor, weight: float) -> Stimuli:
    """Blend each photo of a batch with another one.

    Args:
        stimuli: Stimuli of B photos.
        order: Index of the photo that each is blended with, int64, B.
        weight: Weight of the photo itself, 0 to 1.
    """
    colour = stimuli.colour.float()
    objects, faces = stimuli.objects, stimuli.faces
    crops = faces.crops.float()
    return Stimuli(
        colour=weight * colour + (1 - weight) * colour[order],
        objects=replace(
            objects,
            features=_blend(
                objects.features, objects.mask, objects.features[order], objects.mask[order], weight
            ),
            mask=objects.mask | objects.mask[order],
        ),
        faces=replace(
            faces,
            crops=_blend(crops, faces.mask, crops[order], faces.mask[order], weight),
            counts=torch.maximum(faces.counts, faces.counts[order]),
        ),
    )


def _blend(
    ours: torch.Tensor,
    we_have: torch.Tensor,
    theirs: torch.Tensor,
    they_have: torch.Tensor,
    weight: float,
) -> torch.Tensor:
    weights = torch.where(they_have, torch.where(we_have, weight, 0.0), 1.0).to(ours.dtype)
    weights = weights.reshape(weights.shape + (1,) * (ours.dim() - weights.dim()))
    return weights * ours + (1 - weights) * theirs
