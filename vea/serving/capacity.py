"""How many workers a machine carries, and with how many threads each.

Workers times threads should be the number of cores: more of them fight for the cores, fewer leave
some idle. Small workers with one thread each beat a large one, as long as the memory holds them.
Several workers share a GPU: each decodes pictures and searches for faces on its cores meanwhile,
and one alone leaves the GPU idle for most of the time (measured in
docs/research/serving-measurements.md). In a container the limits of its control group count, not
the host's processors and memory.
"""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import psutil

WORKER_BYTES = 1_500_000_000  # of memory: torch, a model, and one batch of the largest photos
_CORES_FOR_GPU = 4  # of a worker that computes on a GPU
_WORKERS_PER_GPU = 4  # at most: each holds the model in the GPU's memory, and torch
_SHARE = 0.75  # of the memory is for workers; the rest for the front end and the system
_CGROUP = Path("/sys/fs/cgroup")
# Of the drivers that torch can use: Nvidia's, that of Windows' Linux subsystem, AMD's.
_GPU_DEVICES = (Path("/dev/nvidiactl"), Path("/dev/dxg"), Path("/dev/kfd"))


@dataclass(frozen=True)
class Capacity:
    """What there is for a server.

    Attributes:
        cores: Number of usable processor cores.
        memory: Usable memory in bytes.
        gpus: Number of GPUs that torch can use.
    """

    cores: int
    memory: int
    gpus: int = 0

    @classmethod
    def of_this_machine(cls, cgroup: Path = _CGROUP) -> Capacity:
        """What this process may use; ``cgroup`` is where its control group's limits are."""
        allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 0
        cores = allowed or os.cpu_count() or 1
        quota = _words(cgroup / "cpu.max")
        if len(quota) == 2 and quota[0].isdecimal():
            cores = min(cores, max(1, int(quota[0]) // int(quota[1])))
        memory = psutil.virtual_memory().total
        limit = _words(cgroup / "memory.max")
        if limit and limit[0].isdecimal():
            memory = min(memory, int(limit[0]))
        return cls(cores, memory, _gpus())

    def workers(self) -> int:
        """How many workers suit: one for each core that has the memory; fewer that share GPUs.

        TorchServe deals workers out to the GPUs in turn, so each GPU gets as many.
        """
        most = min(self.cores, int(self.memory * _SHARE) // WORKER_BYTES)
        if self.gpus:
            fed = min(self.cores // _CORES_FOR_GPU, most) // self.gpus
            return self.gpus * max(1, min(fed, _WORKERS_PER_GPU))
        return max(1, most)

    def threads(self, workers: int) -> int:
        """Threads of each of so many workers."""
        return max(1, self.cores // workers)

    def heap(self) -> int:
        """Megabytes of TorchServe's front end, which ends when they are used up.

        A full queue of the largest bodies, 100 of 29 MB, is as much as it can be made to hold.
        """
        return max(512, min(4096, self.memory // 8_000_000))


def _gpus() -> int:
    """Number of GPUs that torch can use, counted in another process.

    The gateway and the command that watches the server run for months without any other use of
    torch, which takes half a gigabyte.
    """
    if not any(device.exists() for device in _GPU_DEVICES):
        return 0
    count = "import torch; print(torch.cuda.device_count())"
    done = subprocess.run(
        [sys.executable, "-P", "-c", count], capture_output=True, text=True, check=False
    )
    return int(done.stdout) if done.returncode == 0 else 0


def _words(file: Path) -> list[str]:
    try:
        return file.read_text().split()
    except OSError:
        return []
