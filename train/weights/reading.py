"""Safe reading of foreign tensor files: no code in them is executed.

A pickle is a program. PyTorch's files are read with ``torch.load(weights_only=True)``; plain
pickles of NumPy arrays with an unpickler that builds arrays and containers only. A file that refers
to other names is refused before any of them is called.
"""

from __future__ import annotations

import pickle
import re
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy._core import multiarray, numeric
from safetensors import SafetensorError, safe_open

from train.weights.home import WeightsError
from train.weights.tfjs import read_tfjs

_ZIP = b"PK\x03\x04"
# What torch.save wrote before it wrote zip files: a pickled magic number.
_LEGACY = pickle.dumps(0x1950A86A20F9469CFC6C, protocol=2)
# Where training programs keep the network beside counters and optimizer states.
_WRAPPERS = ("model", "net", "state_dict", "model_state_dict")
_EXPECTED = (
    "expected a PyTorch file, a pickle of NumPy arrays, a safetensors file, "
    "or the JSON file of a TensorFlow.js graph model"
)
_SCALARS = ("bool", "uint8", "int8", "int16", "int32", "int64", "float16", "float32", "float64")


@dataclass(frozen=True)
class Checkpoint:
    """Content of a foreign file.

    Attributes:
        tensors: Tensors by name, on the CPU.
        beside: Names of what the file holds beside the network's tensors.
        metadata: Metadata of a safetensors file; else empty.
        files: Other files that hold the tensors, where they are not all in one.
    """

    tensors: dict[str, torch.Tensor]
    beside: tuple[str, ...] = ()
    metadata: Mapping[str, str] | None = None
    files: tuple[Path, ...] = ()


def read_checkpoint(path: Path) -> Checkpoint:
    """The named tensors of a file, which is recognised by its content, not by its name.

    Raises:
        WeightsError: The file cannot be read, holds no named tensors, or refers to names that are
            not allowed in weights.
    """
    try:
        with path.open("rb") as file:
            start = file.read(64)
    except OSError as error:
        raise WeightsError(f"cannot read {path}: {error.strerror or error}") from None
    if start.startswith((_ZIP, _LEGACY)):
        return _named_tensors(path, _load_torch(path))
    if start[8:9] == b"{" and int.from_bytes(start[:8], "little") < path.stat().st_size:
        return _load_safetensors(path)
    if start[:1] == b"\x80":
        return _named_tensors(path, _load_pickle(path))
    if start.lstrip().startswith(b"{"):
        tensors, files = read_tfjs(path)
        return Checkpoint(tensors, files=files)
    what = "is empty" if not start else "is text" if _is_text(start) else "is of an unknown format"
    raise WeightsError(f"{path} {what}: {_EXPECTED}")


def _load_torch(path: Path) -> Any:
    try:
        with torch.serialization.safe_globals(_numpy_globals()):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        asked = re.search(r"GLOBAL (\S+)", str(error))
        if asked:
            raise WeightsError(_refusal(path, asked[1])) from None
        raise WeightsError(_damaged(path, error)) from None
    except Exception as error:  # torch raises whatever its parsing of damaged files ends in
        raise WeightsError(_damaged(path, error)) from None


def _load_pickle(path: Path) -> Any:
    try:
        with path.open("rb") as file:
            # latin1: arrays that Python 2 pickled keep their bytes in its strings.
            return _ArrayUnpickler(file, encoding="latin1").load()
    except _Forbidden as error:
        raise WeightsError(_refusal(path, str(error))) from None
    except Exception as error:  # a damaged pickle can end in any error
        raise WeightsError(_damaged(path, error)) from None


def _load_safetensors(path: Path) -> Checkpoint:
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            return Checkpoint(tensors, metadata=dict(file.metadata() or {}))
    except (SafetensorError, OSError) as error:
        raise WeightsError(_damaged(path, error)) from None


class _Forbidden(pickle.UnpicklingError):
    """A pickle refers to a name that weights do not need."""


class _ArrayUnpickler(pickle.Unpickler):
    """An unpickler that builds arrays and containers only."""

    def find_class(self, module: str, name: str) -> Any:
        """The few names that pickled arrays need."""
        known = {
            ("collections", "OrderedDict"): OrderedDict,
            ("_codecs", "encode"): _encode_latin1,
            ("numpy", "ndarray"): np.ndarray,
            ("numpy", "dtype"): np.dtype,
        }
        for home in ("numpy.core.multiarray", "numpy._core.multiarray"):
            known[home, "_reconstruct"] = multiarray._reconstruct
            known[home, "scalar"] = multiarray.scalar
        for home in ("numpy.core.numeric", "numpy._core.numeric"):
            known[home, "_frombuffer"] = numeric._frombuffer  # type: ignore[attr-defined]
        try:
            return known[module, name]
        except KeyError:
            raise _Forbidden(f"{module}.{name}") from None


def _encode_latin1(text: str, encoding: str = "latin1") -> bytes:
    """The encoding of bytes in protocol 2."""
    if encoding not in ("latin1", "latin-1"):
        raise pickle.UnpicklingError(f"bytes encoded as {encoding}")
    return text.encode("latin1")


def _numpy_globals() -> list[Any]:
    """NumPy numbers, such as a best accuracy, that PyTorch files may hold beside tensors."""
    known: list[Any] = [np.ndarray, np.dtype]
    known += [type(np.dtype(name)) for name in _SCALARS]
    for home in ("numpy.core.multiarray", "numpy._core.multiarray"):
        known += [
            (multiarray._reconstruct, f"{home}._reconstruct"),
            (multiarray.scalar, f"{home}.scalar"),
        ]
    return [*known, (_encode_latin1, "_codecs.encode")]


def _named_tensors(path: Path, content: Any) -> Checkpoint:
    """The tensors of the network, without the containers that training programs add."""
    beside: list[str] = []
    while isinstance(content, Mapping):
        inner = next((k for k in _WRAPPERS if isinstance(content.get(k), Mapping)), None)
        if inner is None:
            break
        beside += [str(key) for key in content if key != inner]
        content = content[inner]
    if not isinstance(content, Mapping):
        raise WeightsError(
            f"{path} holds a {type(content).__name__}, not tensors with names: {_EXPECTED}"
        )
    tensors: dict[str, torch.Tensor] = {}
    for key, value in content.items():
        tensor = _tensor(value)
        if tensor is None:
            beside.append(str(key))
        else:
            tensors[str(key)] = tensor
    if not tensors:
        raise WeightsError(f"{path} holds no tensors with names: {_EXPECTED}")
    if all(name.startswith("module.") for name in tensors):  # trained on several devices at once
        tensors = {name.removeprefix("module."): value for name, value in tensors.items()}
    return Checkpoint(tensors, tuple(beside))


def _tensor(value: Any) -> torch.Tensor | None:
    if isinstance(value, torch.Tensor):
        return value.detach()
    if isinstance(value, np.ndarray) and value.dtype.name in _SCALARS:
        # Pickled arrays may be read-only or of foreign byte order; torch takes neither.
        return torch.from_numpy(np.array(value, dtype=value.dtype.newbyteorder("="), order="C"))
    return None


def _is_text(start: bytes) -> bool:
    return all(byte in b"\t\r\n" or 32 <= byte < 127 for byte in start)


def _refusal(path: Path, asked: str) -> str:
    return (
        f"{path} asks for '{asked}', which weights do not need: refused, and nothing of it was run"
    )


def _damaged(path: Path, error: Exception) -> str:
    line = (str(error).strip().splitlines() or [""])[0] or type(error).__name__
    return f"{path} is damaged or incomplete ({line[:120]}): get it again"
