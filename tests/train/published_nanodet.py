"""NanoDet-g as it is published, a TensorFlow.js graph, with random numbers for weights.

`nanodet_graph.json` has the nodes of the published graph, the shapes of its weights, and the whole
numbers among them; data types and constants' values that nothing here reads are left out.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

GRAPH = Path(__file__).with_name("nanodet_graph.json")


def write_nanodet(folder: Path, seed: int = 3) -> Path:
    """Write the two files of the graph; half precision, as the published ones."""
    chooser = np.random.default_rng(seed)
    graph = json.loads(GRAPH.read_text())
    parts, weights = [], []
    for weight in graph["weights"]:
        values = weight.pop("values", None)
        weights.append(weight)
        stored = "<f2" if weight["dtype"] == "float32" else "<i4"
        shape = weight["shape"]
        if values is None and len(shape) == 4:  # enough for signals to neither grow nor fade
            spread = np.sqrt(2 / np.prod(shape[:3]))
            values = chooser.normal(size=shape) * spread
        elif values is None:
            values = chooser.normal(size=shape) * 0.1
        parts.append(np.asarray(values, dtype=stored).tobytes())
    (folder / "nanodet.bin").write_bytes(b"".join(parts))
    document: dict[str, Any] = {
        "format": "graph-model",
        "modelTopology": {"node": graph["node"]},
        "weightsManifest": [{"paths": ["nanodet.bin"], "weights": weights}],
    }
    file = folder / "nanodet.json"
    file.write_text(json.dumps(document))
    return file
