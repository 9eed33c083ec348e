"""Freed memory: what loading leaves goes back, and what layers leave is kept for the next ones."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys
from handler.allocator import keep_freed_memory

set_now = len(sys.argv) > 1 and keep_freed_memory()
layer = bytearray(b"x") * 40_000_000
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    del layer
    layer = bytearray(b"x") * 40_000_000
print(set_now, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def run(*arguments: str, **environment: str) -> tuple[bool, int]:
    """Whether the allocator was set, and page faults of twenty blocks of a layer's size."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("MALLOC_", "GLIBC_"))}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments],
        env={**clean, **environment},
        check=True,
        capture_output=True,
        text=True,
    )
    told, faults = done.stdout.split()
    return told == "True", int(faults)


@pytest.mark.integration
def test_a_block_of_a_layers_size_is_reused_rather_than_asked_for_anew() -> None:
    kept, few = run("keep")
    if not kept:
        pytest.skip("this C library is not glibc")
    _, many = run()
    assert few < many / 10


@pytest.mark.integration
def test_what_loading_leaves_between_what_stays_is_returned_to_the_system() -> None:
    program = """
import resource
from handler.allocator import return_freed_memory

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()

blocks = [bytearray(b"x") * 100_000 for _ in range(1000)]
stays = blocks[::2]
del blocks
before = resident()
return_freed_memory()
print(before - resident())
"""
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )
    if platform.libc_ver()[0] != "glibc":
        pytest.skip("this C library is not glibc")
    assert int(done.stdout) > 25_000_000  # of the 50 MB between the blocks that stay


@pytest.mark.integration
def test_what_the_environment_says_about_the_allocator_counts() -> None:
    assert run("keep", MALLOC_TRIM_THRESHOLD_="1000000")[0] is False
