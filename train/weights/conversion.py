"""The result of every importer, and how importers take tensors from a foreign file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

# Our name -> the name in the file, and the shape that the tensor must have.
Wanted = Mapping[str, tuple[str, tuple[int, ...]]]


class NotThis(Exception):
    """A file resembles a known one but differs; the message continues the words "but it"."""


@dataclass(frozen=True)
class Conversion:
    """A foreign file in the layout of a weights file.

    Attributes:
        kind: Kind of the network.
        name: Default name of the weights.
        about: Description of the file's content.
        settings: Settings that the network needs.
        tensors: Tensors under the network's own names; floating-point ones float32.
        used: Names of the tensors that were taken, as in the imported file.
    """

    kind: str
    name: str
    about: str
    settings: dict[str, Any]
    tensors: dict[str, torch.Tensor]
    used: set[str]


def take(source: Mapping[str, torch.Tensor], wanted: Wanted) -> dict[str, torch.Tensor]:
    """The wanted tensors under our names, floating-point ones as float32.

    ``num_batches_tracked`` may be missing, as in files of before 2018: it starts at 0.

    Raises:
        NotThis: A tensor is missing, has another shape, or is not finite.
    """
    taken: dict[str, torch.Tensor] = {}
    for ours, (theirs, shape) in wanted.items():
        if theirs not in source and ours.endswith("num_batches_tracked"):
            taken[ours] = torch.zeros((), dtype=torch.int64)
            continue
        if theirs not in source:
            raise NotThis(f"lacks '{theirs}'")
        tensor = source[theirs]
        if tuple(tensor.shape) != tuple(shape):
            raise NotThis(
                f"its '{theirs}' has the shape {tuple(tensor.shape)}: expected {tuple(shape)}"
            )
        if tensor.is_floating_point():
            tensor = tensor.float()
            if not bool(tensor.isfinite().all()):
                raise NotThis(f"its '{theirs}' holds values that are not finite")
        taken[ours] = tensor.clone(memory_format=torch.contiguous_format)
    return taken


def shapes_of(module: torch.nn.Module) -> dict[str, tuple[int, ...]]:
    """Name and shape of each tensor of a network."""
    return {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
