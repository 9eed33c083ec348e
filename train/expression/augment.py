"""Random geometric and photometric changes of faces, for training."""

from __future__ import annotations

import torch
from torch.nn import functional

from train.expression.recipe import ExpressionRecipe


def augment(faces: torch.Tensor, recipe: ExpressionRecipe, rng: torch.Generator) -> torch.Tensor:
    """Random rotation, zoom, crop, flip, brightness and contrast of faces.

    Args:
        faces: Grey faces, uint8, Bx1x48x48.
        recipe: Recipe with the ranges of the changes.
        rng: Random generator of the changes.

    Returns:
        Changed faces, float, Bx1xCxC, 0 to 255.
    """
    count, side, crop = len(faces), faces.shape[-1], recipe.crop

    def uniform(width: float) -> torch.Tensor:
        return (torch.rand(count, generator=rng) * 2 - 1) * width

    angle = uniform(recipe.rotation) * (torch.pi / 180)
    zoom = 1 + uniform(recipe.zoom)
    mirror = torch.ones(count)
    if recipe.flip:
        mirror = torch.randint(0, 2, (count,), generator=rng) * 2.0 - 1.0
    room = (side - crop) / side  # how far the cut may lie from the middle, in half sides
    fraction = crop / side
    cosine, sine = torch.cos(angle) * zoom * fraction, torch.sin(angle) * zoom * fraction
    places = torch.stack(
        [
            torch.stack([cosine * mirror, -sine, uniform(room)], 1),
            torch.stack([sine * mirror, cosine, uniform(room)], 1),
        ],
        1,
    )  # Bx2x3
    grid = functional.affine_grid(places, [count, 1, crop, crop], align_corners=False)
    moved = functional.grid_sample(
        faces.float(), grid.to(faces.device), padding_mode="border", align_corners=False
    )
    gain = (1 + uniform(recipe.contrast)).view(-1, 1, 1, 1).to(faces.device)
    shift = (uniform(recipe.contrast) * 128).view(-1, 1, 1, 1).to(faces.device)
    return ((moved - 128) * gain + 128 + shift).clamp(0, 255)
