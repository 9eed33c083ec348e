"""What a GPU makes of `vea score` and of TorchServe: photos a second, and how busy the GPU is.

    python -m tests.bench.gpu --photos FOLDER
    python -m tests.bench.gpu --models BEFORE.mar AFTER.mar     # in turns, within one run
    python -m tests.bench.gpu --device cpu --quick              # whether the program runs

One GPU is used, the first. `vea score` runs on a short list and on a long one, and the difference
is what the photos take; TorchServe is started as `vea serve` does it and asked by many clients. A
GPU is busy, by nvidia-smi's count, while at least one kernel runs on it. Other programs on the GPU
are counted, too. Without a GPU nothing is measured.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from handler.archive.files import read_card
from handler.values.runtimes import AUTO, choose_runtime
from model_store import shipped_archive
from tests.bench.gpu_meter import Gpu, GpuMeter, first_gpu
from tests.bench.machine import describe_machine
from tests.bench.meter import Clock, cpu_seconds, measured
from tests.bench.photos import BUNDLED, photos_of
from vea.serving.capacity import Capacity
from vea.serving.server import TorchServe

NO_GPU = (
    "there is no GPU that torch can use on this machine, so nothing was measured; "
    "--device cpu shows whether the program runs"
)
SCORE, TORCHSERVE = "vea score", "TorchServe"
_CLIENTS = 64
_VISIBLE = "CUDA_VISIBLE_DEVICES"


@dataclass
class Throughput:
    """The repetitions of one way with one model.

    Attributes:
        way: Name of the way.
        model: Name and version of the model.
        runtime: Runtime of its backbones.
        workers: Number of worker processes.
        photos: Number of photos of each repetition, without those of the start.
        seconds: Wall-clock seconds of each repetition.
        busy_seconds: Seconds of each repetition in which the GPU was busy, where that is known.
        cpu: CPU seconds of each repetition, of all processes but the clients.
        peak_mib: Largest memory of the GPU in use, MiB, where that is known.
    """

    way: str
    model: str
    runtime: str
    workers: int
    photos: int
    seconds: list[float] = field(default_factory=list)
    busy_seconds: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    peak_mib: float | None = None

    @property
    def per_second(self) -> float:
        """Photos a second, the median of the repetitions."""
        return self.photos / statistics.median(self.seconds)

    @property
    def busy(self) -> float | None:
        """Fraction of the time in which the GPU was busy, the median of the repetitions."""
        if not self.busy_seconds:
            return None
        pairs = zip(self.busy_seconds, self.seconds, strict=True)
        return statistics.median(busy / seconds for busy, seconds in pairs)

    @property
    def cpu_ms(self) -> float:
        """CPU milliseconds a photo, the median of the repetitions."""
        return statistics.median(self.cpu) / self.photos * 1e3

    def add(self, seconds: float, cpu: float, busy: float | None, peak: float | None) -> None:
        """Add a repetition."""
        self.seconds.append(seconds)
        self.cpu.append(cpu)
        if busy is not None:
            self.busy_seconds.append(busy)
        self.peak_mib = max(self.peak_mib or 0.0, peak or 0.0) or None

    def to_dict(self) -> dict[str, Any]:
        """Every repetition and the medians, as plain values."""
        medians = {"per_second": self.per_second, "busy": self.busy, "cpu_ms": self.cpu_ms}
        return {**asdict(self), **medians}


def score_once(
    found: Throughput, model: Path, lists: Sequence[Path], device: str, gpu: Gpu | None
) -> None:
    """Add a repetition of `vea score`: a long list less a short one."""
    walls, cpus, busy, peak = [], [], [], None
    for one in lists:
        with tempfile.TemporaryDirectory(prefix="vea-bench-") as out, GpuMeter(gpu) as meter:
            command = [
                *(sys.executable, "-m", "vea", "score", str(one), "--out", out),
                *("--model", str(model), "--device", device, "--workers", str(found.workers)),
            ]
            usage = measured(command)
        walls.append(usage.wall)
        cpus.append(usage.cpu)
        busy.append(meter.busy_seconds)
        peak = meter.peak_mib
    few, many = busy
    more = None if few is None or many is None else max(many - few, 0.0)
    # So few photos that the start decides have no speed: a tiny time stands for none.
    found.add(max(walls[1] - walls[0], 1e-3), max(cpus[1] - cpus[0], 0.0), more, peak)


def serve_once(
    found: Throughput, server: TorchServe, photos: Sequence[bytes], gpu: Gpu | None
) -> None:
    """Add a repetition of TorchServe, which must be warm."""
    before = cpu_seconds(server.processes())
    with (
        server.client.patient(concurrency=_CLIENTS) as client,
        GpuMeter(gpu) as meter,
        Clock() as clock,
    ):
        for answer in client.predict_many(photos):
            if isinstance(answer, Exception):
                raise SystemExit(f"the service refuses a photo: {answer}")
    cpu = cpu_seconds(server.processes()) - before
    found.add(clock.wall, cpu, meter.busy_seconds, meter.peak_mib)


def measure(
    models: Sequence[Path], photos: Sequence[bytes], given: argparse.Namespace, gpu: Gpu | None
) -> list[Throughput]:
    """Both ways with every model, in turns.

    Args:
        models: Archives.
        photos: Encoded photos of the long list, and of a repetition of TorchServe.
        given: Options of the command.
        gpu: GPU to watch; None for none.
    """
    found = {}
    for model in models:
        config = read_card(model)[0]
        runtime = choose_runtime(AUTO, compiled=config.compiled, device=given.device)
        for way in (SCORE, TORCHSERVE):
            title = f"{config.name} {config.version}"
            found[model, way] = Throughput(way, title, runtime, given.workers, len(photos))
            if way == SCORE:
                found[model, way].photos -= given.short
    with tempfile.TemporaryDirectory(prefix="vea-bench-") as folder:
        lists = _write_lists(Path(folder), photos, given.short)
        for number in range(given.repeat):
            for model in models:
                score_once(found[model, SCORE], model, lists, given.device, gpu)
                state = Path(folder, f"state-{number}-{models.index(model)}")
                with TorchServe.running(model, state, workers=given.workers) as server:
                    warm = Throughput("", "", "", 0, given.short)
                    serve_once(warm, server, photos[: given.short], None)
                    serve_once(found[model, TORCHSERVE], server, photos, gpu)
    return list(found.values())


def _write_lists(folder: Path, photos: Sequence[bytes], short: int) -> tuple[Path, Path]:
    """Photos as files, each under a name of its own, and the short and the long list of them."""
    names = [f"{number:06d}.jpg" for number in range(len(photos))]
    for name, photo in zip(names, photos, strict=True):
        (folder / name).write_bytes(photo)
    few, many = folder / "short.txt", folder / "long.txt"
    few.write_text("".join(f"{name}\n" for name in names[:short]))
    many.write_text("".join(f"{name}\n" for name in names))
    return few, many


def show(found: Sequence[Throughput], console: Console) -> None:
    """Print the table."""
    table = Table(title="Photos a second, and how busy the GPU is", title_justify="left")
    for head in ("", "model", "runtime"):
        table.add_column(head, no_wrap=True)
    for head in ("workers", "photos/s", "GPU busy", "GPU MiB", "CPU ms/photo"):
        table.add_column(head, justify="right")
    for one in found:
        busy = "unknown" if one.busy is None else f"{one.busy:.0%}"
        peak = "unknown" if one.peak_mib is None else f"{one.peak_mib:.0f}"
        table.add_row(
            *(one.way, one.model, one.runtime, str(one.workers)),
            *(f"{one.per_second:.1f}", busy, peak, f"{one.cpu_ms:.1f}"),
        )
    console.print(table)


def main(arguments: Sequence[str] | None = None) -> list[Throughput]:
    """Read the options, measure, print a table, write the JSON document."""
    given = _options().parse_args(arguments)
    if given.quick:
        given.count, given.short, given.repeat = 8, 2, 1
    gpu = None
    if given.device != "cpu":
        # The measured programs inherit it. TorchServe counts the entries, which must be numbers.
        os.environ["CUDA_VISIBLE_DEVICES"] = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[
            0
        ]
        gpu = first_gpu()
        if gpu is None:
            raise SystemExit(NO_GPU)
    given.workers = given.workers or Capacity.of_this_machine().workers()
    found = measure(given.models, photos_of(given.photos, given.count), given, gpu)
    console = Console()
    show(found, console)
    about = {**describe_machine(), "gpu": None if gpu is None else asdict(gpu)}
    document = {"about": about, "measurements": [one.to_dict() for one in found]}
    given.output.write_text(json.dumps(document, indent=1) + "\n")
    console.print(f"written to {given.output}")
    return found


def _options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.gpu",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--models", nargs="+", type=Path, default=[shipped_archive()])
    parser.add_argument("--photos", type=Path, default=BUNDLED, help="folder of photos")
    parser.add_argument("--count", type=int, default=4096, help="photos of the long list")
    parser.add_argument("--short", type=int, default=256, help="photos of the short list")
    parser.add_argument("--repeat", type=int, default=3, help="repetitions")
    parser.add_argument("--workers", type=int, help="worker processes; what suits the machine")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--quick", action="store_true", help="few photos, once each")
    parser.add_argument("--output", type=Path, default=Path("gpu.json"))
    return parser


if __name__ == "__main__":
    main()
