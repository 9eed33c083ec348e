"""The list of images that a job scores, read in constant memory.

A list is a text file (one image a line; blank lines and lines that start with ``# `` are skipped)
or a CSV file with a header, plain or gzipped, in a local file or on S3. It is copied once into a
temporary file while its SHA-256 is taken, so what is scored is what was hashed, even if somebody
replaces the list meanwhile. Images are ``s3://bucket/key`` or paths, relative ones to the folder
that the list is in. An image that is listed twice is scored twice.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from handler.errors import VeaError
from jobs.s3 import S3, S3Location, is_s3

_BLOCK = 1024 * 1024
# Lists up to here stay in memory; longer ones go to the disk.
_IN_MEMORY = 16 * 1024 * 1024
_GZIP = b"\x1f\x8b"


class ManifestError(VeaError):
    """The list of images cannot be read; the message is one line for people."""


@dataclass(frozen=True)
class ImageList:
    """A list that has been read through once.

    Attributes:
        location: as the user gave it.
        sha256: of the file's bytes, hex.
        folder: where relative images are looked for: a local path, or ``s3://bucket/prefix``.
        column: of the images in a CSV file; None for a text file.
        rows: how many images it lists.
        has_relative: whether any of them is relative to ``folder``.
    """

    location: str
    sha256: str
    folder: str
    column: str | None
    rows: int
    has_relative: bool
    _file: IO[bytes] = field(repr=False, compare=False)

    def __iter__(self) -> Iterator[str]:
        """The images as the list spells them, in its order; one iteration at a time."""
        return _images(self._file, self.location, self.column)


@contextmanager
def open_list(location: str, *, column: str = "image", s3: S3 | None = None) -> Iterator[ImageList]:
    """Open a list of images; the copy of it lives as long as the context.

    Args:
        location: a path or ``s3://bucket/key`` whose name ends in .txt or .csv, with or without
            .gz after it.
        column: of the images, for a CSV file.
        s3: used if the list lies there; made if not given.

    Raises:
        ManifestError: there is no such list, or it is not what its name says.
        S3Error: S3 does not give it.
    """
    suffix = _suffix(location)
    with tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY) as copy:
        if is_s3(location):
            (s3 or S3(threads=1)).download(_parse(location), copy)
            folder = location.rpartition("/")[0]
        else:
            _copy_local(Path(location), copy)
            folder = str(Path(location).resolve().parent)
        found = ImageList(
            location=location,
            sha256=_digest(copy),
            folder=folder,
            column=column if suffix == ".csv" else None,
            rows=0,
            has_relative=False,
            _file=copy,
        )
        rows, relative = 0, False
        # Reading to the end first gives the progress bar its length, and tells of a broken line
        # before hours of work rather than after them.
        for image in found:
            rows += 1
            relative = relative or resolve(image, "") != image
        yield ImageList(
            location=location,
            sha256=found.sha256,
            folder=folder,
            column=found.column,
            rows=rows,
            has_relative=relative,
            _file=copy,
        )


def resolve(image: str, folder: str) -> str:
    """Where an image lies: ``image`` itself, or under ``folder`` if it is a relative path."""
    if not image or "://" in image or Path(image).is_absolute():
        return image
    return f"{folder}/{image}"


def _suffix(location: str) -> str:
    name = location.rpartition("/")[2].lower().removesuffix(".gz")
    suffix = Path(name).suffix
    if suffix not in (".txt", ".csv"):
        raise ManifestError(
            f"'{location}' is not a list of images: expected a name that ends in .txt, .csv, "
            ".txt.gz or .csv.gz"
        )
    return suffix


def _parse(location: str) -> S3Location:
    try:
        return S3Location.parse(location)
    except ValueError as error:
        raise ManifestError(str(error)) from None


def _copy_local(path: Path, copy: IO[bytes]) -> None:
    try:
        with path.open("rb") as source:
            while block := source.read(_BLOCK):
                copy.write(block)
    except FileNotFoundError:
        raise ManifestError(f"there is no list of images at {path}") from None
    except OSError as error:
        raise ManifestError(f"the list of images {path} cannot be read: {error.strerror}") from None


def _digest(file: IO[bytes]) -> str:
    file.seek(0)
    digest = hashlib.sha256()
    while block := file.read(_BLOCK):
        digest.update(block)
    return digest.hexdigest()


def _images(file: IO[bytes], location: str, column: str | None) -> Iterator[str]:
    file.seek(0)
    packed = file.read(len(_GZIP)) == _GZIP
    file.seek(0)
    binary: IO[bytes] = gzip.GzipFile(fileobj=file, mode="rb") if packed else file  # type: ignore[assignment]
    text = io.TextIOWrapper(
        binary,
        encoding="utf-8-sig",
        newline="" if column is not None else None,
    )
    try:
        yield from _lines(text) if column is None else _cells(text, location, column)
    except UnicodeDecodeError:
        raise ManifestError(f"the list {location} is not UTF-8 text") from None
    except csv.Error as error:
        raise ManifestError(f"the list {location} is not a CSV file: {error}") from None
    except (EOFError, OSError, zlib.error) as error:
        raise ManifestError(f"the list {location} is damaged: {error}") from None
    finally:
        if not file.closed:  # as it is when a job was stopped in the middle of its list
            text.detach()  # or it would close the copy, which the next iteration needs


def _lines(text: IO[str]) -> Iterator[str]:
    for line in text:
        image = line.strip()
        if image and image != "#" and not line.startswith("# "):
            yield image


def _cells(text: IO[str], location: str, column: str) -> Iterator[str]:
    rows = csv.reader(text, strict=True)
    header = [name.strip() for name in next(rows, [])]
    if column not in header:
        raise ManifestError(
            f"the list {location} has no column '{column}': its header has "
            f"{', '.join(header) or 'no columns'}; name one with --column"
        )
    place = header.index(column)
    for row in rows:
        if row:
            # A row without an image is still a row: it comes out as a failed one.
            yield row[place].strip() if place < len(row) else ""
