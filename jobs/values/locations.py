"""Locations of images, lists and results: in object stores, on the web, or on this machine."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from handler.values.errors import LocationError

STORES = {"s3": "S3", "gs": "Google Cloud Storage", "az": "Azure Blob Storage"}
"""Schemes of object stores, with the stores' names for messages."""

_CONTAINERS = {"s3": "bucket", "gs": "bucket", "az": "container"}
_WEB = ("https://", "http://")
# Also with one slash: a URL that was read as a path has lost the other one.
_SCHEME_OF = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/")


@dataclass(frozen=True)
class ObjectLocation:
    """A bucket and a key, or a bucket and a prefix; on Azure the bucket is a container."""

    bucket: str
    key: str
    scheme: str = "s3"

    @classmethod
    def parse(cls, text: str) -> ObjectLocation:
        """Read ``s3://bucket/key``; '?' and '#' are ordinary characters of the key.

        Raises:
            ValueError: The text does not start with the scheme of a store and a bucket.
        """
        scheme = store_scheme(text) or "s3"
        bucket, _, key = text.removeprefix(f"{scheme}://").partition("/")
        if not is_object(text) or not bucket:
            article = "an" if scheme == "s3" else "a"
            raise ValueError(
                f"'{text}' is not {article} {STORES[scheme]} location: expected {_example(scheme)}"
            )
        return cls(bucket, key, scheme)

    def __str__(self) -> str:
        return f"{self.scheme}://{self.bucket}/{self.key}"


def store_scheme(text: str) -> str | None:
    """Scheme of the object store that ``text`` names something in; None for other places."""
    scheme, mark, _ = text.partition("://")
    return scheme if mark and scheme in STORES else None


def is_object(text: str) -> bool:
    """Whether ``text`` names something in an object store."""
    return store_scheme(text) is not None


def is_in_store(place: str) -> bool:
    """Whether a list, a folder or a table lies in an object store, or else on this machine.

    Raises:
        LocationError: The place has a scheme that this program does not know. As a path it would
            become a local folder of that name, and the results would seem lost.
    """
    if is_object(place):
        return True
    if scheme := _SCHEME_OF.match(place):
        raise LocationError(
            f"'{place}': {scheme.group(1)}:// is not supported here; expected a path, "
            f"{_example('s3')}, {_example('gs')} or {_example('az')}"
        )
    return False


def is_tidy(key: str) -> bool:
    """Whether a key is a path that programs which treat keys as paths do not change."""
    return key.isprintable() and not any(part in ("", ".", "..") for part in key.split("/"))


def is_web(location: str) -> bool:
    """Whether an image lies on a web server; the case of the scheme does not matter."""
    return location[:8].lower().startswith(_WEB)


def is_prefix(location: str) -> bool:
    """Whether a location is a folder of images, and not a list of them."""
    if is_in_store(location):
        return location.endswith("/") or "/" not in location.partition("://")[2]
    return location.endswith("/") or Path(location).is_dir()


def resolve(image: str, folder: str) -> str:
    """Location of an image: ``image`` itself, or a path below ``folder`` if it is relative."""
    return f"{folder}/{image}" if is_relative(image) else image


def is_relative(image: str) -> bool:
    """Whether an image of a list is a path relative to the folder of the list."""
    return bool(image) and "://" not in image and not os.path.isabs(image)


def folder_of(location: str) -> str:
    """The folder that a list lies in: an absolute path, or ``s3://bucket/prefix``."""
    if is_object(location):
        return location.rpartition("/")[0]
    return str(Path(location).resolve().parent)


def _example(scheme: str) -> str:
    return f"{scheme}://{_CONTAINERS[scheme]}/key"
