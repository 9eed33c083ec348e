"""Which program computes the convolutional backbones of an archive.

``torch`` runs anywhere, from the archive's weights. ``onnx`` runs the compiled form of the
backbones that an archive may carry, with ONNX Runtime, on CPUs only, several times as fast. The two
agree to within what the model card says, not in every digit, so a prediction names its runtime.
"""

from __future__ import annotations

from importlib.util import find_spec

from handler.values.errors import VeaError

TORCH, ONNX, AUTO = "torch", "onnx", "auto"
RUNTIMES = (AUTO, TORCH, ONNX)
"""What can be requested; ``auto`` is ``onnx`` where that is possible, else ``torch``."""
VARIABLE = "VEA_RUNTIME"
"""Environment variable that requests a runtime."""

FLOAT32, INT8 = "float32", "int8"
PRECISIONS = (FLOAT32, INT8)
"""Precisions of a compiled form."""


class RuntimeUnavailable(VeaError):
    """The requested runtime cannot run this archive here; the message is one line."""


def choose_runtime(wanted: str, *, compiled: str | None, device: str) -> str:
    """The runtime of an archive on a device: ``"torch"`` or ``"onnx"``.

    Args:
        wanted: Requested runtime, one of `RUNTIMES`.
        compiled: Precision of the archive's compiled form; None for an archive without one.
        device: Device of the networks, such as ``"cpu"`` or ``"cuda:0"``.

    Raises:
        RuntimeUnavailable: ``wanted`` is unknown, or it is ``"onnx"`` and the archive has no
            compiled form, the device is no CPU, or ONNX Runtime is not installed.
    """
    if wanted not in RUNTIMES:
        raise RuntimeUnavailable(
            f"unknown runtime '{wanted}': expected one of {', '.join(RUNTIMES)}"
        )
    if wanted == TORCH:
        return TORCH
    obstacle = _obstacle(compiled, device)
    if obstacle is None:
        return ONNX
    if wanted == ONNX:
        raise RuntimeUnavailable(f"the runtime onnx is not possible: {obstacle}")
    return TORCH


def _obstacle(compiled: str | None, device: str) -> str | None:
    """Why ``onnx`` is not possible; None where it is."""
    if compiled is None:
        return "the archive has no compiled form; `vea package ARCHIVE --runtime onnx` adds one"
    if device.partition(":")[0] != "cpu":
        return f"it computes on CPUs only, and the device is {device}"
    if find_spec("onnxruntime") is None:
        return "the package onnxruntime is not installed"
    return None
