"""Where parts go: a local folder or a prefix on S3, with whole-object writes only.

A reader, or a crash, sees an object completely or not at all. A parquet file that is streamed to
its final place does not have this property: an exception in the middle leaves a shorter file that
opens without complaint.
"""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Protocol

from handler.errors import VeaError
from jobs.s3 import S3, S3Location, is_s3


class FolderError(VeaError):
    """The output folder cannot be used; the message is one line for people."""


class Folder(Protocol):
    """Objects by name, without subfolders."""

    location: str

    def list(self) -> dict[str, int]:
        """Name -> size in bytes."""

    def read(self, name: str) -> bytes:
        """The content of an object that `list` named."""

    def write(self, name: str, data: bytes) -> None:
        """Put an object in place whole, over an older one of this name."""

    def create(self, name: str, data: bytes) -> bool:
        """Put an object in place unless there is one; returns whether it did."""


def open_folder(location: str, s3: S3) -> Folder:
    """The folder at a local path or at ``s3://bucket/prefix``; local ones are made.

    Raises:
        FolderError: there cannot be a folder at ``location``.
    """
    return S3Folder(location, s3) if is_s3(location) else LocalFolder(location)


class LocalFolder:
    """A folder of this machine, or of a file system that it mounts."""

    def __init__(self, location: str) -> None:
        self.location = location
        self._path = Path(location)
        try:
            self._path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise self._error("be made a folder", error) from None

    def list(self) -> dict[str, int]:
        """Name -> size in bytes."""
        try:
            return {p.name: p.stat().st_size for p in self._path.iterdir() if p.is_file()}
        except OSError as error:
            raise self._error("be listed", error) from None

    def read(self, name: str) -> bytes:
        """The content of a file."""
        try:
            return (self._path / name).read_bytes()
        except OSError as error:
            raise self._error(f"give {name}", error) from None

    def write(self, name: str, data: bytes) -> None:
        """Write a file next to its place, then move it there in one step."""
        # Parquet readers pass over names that start with a dot.
        beside = self._path / f".{name}.{os.getpid()}"
        try:
            beside.write_bytes(data)
            os.replace(beside, self._path / name)
        except OSError as error:
            beside.unlink(missing_ok=True)
            raise self._error(f"take {name}", error) from None

    def create(self, name: str, data: bytes) -> bool:
        """Write a small file unless it exists."""
        try:
            with (self._path / name).open("xb") as file:
                file.write(data)
        except FileExistsError:
            return False
        except OSError as error:
            raise self._error(f"take {name}", error) from None
        return True

    def _error(self, what: str, error: OSError) -> FolderError:
        return FolderError(f"{self.location} cannot {what}: {error.strerror or error}")


class S3Folder:
    """A prefix of a bucket; an object appears when its one put has succeeded."""

    def __init__(self, location: str, s3: S3) -> None:
        self._s3 = s3
        try:
            place = S3Location.parse(location)
        except ValueError as error:
            raise FolderError(str(error)) from None
        prefix = place.key.rstrip("/")
        self._prefix = S3Location(place.bucket, f"{prefix}/" if prefix else "")
        self.location = str(self._prefix).rstrip("/")

    def list(self) -> dict[str, int]:
        """Name -> size in bytes."""
        return self._s3.list(self._prefix)

    def read(self, name: str) -> bytes:
        """The content of an object."""
        content = io.BytesIO()
        self._s3.download(self._at(name), content)
        return content.getvalue()

    def write(self, name: str, data: bytes) -> None:
        """Put an object."""
        self._s3.put(self._at(name), data)

    def create(self, name: str, data: bytes) -> bool:
        """Put an object unless it exists."""
        return self._s3.create(self._at(name), data)

    def _at(self, name: str) -> S3Location:
        return S3Location(self._prefix.bucket, f"{self._prefix.key}{name}")
