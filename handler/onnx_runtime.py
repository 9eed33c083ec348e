"""Compiled backbones: ONNX Runtime computes what the archive's ``*.onnx`` files describe.

The graph takes uint8 pixels, as the selector makes them, and normalises them itself. With 8-bit
weights and activations the sums are exact integers. The first layers of an 8-bit graph can be in
float32; they compute each image on its own. So the numbers do not depend on the number of threads
and of images in a batch.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnxruntime
import torch
from torch import nn

from handler.values.backbones import GLOBAL, OBJECTS, SHARED

PIXELS, FEATURES = "pixels", "features"
"""Names of a graph's input, uint8, Bx3xHxW, and of its output, float32, BxFxhxw (or BxFxM). A
shared graph has an output for each of its parts, with the part's name."""
CATEGORIES = "categories"
"""Name of a further output of a shared graph: the logits of the objects' classifier, float32,
BxCxhxw. Graphs from before do without."""


class OnnxTrunk(nn.Module):
    """The trunk of a backbone as an ONNX graph; it has no parameters for torch.

    Of a shared graph everything is computed, whichever part is asked for.

    Args:
        session: Session of the graph.
        output: Name of the output.
    """

    def __init__(self, session: onnxruntime.InferenceSession, output: str = FEATURES) -> None:
        super().__init__()
        self._session = session
        self._output = output

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Images, uint8, Bx3xHxW, on the CPU, to features, float32, BxFxhxw (or BxFxM)."""
        (features,) = self._session.run([self._output], _feed(images))
        return torch.from_numpy(features)


class SharedOnnxTrunk(nn.Module):
    """The trunks of two backbones as one ONNX graph, which computes what they share once.

    Args:
        session: Session of the graph.
    """

    def __init__(self, session: onnxruntime.InferenceSession) -> None:
        super().__init__()
        self._session = session
        classifies = CATEGORIES in [output.name for output in session.get_outputs()]
        self._outputs = [GLOBAL, OBJECTS, *([CATEGORIES] if classifies else [])]

    def forward(
        self, images: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
        """As `BackboneRuntime.shared` says; images on the CPU."""
        seen, found, *said = map(torch.from_numpy, self._session.run(self._outputs, _feed(images)))
        return seen, found, said[0] if said else None


class OnnxRuntime:
    """Trunks from ONNX files; a `handler.backbones.BackboneRuntime`.

    Args:
        files: Path of the graph of each part. A graph may leave its weights in files of its folder.
        threads: Number of threads that compute; by default as many as torch has.

    Raises:
        Exception: A file is no such graph; ONNX Runtime raises various types.
    """

    name = "onnx"

    def __init__(self, files: Mapping[str, Path], *, threads: int | None = None) -> None:
        threads = threads or torch.get_num_threads()
        self._sessions = {part: open_graph(file, threads) for part, file in files.items()}

    def trunk(self, part: str) -> nn.Module | None:
        """As `BackboneRuntime.trunk`: None for a part without a graph."""
        if part in self._sessions:
            return OnnxTrunk(self._sessions[part])
        if SHARED in self._sessions and part in (GLOBAL, OBJECTS):
            return OnnxTrunk(self._sessions[SHARED], part)
        return None

    def shared(self) -> nn.Module | None:
        """As `BackboneRuntime.shared`: None without a shared graph."""
        session = self._sessions.get(SHARED)
        return None if session is None else SharedOnnxTrunk(session)


def open_graph(
    graph: Path | bytes, threads: int, *, weights: Mapping[str, bytes] | None = None
) -> onnxruntime.InferenceSession:
    """A session that computes a graph.

    Args:
        graph: Path of an ONNX file, or the contents of one.
        threads: Number of threads that compute.
        weights: Contents of the files that ``graph`` leaves weights in, by name, if it is not a
            path.

    Raises:
        Exception: Contents that are no such graph; ONNX Runtime raises various types.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Threads that spin while they wait take the cores from other workers.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3  # errors
    if weights:
        # ONNX Runtime copies what it needs of them while it makes the session.
        contents = list(weights.values())
        options.add_external_initializers_from_files_in_memory(
            list(weights), contents, [len(content) for content in contents]
        )
    # From its path: a graph refers to weights in its folder, and to no other place.
    model = graph if isinstance(graph, bytes) else str(graph)
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _feed(images: torch.Tensor) -> dict[str, Any]:
    return {PIXELS: images.contiguous().numpy()}
