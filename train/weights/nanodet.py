"""NanoDet-g as human-models publishes it, a TensorFlow.js graph, in the layout of `LightObjects`.

The graph names its convolutions in their order. Its pixels are BGR; ours are RGB, so that the
stem's weights are turned round.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

from handler.stimuli.objects.nanodet import NanoDetTrunk
from train.weights.conversion import Conversion, NotThis, shapes_of, take

_DETECTOR = "detector.trunk."
_KERNEL = "PartitionedCall/split"
_HEADS, _LAST = 28, 33  # numbers of the first and the last convolution of the heads


def is_nanodet(tensors: Mapping[str, torch.Tensor]) -> bool:
    """Whether these are the tensors of a graph with the stem and the last head of a NanoDet."""
    first, last = tensors.get(_KERNEL), tensors.get(f"{_KERNEL}_{_LAST}")
    return (
        first is not None
        and last is not None
        and tuple(first.shape) == (3, 3, 3, 32)
        and tuple(last.shape[:2]) == (1, 1)
    )


def convert_nanodet(source: Mapping[str, torch.Tensor]) -> Conversion:
    """The detector in the layout of `LightObjects`.

    Raises:
        NotThis: The graph is another detector.
    """
    with torch.device("meta"):
        shapes = shapes_of(NanoDetTrunk())
    names = list(shapes)[::2]  # weight and bias of each convolution, in the order of the graph
    wanted: dict[str, tuple[str, tuple[int, ...]]] = {}
    for number, weight in enumerate(names):
        out, into, height, width = shapes[weight]
        kernel = f"{_KERNEL}_{number}" if number else _KERNEL
        wanted[_DETECTOR + weight] = kernel, (height, width, into, out)
        bias = weight.removesuffix("weight") + "bias"
        wanted[_DETECTOR + bias] = f"unknown_{2 * number + _skipped(number)}", (out,)
    if f"{_KERNEL}_{len(names)}" in source:
        raise NotThis(f"has '{_KERNEL}_{len(names)}', which is not part of it")
    tensors = take(source, wanted)
    for name, tensor in tensors.items():
        if tensor.ndim == 4:
            tensors[name] = tensor.permute(3, 2, 0, 1).contiguous()
    stem = _DETECTOR + names[0]
    tensors[stem] = tensors[stem].flip(1)
    return Conversion(
        kind="light",
        name="nanodet-g",
        about="NanoDet-g on COCO (human-models)",
        settings={},
        tensors=tensors,
        # Scalars and whole numbers are constants of the graph's operations.
        used={theirs for theirs, _ in wanted.values()}
        | {name for name, value in source.items() if not value.ndim or value.dtype == torch.int32},
    )


def _skipped(number: int) -> int:
    """How many other constants the graph has numbered before the bias of a convolution."""
    return 0 if number < _HEADS else 4 if number < _HEADS + 2 else 6
