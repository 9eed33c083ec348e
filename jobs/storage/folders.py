"""The output folder, local or a prefix in an object store, with whole-object writes only.

A reader, or a crash, sees an object completely or not at all. A parquet file that is streamed to
its final place does not have this property: an exception in the middle leaves a shorter file that
opens without complaint.
"""

from __future__ import annotations

import errno
import io
import os
import re
import secrets
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from handler.values.errors import VeaError
from jobs.storage.errors import ObjectUnavailable, StorageError
from jobs.storage.stores import Stores
from jobs.values.locations import ObjectLocation, is_in_store

_SENT_TWICE = 64 * 1024  # bytes
_DAY = 24 * 60 * 60.0
# Names of files before `LocalFolder` moves them into place; parquet readers ignore such names.
_UNFINISHED = re.compile(r"\..+\.\d+-[0-9a-f]{8}")


class FolderError(VeaError):
    """The output folder cannot be used; the message is one line for people."""


class ObjectMissing(FolderError):
    """An object that was there, or should have been, does not exist."""


class UnconditionalWrites(FolderError):
    """A server writes although an object exists, so the guarantees of a run cannot be had."""

    exit_code = 2


class Folder(Protocol):
    """Objects by name. A name with one '/' is that of an object in a subfolder."""

    location: str

    def list(self, prefix: str = "") -> dict[str, int]:
        """Name -> size in bytes of the objects whose names start with ``prefix``.

        Those in subfolders are left out, unless the prefix names the subfolder (``_run/``).
        """

    def read(self, name: str) -> bytes:
        """The content of an object.

        Raises:
            ObjectMissing: The object does not exist.
        """

    def write(self, name: str, data: bytes) -> None:
        """Put an object in place whole, over an older one of this name."""

    def create(self, name: str, data: bytes) -> bool:
        """Put an object in place unless there is one; returns whether it did."""

    def delete(self, names: Iterable[str]) -> None:
        """Remove objects; it is fine if some are not there."""

    def sweep(self, older_than: float = _DAY) -> None:
        """Remove what writers left that were killed at least ``older_than`` seconds ago."""


def open_folder(location: str, stores: Stores, *, create: bool = True) -> Folder:
    """The folder at a local path or at ``s3://bucket/prefix``.

    Args:
        location: Local path, or ``s3://bucket/prefix``.
        stores: Clients of the object stores.
        create: Whether a local folder is made; otherwise one that does not exist is empty.

    Raises:
        FolderError: There cannot be a folder at ``location``.
    """
    if is_in_store(location):
        return StoreFolder(location, stores)
    return LocalFolder(location, create=create)


