"""The C library's allocator, set for networks that compute on a CPU.

A layer's output is up to 50 MB at the usual batch sizes. By default glibc returns blocks of this
size to the system as soon as they are freed, and the kernel clears every page of the next one: a
fifth of the CPU time of a photo. Kept for the next layer instead, they cost nothing.

What loading leaves behind is another matter: holes of all sizes between what stays, up to 220 MB,
which the layers' outputs do not fit into.
"""

from __future__ import annotations

import ctypes
import os

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h
_LARGEST = 64 * 1024 * 1024  # bytes; larger blocks, such as whole photos, are still returned
_KEPT = 128 * 1024 * 1024  # bytes of free memory that stay with the process
_SETTINGS = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")


def return_freed_memory() -> None:
    """Return this process's freed memory to the system; nothing with C libraries but glibc."""
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):
        return
    trim(0)


def keep_freed_memory() -> bool:
    """Let this process keep up to 128 MiB of freed memory for reuse.

    Returns:
        Whether the allocator was set: False where the environment sets it already, and with C
        libraries other than glibc.
    """
    if any(name in os.environ for name in _SETTINGS):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    return bool(mallopt(_M_MMAP_THRESHOLD, _LARGEST) and mallopt(_M_TRIM_THRESHOLD, _KEPT))
