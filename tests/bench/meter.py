"""CPU seconds and memory of a program with all its child processes.

CPU time is what the kernel charged the program and the children that it waited for, or the sum of
what was seen of each process, whichever is more: daemons such as Ray's are never waited for.
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import shlex
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

import psutil

_TIMEOUT = 1800.0  # seconds
_POLL = 0.1  # seconds between two looks at the processes
_MIB = 1024 * 1024

Result = TypeVar("Result")


class ProgramFailed(Exception):
    """A measured program ended with an error; the message holds the end of its output."""


@dataclass(frozen=True)
class Usage:
    """What a program needed from its start to its end.

    Attributes:
        cpu: CPU seconds, user and system, child processes included.
        wall: Wall-clock seconds.
        peak_mib: Largest resident memory of a single process, MiB.
        total_mib: Largest memory of all processes together, shared pages counted once, MiB.
        output: Standard output.
    """

    cpu: float
    wall: float
    peak_mib: float
    total_mib: float
    output: str = ""


def measured(
    command: Sequence[str],
    environment: Mapping[str, str] | None = None,
    *,
    timeout: float = _TIMEOUT,
) -> Usage:
    """Run a program to its end.

    Args:
        command: Program and its arguments.
        environment: Variables that are set in addition to those of this process.
        timeout: Seconds after which the program is killed with its child processes.

    Raises:
        ProgramFailed: The program ended with a code other than 0, or did not end in time.
    """
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        began = time.monotonic()
        process = subprocess.Popen(
            command, env={**os.environ, **(environment or {})}, stdout=output, stderr=errors
        )
        watch = _Watch(process.pid)
        try:
            status, usage = _wait(process.pid, watch, began + timeout)
        except TimeoutError:
            watch.kill()
            raise ProgramFailed(f"{shlex.join(command)} did not end in {timeout:g} s") from None
        except BaseException:  # Ctrl-C too: no program may stay behind
            watch.kill()
            raise
        wall = time.monotonic() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        errors.seek(0)
        if process.returncode:
            said = errors.read().decode(errors="replace")[-2000:]
            raise ProgramFailed(f"{shlex.join(command)} ended with {process.returncode}:\n{said}")
        cpu = max(usage.ru_utime + usage.ru_stime, sum(watch.cpu.values()))
        text = output.read().decode(errors="replace")
        return Usage(cpu, wall, watch.peak, watch.total, text)


def _wait(pid: int, watch: _Watch, end: float) -> tuple[int, resource.struct_rusage]:
    """Exit status and usage of a process; raises TimeoutError at ``end`` (monotonic clock)."""
    while time.monotonic() < end:
        ended, status, usage = os.wait4(pid, os.WNOHANG)
        if ended:
            return status, usage
        watch.look()
        time.sleep(_POLL)
    raise TimeoutError


class _Watch:
    """What was seen of a process and its descendants."""

    def __init__(self, pid: int) -> None:
        self._root = pid
        self.cpu: dict[int, float] = {}
        self.peak = 0.0
        self.total = 0.0

    def look(self) -> None:
        """Look at each process once."""
        with suppress(psutil.Error):
            root = psutil.Process(self._root)
            family = [root, *root.children(recursive=True)]
            self.total = max(self.total, sum(self._see(one) for one in family))

    def kill(self) -> None:
        """Kill the process and its descendants, and wait for the process."""
        with suppress(psutil.Error):
            root = psutil.Process(self._root)
            for one in [*root.children(recursive=True), root]:
                with suppress(psutil.Error):
                    one.kill()
            os.waitpid(self._root, 0)

    def _see(self, process: psutil.Process) -> float:
        """MiB of a process now."""
        with suppress(psutil.Error, OSError):
            times = process.cpu_times()
            self.cpu[process.pid] = times.user + times.system
            self.peak = max(self.peak, peak_mib(process.pid))
            return process.memory_full_info().pss / _MIB
        return 0.0


def peak_mib(pid: int | str = "self") -> float:
    """Largest resident memory that a process ever had, in MiB; 0 if it has ended."""
    with suppress(OSError), open(f"/proc/{pid}/status") as status:
        for line in status:
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    return 0.0


def cpu_seconds(processes: Sequence[psutil.Process]) -> float:
    """CPU seconds that processes have had, children that ended not included."""
    total = 0.0
    for process in processes:
        with suppress(psutil.Error):
            times = process.cpu_times()
            total += times.user + times.system
    return total


def together(count: int, function: Callable[..., Result], *arguments: Any) -> list[Result]:
    """Call a function in so many fresh processes at the same time."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(count, mp_context=context) as pool:
        return [one.result() for one in [pool.submit(function, *arguments) for _ in range(count)]]


def alone(function: Callable[..., Result], *arguments: Any) -> Result:
    """Call a function in a fresh process, whose threads and memory are its own."""
    return together(1, function, *arguments)[0]


class Clock:
    """CPU and wall-clock seconds of a ``with`` block in this process, all threads included."""

    def __enter__(self) -> Clock:
        self._cpu, self._wall = time.process_time(), time.perf_counter()
        return self

    def __exit__(self, *_: object) -> None:
        self.cpu = time.process_time() - self._cpu
        self.wall = time.perf_counter() - self._wall
