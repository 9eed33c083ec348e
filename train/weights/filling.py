"""Filling a part of a model with tensors that must fit it exactly."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn

from train.weights.home import WeightsError


def fill(part: nn.Module, tensors: Mapping[str, torch.Tensor], path: Path) -> None:
    """Load ``tensors`` into ``part``; their names and shapes must match exactly.

    Args:
        part: Module to fill in place.
        tensors: Tensors by their names in the module.
        path: File that they come from, for messages.

    Raises:
        WeightsError: A name or a shape does not match.
    """
    wanted = part.state_dict()
    for name in sorted(wanted.keys() | tensors.keys()):
        if name not in tensors or name not in wanted:
            problem = f"'{name}' is {'missing' if name in wanted else 'not part of it'}"
        elif wanted[name].shape != tensors[name].shape:
            problem = (
                f"'{name}' is {_shape(tensors[name])}, the network's is {_shape(wanted[name])}"
            )
        else:
            continue
        raise WeightsError(f"{path} does not fit {type(part).__name__}: {problem}")
    part.load_state_dict(tensors)


def _shape(tensor: torch.Tensor) -> str:
    return "x".join(str(size) for size in tensor.shape) or "a number"
