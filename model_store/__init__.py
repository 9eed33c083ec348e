"""The archives that come with the program."""

from __future__ import annotations

from pathlib import Path


def shipped_archive() -> Path:
    """The newest archive that comes with the program.

    Raises:
        FileNotFoundError: The program was installed without its archives.
    """
    folder = Path(__file__).resolve().parent
    archives = sorted(folder.glob("*.mar"), key=lambda path: (path.stat().st_mtime, path.name))
    if not archives:
        raise FileNotFoundError(f"no .mar in {folder}: the program was installed without its model")
    return archives[-1]
