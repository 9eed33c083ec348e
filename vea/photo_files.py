"""Photos that a user names: files, and what lies in folders; and names for what is made of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from handler.values.errors import VeaError
from handler.values.limits import SUFFIXES


def find_photos(images: list[Path]) -> list[Path]:
    """Photos and what lies in folders of photos.

    Raises:
        VeaError: there is no such photo, or no photo in a folder.
    """
    files: list[Path] = []
    for path in images:
        if path.is_dir():
            inside = sorted(
                p for p in path.iterdir() if p.suffix.lower() in SUFFIXES and p.is_file()
            )
            if not inside:
                raise VeaError(f"the folder {path} holds no photos")
            files.extend(inside)
        elif path.is_file():
            files.append(path)
        else:
            raise VeaError(f"there is no photo at {path}")
    return files


def output_names(files: Sequence[Path], *, endings: bool = False) -> list[str]:
    """What the outputs of each file are called: no two alike, on any file system.

    The file's name without its ending; with it, where another file has the same name without or
    ``endings`` asks for it; and with a number, where that is taken, too.
    """
    stems = Counter(file.stem.casefold() for file in files)
    taken: set[str] = set()
    names = []
    for file in files:
        short = not endings and stems[file.stem.casefold()] == 1
        wished = file.stem if short else file.name
        name, number = wished, 1
        while name.casefold() in taken:
            number += 1
            name = f"{wished}-{number}"
        taken.add(name.casefold())
        names.append(name)
    return names
