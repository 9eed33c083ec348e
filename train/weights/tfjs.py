"""TensorFlow.js graph models: a JSON file with the graph, and the files beside it with its weights.

The JSON file lists the weights in the order in which the other files hold their bytes. Weights may
be quantised: as float16, or as integers with a scale and a least value.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch

from train.weights.home import WeightsError

_MAX_GRAPH = 64 << 20  # bytes of a JSON file
_DTYPES = {"float32": "<f4", "float16": "<f2", "int32": "<i4", "uint8": "u1", "uint16": "<u2"}
_STORED = {"float32": "<f4", "int32": "<i4", "bool": "?", "uint8": "u1"}


def read_tfjs(path: Path) -> tuple[dict[str, torch.Tensor], tuple[Path, ...]]:
    """The weights of a TensorFlow.js graph model.

    Args:
        path: Path of its JSON file; the other files are in the same folder.

    Returns:
        The tensors by name, in TensorFlow's order of axes (a convolution's weight is height, width,
        input, output), and the other files that hold them.

    Raises:
        WeightsError: The file is no graph model, or a file of its weights is missing or damaged.
    """
    try:
        if path.stat().st_size > _MAX_GRAPH:
            raise ValueError(f"it is larger than {_MAX_GRAPH} bytes")
        groups = json.loads(path.read_text(encoding="utf-8"))["weightsManifest"]
        files = tuple(path.parent / _plain(name) for group in groups for name in group["paths"])
        weights = [weight for group in groups for weight in group["weights"]]
    except (ValueError, TypeError, KeyError, OSError, RecursionError) as error:
        raise WeightsError(f"{path} is not a TensorFlow.js graph model ({_line(error)})") from None
    try:
        data = b"".join(file.read_bytes() for file in files)
    except OSError as error:
        missing = f"{path} needs {error.filename} beside it"
        raise WeightsError(f"{missing}: {error.strerror or error}") from None
    tensors, start = {}, 0
    try:
        for weight in weights:
            size, tensors[str(weight["name"])] = _tensor(weight, data, start)
            start += size
        if start != len(data):
            raise ValueError(f"its files hold {len(data)} bytes of weights, it describes {start}")
    except (ValueError, TypeError, KeyError, OverflowError) as error:
        raise WeightsError(f"{path} is damaged or incomplete ({_line(error)})") from None
    return tensors, files


def _tensor(weight: dict[str, Any], data: bytes, start: int) -> tuple[int, torch.Tensor]:
    """Number of bytes and tensor of a weight that begins at ``start``."""
    shape = [int(side) for side in weight["shape"]]
    if any(side < 0 for side in shape):
        raise ValueError(f"'{weight['name']}' has the shape {shape}")
    quantised = weight.get("quantization")
    kind = quantised["dtype"] if quantised else weight["dtype"]
    dtype = np.dtype((_DTYPES if quantised else _STORED)[kind])
    count = math.prod(shape)
    array = np.frombuffer(data, dtype, count, start).reshape(shape)
    if quantised and "scale" in quantised:
        array = array.astype(np.float32) * quantised["scale"] + quantised["min"]
    if quantised:
        array = array.astype(_STORED[weight["dtype"]])
    return count * dtype.itemsize, torch.from_numpy(array.copy())


def _plain(name: str) -> str:
    """A file name without any folder: a foreign file must not point elsewhere."""
    if Path(name).name != name or name in ("", ".", ".."):
        raise ValueError(f"its weights are in '{name}': expected a file beside it")
    return name


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:120] or type(error).__name__
