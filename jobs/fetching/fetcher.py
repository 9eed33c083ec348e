"""The bytes of one image: of an object store, an HTTPS host that the user named, or a local file.

Whatever is wrong with a single image is `ObjectUnavailable`. Only when image after image cannot be
reached, or none may be read from the start, and the same is true of images all over the list (see
`jobs.fetching.verdict`), does `Fetcher` stop the job: rows that blame the images for it would be
skipped as done when the job is started again.
"""

from __future__ import annotations

import errno
import stat
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

from botocore.exceptions import ClientError

from jobs.fetching.contained import ContainedImages
from jobs.fetching.https import HttpsImages
from jobs.fetching.verdict import Controls, Streak
from jobs.storage.errors import NotModified, ObjectUnavailable, StorageError
from jobs.storage.obstore_errors import StoreAnswer
from jobs.storage.stores import Stores
from jobs.values.inside import Inside, InTable, InTar, Unusable
from jobs.values.job import RetrySettings
from jobs.values.locations import STORES, ObjectLocation, is_object, is_web, store_scheme

Result = TypeVar("Result")

_IN_SUCCESSION = 20
_STOP = "stop"  # an error that does not concern the image alone
# Kinds that show that the server is away, or that show nothing.
_NO_ANSWER = {"unreachable", "bad-location", _STOP}
# Only an account that may read an object learns that it is too large, or archived.
_READABLE = {None, "too-large", "archived"}
# Resources of this machine, which are missing for every image.
_OF_THE_MACHINE = {errno.EMFILE, errno.ENFILE, errno.ENOMEM}


@dataclass(frozen=True)
class Fetched:
    """A fetched image.

    Attributes:
        data: Encoded image.
        etag: Identifier that the server gives this version of the object, without quotes; None for
            local files.
    """

    data: bytes
    etag: str | None


class Objects(Protocol):
    """Gets objects, as `jobs.storage.stores.Stores` and `jobs.fetching.obstore` do."""

    def fetch(
        self, location: ObjectLocation, *, max_bytes: int, unless: str | None = None
    ) -> tuple[bytes, str | None]:
        """Content and ETag of an object.

        Raises `NotModified` if it has the ETag ``unless``, `ObjectUnavailable` or `StorageError`.
        """


