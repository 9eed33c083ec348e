"""ONNX Runtime beside OpenVINO: CPU milliseconds a photo of an archive's compiled backbones.

    pip install onnxruntime openvino pillow          # an environment of its own is enough
    python tests/trials/cpu_runtimes.py model_store/vea-lite-3.1.mar INT8.mar --photos FOLDER

One thread each, batches of 8 and of 1, all ways in turns; a figure is the median of the rounds. An
archive is unpacked, since its graphs leave their weights in files beside them, and a file `*.onnx`
is a graph by itself. OpenVINO computes a
float32 graph in bfloat16 by default where the processor can, so the precision is given. The
difference is the largest one to ONNX Runtime's features, relative to the largest of these.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from importlib import import_module
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from PIL import Image

PHOTOS = Path(__file__).resolve().parents[2] / "vea" / "photos"
_BATCHES = (8, 1)
_SIDE = 256  # of a graph that takes photos of any size
Pixels = np.ndarray[Any, np.dtype[np.uint8]]
Run = Callable[[Pixels], Any]


def graphs_of(file: Path) -> Iterator[tuple[str, Path]]:
    """Name and path of each graph in an archive, or of the graph that a file is."""
    if file.suffix == ".onnx":
        yield file.stem, file
        return
    with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(file) as archive:
        archive.extractall(folder)
        for graph in sorted(Path(folder).glob("*.onnx")):
            yield f"{file.stem}: {graph.stem}", graph


def in_onnxruntime(graph: Path) -> tuple[Run, tuple[int, int]]:
    """The graph as the handler runs it, with one thread; channels and side of its photos."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
    (taken,) = session.get_inputs()
    side = taken.shape[-1] if isinstance(taken.shape[-1], int) else _SIDE
    return lambda pixels: session.run(None, {taken.name: pixels})[0], (taken.shape[1], side)


def in_openvino(graph: Path, precision: str) -> Run:
    """The graph in OpenVINO with one thread; ``precision`` is ``f32`` or ``bf16``."""
    openvino: Any = import_module("openvino")
    core = openvino.Core()
    settings = {
        "INFERENCE_NUM_THREADS": 1,
        "NUM_STREAMS": 1,
        "INFERENCE_PRECISION_HINT": precision,
    }
    compiled = core.compile_model(core.read_model(graph), "CPU", settings)
    request = compiled.create_infer_request()
    return lambda pixels: request.infer([pixels])[0]


def photos_of(folder: Path, count: int, channels: int, side: int) -> Pixels:
    """Photos of a folder, squeezed to squares and repeated up to ``count``, uint8, BxCxHxW."""
    found = []
    for file in sorted(folder.iterdir()):
        if file.suffix in (".jpg", ".png") and file.stem != "broken":
            with Image.open(file) as photo:
                found.append(np.asarray(photo.convert("RGB").resize((side, side))))
    return np.stack(list(islice(cycle(found), count))).transpose(0, 3, 1, 2)[:, :channels].copy()


def cpu_ms(run: Run, photos: Pixels, batch: int) -> float:
    """CPU milliseconds a photo, all threads of this process included."""
    began = time.process_time()
    for start in range(0, len(photos), batch):
        run(photos[start : start + batch])
    return (time.process_time() - began) / len(photos) * 1e3


def measure(graph: Path, folder: Path, rounds: int, count: int) -> dict[str, list[str]]:
    """Cells of the table for each way: milliseconds of each batch, difference."""
    run, shape = in_onnxruntime(graph)
    ways = {"ONNX Runtime": run}
    for title, precision in (("OpenVINO, f32", "f32"), ("OpenVINO, bf16", "bf16")):
        ways[title] = in_openvino(graph, precision)
    photos = photos_of(folder, count, *shape)
    times: dict[tuple[str, int], list[float]] = {}
    for number in range(rounds + 1):
        for batch in _BATCHES:
            for way, call in ways.items():
                spent = cpu_ms(call, photos, batch)
                if number:  # the first time warms it
                    times.setdefault((way, batch), []).append(spent)
    truth = ways["ONNX Runtime"](photos[:8])
    cells = {}
    for way, call in ways.items():
        difference = np.abs(call(photos[:8]) - truth).max() / np.abs(truth).max()
        milliseconds = (f"{statistics.median(times[way, batch]):.1f}" for batch in _BATCHES)
        cells[way] = [*milliseconds, f"{difference:.1e}"]
    return cells


def main() -> None:
    """Print a markdown table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", nargs="+", type=Path, help="archives or graphs")
    parser.add_argument("--photos", type=Path, default=PHOTOS)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--count", type=int, default=24, help="photos of a round")
    given = parser.parse_args()
    heads = ["graph", "runtime", *(f"batch {batch}: CPU ms a photo" for batch in _BATCHES)]
    print(f"| {' | '.join([*heads, 'difference'])} |")
    print("|---" * (len(heads) + 1) + "|")
    for file in given.files:
        for title, graph in graphs_of(file):
            cells = measure(graph, given.photos, given.rounds, given.count)
            for way, values in cells.items():
                print(f"| {' | '.join([title, way, *values])} |", flush=True)


if __name__ == "__main__":
    main()
