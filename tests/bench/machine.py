"""The machine of a benchmark, in words that say what its figures can be compared with."""

from __future__ import annotations

import os
import platform
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

_LIBRARIES = ("torch", "onnxruntime", "dlib-bin", "pillow", "pyarrow", "ray", "torchserve")


def describe_machine() -> dict[str, Any]:
    """Date, processor, cores, instructions, and versions of Python and of the libraries."""
    versions = {}
    for library in _LIBRARIES:
        try:
            versions[library] = version(library)
        except ImportError:
            continue
    return {
        "date": time.strftime("%Y-%m-%d"),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "instructions": _instructions(),
        "python": platform.python_version(),
        "versions": versions,
    }


def _cpuinfo(key: str) -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(key)), "")


def _processor() -> str:
    return _cpuinfo("model name") or platform.processor() or platform.machine()


def _instructions() -> list[str]:
    """Those extensions that decide how fast a network is."""
    flags = _cpuinfo("flags").split()
    wanted = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_int8")
    return [name for name in wanted if name in flags]