class LocalFolder:
    """A folder of this machine, or of a file system that it mounts."""

    def __init__(self, location: str, *, create: bool = True) -> None:
        self.location = location
        self._path = Path(location)
        self._created = create
        try:
            if create:
                self._path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise self._error(f"use the folder {self.location}", error) from None

    def list(self, prefix: str = "") -> dict[str, int]:
        """Name -> size in bytes, of files that are written completely."""
        within, slash, _ = prefix.rpartition("/")
        found: dict[str, int] = {}
        try:
            with os.scandir(self._path / within) as entries:
                for entry in entries:
                    name = f"{within}{slash}{entry.name}"
                    if name.startswith(prefix) and not _UNFINISHED.fullmatch(entry.name):
                        with suppress(FileNotFoundError):  # deleted a moment ago
                            if entry.is_file():
                                found[name] = entry.stat().st_size
        except FileNotFoundError:
            if self._path.is_dir() or not self._created:
                return {}  # nothing has been written into the subfolder yet
            raise FolderError(f"the folder {self.location} no longer exists") from None
        except OSError as error:
            raise self._error(f"list {self.location}", error) from None
        return found

    def read(self, name: str) -> bytes:
        """The content of a file."""
        try:
            return (self._path / name).read_bytes()
        except FileNotFoundError:
            raise ObjectMissing(f"there is no {name} in {self.location}") from None
        except OSError as error:
            raise self._error(f"read {name} in {self.location}", error) from None

    def write(self, name: str, data: bytes) -> None:
        """Write a file next to its place, then move it there in one step.

        Both are on the disk when this returns, so a file that is there after a power cut is whole.
        """
        place = self._path / name
        try:
            beside = self._write_beside(place, data)
            try:
                os.replace(beside, place)
            except OSError:
                beside.unlink(missing_ok=True)
                raise
            _flush_folder(place.parent)
        except OSError as error:
            raise self._error(f"write {name} in {self.location}", error) from None

    def create(self, name: str, data: bytes) -> bool:
        """Write a file unless it exists; of several writers exactly one wins."""
        place = self._path / name
        try:
            beside = self._write_beside(place, data)
            try:
                _link(beside, place, data)
            except FileExistsError:
                return False
            finally:
                beside.unlink(missing_ok=True)
            _flush_folder(place.parent)
        except OSError as error:
            raise self._error(f"write {name} in {self.location}", error) from None
        return True

    def delete(self, names: Iterable[str]) -> None:
        """Remove files."""
        for name in names:
            try:
                (self._path / name).unlink(missing_ok=True)
            except OSError as error:
                raise self._error(f"delete {name} in {self.location}", error) from None

    def sweep(self, older_than: float = _DAY) -> None:
        """Remove unfinished files, here and one level down."""
        newest = time.time() - older_than
        for path in [*self._path.glob(".*.*-*"), *self._path.glob("*/.*.*-*")]:
            with suppress(OSError):  # gone meanwhile, or not ours to delete
                if _UNFINISHED.fullmatch(path.name) and path.stat().st_mtime < newest:
                    path.unlink()

    def _write_beside(self, place: Path, data: bytes) -> Path:
        if not place.parent.exists():
            place.parent.mkdir(exist_ok=True)
            _flush_folder(self._path)
        # Processes of different machines may have the same number.
        beside = place.with_name(f".{place.name}.{os.getpid()}-{secrets.token_hex(4)}")
        try:
            with beside.open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        except OSError:
            beside.unlink(missing_ok=True)
            raise
        return beside

    def _error(self, what: str, error: OSError) -> FolderError:
        return FolderError(f"cannot {what}: {error.strerror or error}")


def _link(source: Path, place: Path, data: bytes) -> None:
    """Give a file a second name unless that exists, also on file systems without hard links."""
    try:
        os.link(source, place)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK):
            raise
        with place.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())


def _flush_folder(path: Path) -> None:
    """Flush a folder's entries to the disk, where its file system can."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF):
            raise
    finally:
        os.close(handle)


class StoreFolder:
    """A prefix of a bucket; an object appears when its single put has succeeded."""

    def __init__(self, location: str, stores: Stores) -> None:
        self._stores = stores
        try:
            place = ObjectLocation.parse(location)
        except ValueError as error:
            raise FolderError(str(error)) from None
        prefix = place.key.rstrip("/")
        self._prefix = replace(place, key=f"{prefix}/" if prefix else "")
        self.location = str(self._prefix).rstrip("/")

    def list(self, prefix: str = "") -> dict[str, int]:
        """Name -> size in bytes."""
        found = self._stores.list(self._at(prefix))
        return {f"{prefix}{rest}": size for rest, size in found.items()}

    def read(self, name: str) -> bytes:
        """The content of an object."""
        content = io.BytesIO()
        try:
            self._stores.download(self._at(name), content)
        except StorageError as error:
            if isinstance(error.__cause__, ObjectUnavailable) and error.__cause__.kind == "missing":
                raise ObjectMissing(f"there is no {name} in {self.location}") from None
            raise
        return content.getvalue()

    def write(self, name: str, data: bytes) -> None:
        """Put an object."""
        self._stores.put(self._at(name), data)

    def create(self, name: str, data: bytes) -> bool:
        """Put an object unless it exists.

        Raises:
            UnconditionalWrites: The server ignores the condition.
        """
        if not self._stores.create(self._at(name), data):
            return False
        # The same once more: a server that ignores the condition says again that it has written.
        # What every run creates is small, so a long listing need not be sent twice.
        if len(data) <= _SENT_TWICE and self._stores.create(self._at(name), data):
            raise UnconditionalWrites(
                f"the server of {self.location} does not refuse to create {name} although it "
                "exists, so two runs could write into one folder: choose a store with conditional "
                "writes for --out"
            )
        return True

    def delete(self, names: Iterable[str]) -> None:
        """Delete objects, up to 1,000 with each request."""
        self._stores.delete(self._at(name) for name in names)

    def sweep(self, older_than: float = _DAY) -> None:
        """Nothing to do: a put that did not succeed leaves nothing."""

    def _at(self, name: str) -> ObjectLocation:
        return replace(self._prefix, key=f"{self._prefix.key}{name}")
