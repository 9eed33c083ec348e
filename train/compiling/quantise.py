"""Float32 graph -> 8-bit graph, after calibration on photos.

Weights are quantised per channel to 7 bits: with 8, the multiplications of processors without VNNI
(AVX2) saturate, and the same file would give other numbers there. They are rounded by
`train.compiling.rounding`, with which 7 bits lose no more than 8. Activations are quantised per
tensor to 8 bits, over the range that the calibration photos show. The first layers can stay in
float32: what rounding does to them, all others see.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process

from handler.onnx_runtime import PIXELS
from train.compiling.remainders import LEVELS
from train.compiling.rounding import round_weights

Pixels = np.ndarray[Any, np.dtype[np.uint8]]


def fuse(graph: Path, target: Path) -> None:
    """Fuse constant padding with the convolutions after it; the same numbers, fewer passes.

    Args:
        graph: Path of an exported graph.
        target: Path of the graph to write.
    """
    quant_pre_process(str(graph), str(target), skip_symbolic_shape=True)


def quantise(graph: Path, target: Path, photos: Sequence[Pixels], *, float_layers: int = 0) -> None:
    """Write the 8-bit form of a fused float32 graph.

    Args:
        graph: Path of the graph.
        target: Path of the graph to write.
        photos: Calibration photos as the backbone sees them, uint8, each 3xHxW.
        float_layers: Number of layers that stay in float32, counted from the input.
    """
    kept = first_layers(onnx.load(str(graph)), float_layers)
    with tempfile.TemporaryDirectory(prefix="vea-quantise-") as scratch:
        rounded, written = Path(scratch, "rounded.onnx"), Path(scratch, "quantised.onnx")
        round_weights(graph, rounded, photos, levels=LEVELS, skip=kept)
        quantize_static(
            str(rounded),
            str(written),
            _OneByOne(photos),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            reduce_range=True,
            weight_type=QuantType.QInt8,
            activation_type=QuantType.QUInt8,
            nodes_to_exclude=kept,
            calibrate_method=CalibrationMethod.MinMax,
            extra_options={"CalibStridedMinMax": 1},
        )
        target.write_bytes(written.read_bytes())


def first_layers(model: onnx.ModelProto, count: int) -> list[str]:
    """The first convolutions of a graph, and the nodes between and after them.

    A node belongs to them if it has one to ``count`` convolutions on its longest path from the
    input, itself included.

    Args:
        model: Graph whose nodes are in the order of computation.
        count: Number of convolutions.

    Returns:
        Names of the nodes, in the order of computation.
    """
    before: dict[str, int] = {}  # how many convolutions a tensor has behind it
    names: list[str] = []
    for node in model.graph.node:
        passed = max((before.get(name, 0) for name in node.input), default=0)
        passed += node.op_type == "Conv"
        before.update(dict.fromkeys(node.output, passed))
        if 0 < passed <= count:
            names.append(node.name)
    return names


class _OneByOne(CalibrationDataReader):
    """Calibration photos, one at a time, since the calibrator holds all activations of a range."""

    def __init__(self, photos: Sequence[Pixels]) -> None:
        self._photos = photos
        self._rest = iter(photos)

    def __len__(self) -> int:
        return len(self._photos)

    def set_range(self, start_index: int, end_index: int) -> None:
        """Continue with the photos from one position to another."""
        self._rest = iter(self._photos[start_index:end_index])

    def get_next(self) -> dict[str, Pixels] | None:
        """The next photo as the graph's input; None after the last."""
        photo = next(self._rest, None)
        return None if photo is None else {PIXELS: photo[np.newaxis]}
