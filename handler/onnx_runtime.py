"""Compiled backbones: ONNX Runtime computes what the archive's ``*.onnx`` files describe.

The graph takes uint8 pixels, as the selector makes them, and normalises them itself. With 8-bit
weights and activations the sums are exact integers, whatever the number of threads and of images in
a batch.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import onnxruntime
import torch
from torch import nn

PIXELS, FEATURES = "pixels", "features"
"""Names of a graph's input, uint8, Bx3xHxW, and of its output, float32, BxFxhxw (or BxFxM)."""


class OnnxTrunk(nn.Module):
    """The trunk of a backbone as an ONNX graph; it has no parameters for torch.

    Args:
        file: Path of the graph, which is complete in itself, or its bytes.
        threads: Number of threads that compute.

    Raises:
        Exception: The file is no such graph; ONNX Runtime raises various types.
    """

    def __init__(self, file: Path | bytes, *, threads: int) -> None:
        super().__init__()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        # Threads that spin while they wait take the cores from other workers.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3  # errors
        # From bytes: a graph cannot refer to other files.
        self._session = onnxruntime.InferenceSession(
            file if isinstance(file, bytes) else file.read_bytes(),
            options,
            providers=["CPUExecutionProvider"],
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Images, uint8, Bx3xHxW, on the CPU, to features, float32, BxFxhxw (or BxFxM)."""
        pixels = images.contiguous().numpy()
        (features,) = self._session.run([FEATURES], {PIXELS: pixels})
        return torch.from_numpy(features)


class OnnxRuntime:
    """Trunks from ONNX files; a `handler.backbones.BackboneRuntime`.

    Args:
        files: Path of the graph of each part.
        threads: Number of threads that compute; by default as many as torch has.
    """

    name = "onnx"

    def __init__(self, files: Mapping[str, Path], *, threads: int | None = None) -> None:
        self._files = files
        self._threads = threads or torch.get_num_threads()

    def trunk(self, part: str) -> nn.Module | None:
        """As `BackboneRuntime.trunk`: None for a part without a graph."""
        file = self._files.get(part)
        return None if file is None else OnnxTrunk(file, threads=self._threads)
