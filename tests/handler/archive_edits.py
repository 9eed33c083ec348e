"""Archives that are changed, packed and refused."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from handler.archive.files import (
    CONFIG,
    seal,
)
from handler.archive.loading import load_archive
from handler.values.errors import ArchiveError


def pack(folder: Path, target: Path, compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(target, "w", compression) as packed:
        for file in sorted(folder.iterdir()):
            packed.write(file, file.name)
    return target


def refused(path: Path) -> str:
    with pytest.raises(ArchiveError) as caught:
        load_archive(path)
    message = str(caught.value)
    assert message
    assert "\n" not in message
    return message


def edit_config(folder: Path, edit: Callable[[dict], None]) -> None:
    """Change ``config.json`` as somebody would who knows how to seal a folder."""
    values = json.loads((folder / CONFIG).read_text())
    edit(values)
    (folder / CONFIG).write_text(json.dumps(values))
    seal(folder)
