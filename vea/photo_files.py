"""Photos that a user names: files, and what lies in folders; and names for what is made of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from handler.photo_folders import describe, photos_below
from handler.values.errors import VeaError
from vea.terminal import complain


def find_photos(images: list[Path]) -> list[Path]:
    """Photos and what lies in folders of photos; a line says what is left out of each folder.

    Raises:
        VeaError: There is no such photo, or no photo in a folder.
    """
    files: list[Path] = []
    for path in images:
        if path.is_dir():
            files.extend(photos_in(path))
        elif path.is_file():
            files.append(path)
        else:
            raise VeaError(f"there is no photo at {path}")
    return files


def photos_in(folder: Path) -> list[Path]:
    """Photos anywhere below a folder; a line on standard error says what is left out.

    Raises:
        VeaError: There are none, or the folder cannot be listed.
    """
    left_out = Counter[str]()
    try:
        inside = [Path(path) for path in photos_below(str(folder), left_out)]
    except OSError as error:
        raise VeaError(f"the folder {error.filename} cannot be listed: {error.strerror}") from None
    if not inside:
        what = f": {describe(left_out)}" if left_out else ""
        raise VeaError(f"the folder {folder} holds no photos{what}")
    if left_out:
        complain(f"{folder}: {describe(left_out)}")
    return inside


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
