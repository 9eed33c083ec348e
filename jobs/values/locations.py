"""Locations of images, lists and results: on S3, on the web, or on this machine."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from handler.values.errors import LocationError

_SCHEME = "s3://"
_WEB = ("https://", "http://")
# Also with one slash: a URL that was read as a path has lost the other one.
_SCHEME_OF = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/")


@dataclass(frozen=True)
class S3Location:
    """A bucket and a key, or a bucket and a prefix."""

    bucket: str
    key: str

    @classmethod
    def parse(cls, text: str) -> S3Location:
        """Read ``s3://bucket/key``; '?' and '#' are ordinary characters of the key.

        Raises:
            ValueError: The text does not start with ``s3://`` and a bucket.
        """
        bucket, _, key = text.removeprefix(_SCHEME).partition("/")
        if not is_s3(text) or not bucket:
            raise ValueError(f"'{text}' is not an S3 location: expected s3://bucket/key")
        return cls(bucket, key)

    def __str__(self) -> str:
        return f"{_SCHEME}{self.bucket}/{self.key}"


def is_s3(text: str) -> bool:
    """Whether ``text`` names something on S3."""
    return text.startswith(_SCHEME)


def is_on_s3(place: str) -> bool:
    """Whether a list, a folder or a table lies on S3; otherwise it is a path of this machine.

    Raises:
        LocationError: The place has a scheme that this program does not know. As a path it would
            become a local folder of that name, and the results would seem lost.
    """
    if is_s3(place):
        return True
    if scheme := _SCHEME_OF.match(place):
        raise LocationError(
            f"'{place}': {scheme.group(1)}:// is not supported here; expected a path or "
            "s3://bucket/key"
        )
    return False


def is_web(location: str) -> bool:
    """Whether an image lies on a web server; the case of the scheme does not matter."""
    return location[:8].lower().startswith(_WEB)


def is_prefix(location: str) -> bool:
    """Whether a location is a folder of images, and not a list of them."""
    if is_on_s3(location):
        return location.endswith("/") or "/" not in location.removeprefix("s3://")
    return location.endswith("/") or Path(location).is_dir()


def resolve(image: str, folder: str) -> str:
    """Location of an image: ``image`` itself, or a path below ``folder`` if it is relative."""
    return f"{folder}/{image}" if is_relative(image) else image


def is_relative(image: str) -> bool:
    """Whether an image of a list is a path relative to the folder of the list."""
    return bool(image) and "://" not in image and not os.path.isabs(image)


def folder_of(location: str) -> str:
    """The folder that a list lies in: an absolute path, or ``s3://bucket/prefix``."""
    return location.rpartition("/")[0] if is_s3(location) else str(Path(location).resolve().parent)
