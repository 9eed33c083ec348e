"""Paths that commands are given: local ones, and for results such that can be written.

An address such as ``s3://bucket/results``, read as a path, would become a local folder of that
name. So every option that takes a path refuses addresses before its command begins; options that
take addresses too have text for a value.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from typer.core import TyperGroup

from handler.atomic_files import probe_folder
from handler.values.errors import LocationError, VeaError

# Also with one slash: so much is left of an address that was read as a path.
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/")


class LocalPathsGroup(TyperGroup):
    """A group of commands whose path parameters refuse addresses, in its sub-groups too."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        _refuse_addresses(self)


def refuse_address(path: str | os.PathLike[str], parameter: str) -> None:
    """Refuse an address where only a local path will do.

    Args:
        path: Path as given on the command line.
        parameter: Name of the option or argument.

    Raises:
        LocationError: The path has a scheme, such as ``s3://``.
    """
    if scheme := _SCHEME.match(os.fspath(path)):
        raise LocationError(
            f"{parameter} is '{os.fspath(path)}': expected a path of this machine, not a "
            f"{scheme[1]}:// address"
        )


def check_output_file(file: Path) -> None:
    """Check that a file can be written, before hours are spent on what is to be in it.

    Raises:
        VeaError: The folder does not exist or cannot be written, or the path is a folder.
    """
    if not file.absolute().parent.is_dir():
        raise VeaError(f"cannot write {file}: there is no folder {file.parent}")
    if file.is_dir():
        raise VeaError(f"cannot write {file}: it is a folder")
    try:
        if file.exists():
            file.open("ab").close()
        else:
            probe_folder(file.absolute().parent)
    except OSError as error:
        raise VeaError(f"cannot write {file}: {error.strerror}") from None


def check_output_folder(folder: Path) -> None:
    """Check that files can be written to a folder, which need not exist; nothing is left in it.

    Raises:
        VeaError: The folder can be neither written nor created.
    """
    try:
        probe_folder(folder)
    except OSError as error:
        raise VeaError(f"cannot write to the folder {folder}: {error.strerror}") from None


def _refuse_addresses(group: Any) -> None:
    for command in group.commands.values():
        if hasattr(command, "commands"):
            _refuse_addresses(command)
        else:
            _guard(command)


def _guard(command: Any) -> None:
    """Look at the paths that a command was given before it runs."""
    invoke = command.invoke

    def invoke_locally(context: Any) -> Any:
        for parameter in command.params:
            value = context.params.get(parameter.name)
            option = next((o for o in parameter.opts if o.startswith("--")), parameter.name)
            for path in value if isinstance(value, list | tuple) else [value]:
                if isinstance(path, Path):
                    refuse_address(path, option)
        return invoke(context)

    command.invoke = invoke_locally
