"""How busy a GPU is and how much of its memory is taken, as nvidia-smi tells."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
from dataclasses import dataclass
from typing import IO

_PERIOD = 100  # milliseconds between two samples


@dataclass(frozen=True)
class Gpu:
    """A GPU.

    Attributes:
        name: Name of the product.
        uuid: Identifier that nvidia-smi knows.
        memory_mib: Memory in MiB.
    """

    name: str
    uuid: str
    memory_mib: int


def first_gpu() -> Gpu | None:
    """The first GPU that torch can use; None if there is none."""
    import torch  # noqa: PLC0415 - a second, and half a gigabyte

    if not torch.cuda.is_available():
        return None
    found = torch.cuda.get_device_properties(0)
    return Gpu(found.name, f"GPU-{found.uuid}", found.total_memory // 2**20)


class GpuMeter:
    """Samples a GPU during a ``with`` block.

    Args:
        gpu: GPU to watch; None for none, of which nothing is told.

    Attributes:
        busy: Fraction of the time in which the GPU computed anything; None if nobody knows.
        busy_seconds: The same in seconds.
        peak_mib: Largest memory in use, MiB, of all programs together; None if nobody knows.
    """

    def __init__(self, gpu: Gpu | None) -> None:
        self._gpu = gpu
        self._process: subprocess.Popen[bytes] | None = None
        self.busy: float | None = None
        self.busy_seconds: float | None = None
        self.peak_mib: float | None = None

    def __enter__(self) -> GpuMeter:
        program = shutil.which("nvidia-smi")
        self._samples: IO[bytes] = tempfile.TemporaryFile()
        self._began = time.monotonic()
        if self._gpu is not None and program is not None:
            command = [
                *(program, f"--id={self._gpu.uuid}", f"--loop-ms={_PERIOD}"),
                *("--query-gpu=utilization.gpu,memory.used", "--format=csv,noheader,nounits"),
            ]
            self._process = subprocess.Popen(
                command, stdout=self._samples, stderr=subprocess.DEVNULL
            )
        return self

    def __exit__(self, *_: object) -> None:
        seconds = time.monotonic() - self._began
        if self._process is not None:
            self._process.terminate()
            self._process.wait()
        self._samples.seek(0)
        lines = self._samples.read().decode(errors="replace").splitlines()
        self._samples.close()
        known = [line.split(",") for line in lines if line.count(",") == 1]
        busy = [float(a) for a, _ in known if a.strip().isdecimal()]
        memory = [float(b) for _, b in known if b.strip().isdecimal()]
        if busy:
            self.busy = sum(busy) / len(busy) / 100.0
            self.busy_seconds = self.busy * seconds
        self.peak_mib = max(memory, default=None)