class Fetcher:
    """Reads images; safe to share between threads.

    Args:
        stores: Clients of the object stores; their retries and their limiter are those of all
            images.
        max_bytes: Size limit of an image, in bytes; larger images are refused without being read.
        hosts: Hosts that images may be fetched from over HTTPS, as
            `jobs.fetching.https.HttpsImages` takes them.
        client: Library that fetches objects from S3: ``boto3``, or ``obstore``, which needs a
            fraction of the processor time.
        in_succession: Number of unreachable images in succession, without one that could be fetched
            among them, that is taken for an outage unless controls refute it; as many forbidden
            images at the beginning are taken for missing rights.
        controls: Locations of images that are spread evenly over the whole list.
        insecure_origins: Origins such as ``http://127.0.0.1:8080``, for servers of tests.

    Raises:
        VeaError: A host name is invalid, or obstore is not installed.
    """

    def __init__(
        self,
        stores: Stores,
        *,
        max_bytes: int,
        hosts: Sequence[str] = (),
        client: str = "obstore",
        in_succession: int = _IN_SUCCESSION,
        controls: Sequence[str] = (),
        insecure_origins: Collection[str] = (),
    ) -> None:
        self._stores = stores
        self._objects_on_s3 = _objects(stores, client)
        self._web = HttpsImages(stores.retries, hosts, insecure_origins=insecure_origins)
        self._contained = ContainedImages(stores, max_bytes=max_bytes)
        self._max_bytes = max_bytes
        once = Stores(threads=1, retry=RetrySettings(attempts=1))
        self._objects_once = once
        self._web_once = HttpsImages(once.retries, hosts, insecure_origins=insecure_origins)
        self._controls = Controls(controls, self._ask_once, is_closing=stores.retries.is_closing)
        self._outage = Streak({"unreachable"}, in_succession, passing_over={"bad-location"})
        self._denial = Streak(
            {"forbidden", "no-bucket"},
            in_succession,
            passing_over={"bad-location", "unreachable"},
            from_the_start=True,
        )

    def fetch(
        self, location: str, inside: Inside | None = None, *, unless: str | None = None
    ) -> Fetched:
        """The encoded image at ``location``: a path, ``s3://bucket/key`` or ``https://...``.

        Args:
            location: Location of the image.
            inside: Place of the image inside a file with others, which is read instead; images of
                one file are read fastest in their order.
            unless: ETag of an object that is not to be fetched again.

        Raises:
            NotModified: The object has the ETag ``unless``.
            ObjectUnavailable: This image cannot be fetched.
            StorageError: No image can be fetched.
        """
        if isinstance(inside, Unusable):
            raise ObjectUnavailable(inside.kind, inside.reason)
        if inside is not None:
            return Fetched(self._get_inside(inside), None)
        if not location:
            raise ObjectUnavailable("bad-location", "this row of the list names no image")
        if not is_object(location) and not is_web(location):
            return Fetched(_read(location, self._max_bytes), None)
        if not _is_text(location):
            raise ObjectUnavailable("bad-location", "the location is not valid Unicode text")
        data, etag = self._watched(location, lambda: self._get(location, unless))
        return Fetched(data, etag)

    def _get_inside(self, inside: InTar | InTable) -> bytes:
        if is_object(inside.file):
            return self._watched(inside.file, lambda: self._contained.fetch(inside))
        return self._contained.fetch(inside)

    def _watched(self, location: str, get: Callable[[], Result]) -> Result:
        """What ``get`` gives, unless no image can be fetched."""
        try:
            found = get()
        except NotModified:
            self._reset_streaks()
            raise
        except ObjectUnavailable as refused:
            self._watch(location, refused)
            raise
        except StorageError as error:
            # A server's word on the credentials may be about this one object or bucket.
            if isinstance(error.__cause__, ClientError | StoreAnswer) and self._controls.refute(
                _is_readable
            ):
                raise ObjectUnavailable("refused", str(error)) from error
            raise
        self._reset_streaks()
        return found

    def _reset_streaks(self) -> None:
        self._outage.is_too_long(None)
        self._denial.is_too_long(None)

    def _get(self, location: str, unless: str | None) -> tuple[bytes, str | None]:
        if is_web(location):
            return self._web.fetch(location, max_bytes=self._max_bytes)
        place = _parse(location)
        objects = self._objects_on_s3 if place.scheme == "s3" else self._stores
        return objects.fetch(place, max_bytes=self._max_bytes, unless=unless)

    def _ask_once(self, location: str) -> str | None:
        """The kind of a control's refusal; None if it can be read."""
        try:
            if is_web(location):
                self._web_once.fetch(location, max_bytes=self._max_bytes)
            elif is_object(location):
                self._objects_once.fetch(_parse(location), max_bytes=self._max_bytes)
            else:
                _read(location, self._max_bytes)
        except ObjectUnavailable as refused:
            return refused.kind
        except (StorageError, ValueError, OSError):
            return _STOP
        return None

    def _watch(self, location: str, refused: ObjectUnavailable) -> None:
        scheme = store_scheme(location)
        server = STORES[scheme] if scheme else "/".join(location.split("/", 3)[:3])

        def answers(control: str, kind: str | None) -> bool:
            """Whether the server, or another if it is one of many on the web, is there."""
            if not scheme and not is_object(control) and not is_web(control):
                return kind is None
            # An answer about an image, even "missing", shows that the server is there.
            return kind not in _NO_ANSWER and scheme in (None, store_scheme(control))

        if self._outage.is_too_long(refused.kind):
            if not self._controls.refute(answers):
                raise StorageError(
                    f"{server} is out of reach: image after image could not be fetched, "
                    f"{self._others()} ({refused.reason}); finished parts are kept, start again "
                    "later"
                ) from refused
            self._outage.refute()
        if self._denial.is_too_long(refused.kind):
            if not self._controls.refute(_is_readable):
                raise StorageError(
                    f"{server} denies access to every image, {self._others()}, the last of them "
                    f"{location} ({refused.reason}): check which account the credentials belong "
                    "to, and that it may read these images"
                ) from refused
            self._denial.refute()

    def _others(self) -> str:
        return f"nor could any of {len(self._controls)} images all over the list"


def _is_readable(control: str, kind: str | None) -> bool:
    return kind in _READABLE


def _is_text(location: str) -> bool:
    try:
        location.encode()
    except UnicodeEncodeError:  # half of a surrogate pair, which JSON can contain
        return False
    return True


def _objects(stores: Stores, client: str) -> Objects:
    if client == "boto3":
        return stores.s3
    if client == "obstore":
        try:
            from jobs.fetching.obstore import ObstoreObjects  # noqa: PLC0415 - it is optional
        except ModuleNotFoundError:
            raise StorageError(
                "obstore is not installed: pip install 'vea[jobs]', or fetch with boto3"
            ) from None
        return ObstoreObjects(stores.s3)
    raise StorageError(f"'{client}' is not a known fetcher: expected obstore or boto3")


def _read(location: str, max_bytes: int) -> bytes:
    if "://" in location:
        scheme = location.partition("://")[0]
        raise ObjectUnavailable(
            "bad-location",
            f"'{scheme}://' is not supported: expected s3://bucket/key, gs://bucket/key, "
            "az://container/key, https:// or a path",
        )
    path = Path(location)
    try:
        found = path.stat()
        # A pipe or a device could keep a reader waiting for ever.
        if not stat.S_ISREG(found.st_mode):
            raise ObjectUnavailable("bad-location", "this is not a regular file")
        if found.st_size > max_bytes:
            raise ObjectUnavailable(
                "too-large",
                f"the file has {found.st_size} bytes; at most {max_bytes} are accepted",
            )
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        raise ObjectUnavailable("missing", "there is no such file") from None
    except PermissionError:
        raise ObjectUnavailable("forbidden", "the file may not be read") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        if isinstance(error, OSError) and error.errno in _OF_THE_MACHINE:
            raise
        raise ObjectUnavailable("unreadable", f"the file cannot be read: {error}") from None


def _parse(location: str) -> ObjectLocation:
    try:
        return ObjectLocation.parse(location)
    except ValueError as error:
        raise ObjectUnavailable("bad-location", str(error)) from None
