"""Runs `vea` in this process, where the process itself is not what a test is about.

A process of its own would first import torch, which takes seconds.
"""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from vea.main import main


@dataclass(frozen=True)
class Ended:
    """What a command came to, under the names of `subprocess.CompletedProcess`."""

    returncode: int
    stdout: str
    stderr: str


def vea(*arguments: object, cwd: Path | None = None, env: Mapping[str, str] | None = None) -> Ended:
    """Run a command from its words to its exit code.

    Args:
        arguments: Words after ``vea``.
        cwd: Folder to run it in; this process's own by default.
        env: Environment variables to set for the length of the command.
    """
    out, err = (io.TextIOWrapper(io.BytesIO(), write_through=True) for _ in range(2))
    code = 0
    with (
        pytest.MonkeyPatch.context() as patch,
        contextlib.chdir(cwd or Path.cwd()),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        patch.setattr(sys, "argv", ["vea", *map(str, arguments)])
        for name, value in (env or {}).items():
            patch.setenv(name, value)
        try:
            main()
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    return Ended(code, *(stream.buffer.getvalue().decode() for stream in (out, err)))
