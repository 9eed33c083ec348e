"""Float32 graphs without weights of their own: they refer to those that the archive holds anyway.

ONNX lets the numbers of a graph lie in another file of its folder, here in ``weights.safetensors``
and the like. Numbers in half precision become float32 by a node of the graph, which ONNX Runtime
computes once, when it loads the graph. The references are places in that file, so a graph belongs
to one file of weights; the archive's digest covers both.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import load_file

from handler.archive.files import weight_files
from handler.values.archive_config import ArchiveConfig

Array = np.ndarray[Any, np.dtype[Any]]
_TYPES = {"F32": TensorProto.FLOAT, "F16": TensorProto.FLOAT16}
_LENGTH = 8  # bytes at the beginning of a safetensors file, which say how long its header is


@dataclass(frozen=True)
class StoredTensor:
    """A tensor of a safetensors file, and where it lies.

    Attributes:
        file: Name of the file.
        name: Name of the tensor in the file.
        values: The tensor.
        kind: ONNX's number for the type of its values.
        offset: Position of its first byte in the file.
        length: Number of its bytes.
    """

    file: str
    name: str
    values: Array
    kind: int
    offset: int
    length: int

    @property
    def reference(self) -> str:
        """Name for a reference to it, of which no graph has a second one."""
        return f"{self.file}/{self.name}"


def refer_to_weights(graph: Path, target: Path, weights: Sequence[Path]) -> None:
    """Write a float32 graph in which references stand for all weights that files hold.

    Args:
        graph: Path of the graph.
        target: Path of the graph to write.
        weights: Paths of safetensors files, which lie in the folder of ``target`` for whoever loads
            it.
    """
    places = {_content(one.values): one for file in weights for one in stored_tensors(file)}
    model = onnx.load(str(graph))
    casts: dict[str, onnx.NodeProto] = {}
    for tensor in list(model.graph.initializer):
        place = places.get(_content(numpy_helper.to_array(tensor)))
        if place is None or tensor.data_type != TensorProto.FLOAT:
            continue  # the exporter's own constants
        model.graph.initializer.remove(tensor)
        name = tensor.name if place.kind == TensorProto.FLOAT else place.reference
        if name not in casts:
            model.graph.initializer.append(refer(name, tensor.dims, place))
        if name != tensor.name:
            casts[tensor.name] = helper.make_node(
                "Cast", [name], [tensor.name], to=TensorProto.FLOAT
            )
    nodes = [*casts.values(), *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    target.write_bytes(model.SerializeToString())


def safetensors_files(folder: Path, config: ArchiveConfig) -> list[Path]:
    """Paths of the files of weights, in the folder of a model, to which graphs can refer."""
    return [folder / name for name in weight_files(config) if name.endswith(".safetensors")]


def refer(name: str, shape: Sequence[int], place: StoredTensor) -> TensorProto:
    """An initializer of a graph, ``name``, whose values lie in another file, with any shape."""
    tensor = TensorProto(name=name, data_type=place.kind, dims=shape)
    tensor.data_location = TensorProto.EXTERNAL
    entries = {"location": place.file, "offset": place.offset, "length": place.length}
    for key, value in entries.items():
        tensor.external_data.add(key=key, value=str(value))
    return tensor


def stored_tensors(file: Path) -> Iterator[StoredTensor]:
    """The tensors of a safetensors file that have float32 or half precision, by name."""
    tensors = load_file(file)
    with file.open("rb") as opened:
        length = int.from_bytes(opened.read(_LENGTH), "little")
        header: dict[str, Any] = json.loads(opened.read(length))
    for name in sorted(tensors):
        kind = _TYPES.get(header[name]["dtype"])
        if kind is not None:
            start, end = header[name]["data_offsets"]
            begin = _LENGTH + length + start
            yield StoredTensor(file.name, name, tensors[name], kind, begin, end - start)


def _content(values: Array) -> object:
    """What tells numbers from others, whatever their names and precision."""
    return values.shape, values.astype(np.float32).tobytes()
