"""Images are fetched and decoded ahead of the model, in bounded memory.

One group of threads fetches, mostly waiting for the network, and one thread reads files that hold
many images. Another group, of as many threads as the model has, decodes in the list's order. The
caller decides how many images are in flight. Decoded pictures are a hundred times larger than
encoded ones, so their total size is limited: above the limit only the picture is decoded that the
model waits for. The limit is exceeded by at most one picture for each decoding thread.

An image of which an earlier run's answer is known is not decoded, and not even transferred if its
ETag shows that it is the same.

Where each image is to be scored once, an image with the content of one before it is not decoded.
Which of them is the first is decided in the order of their numbers, not in that of their arrival.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from handler.values.prediction import Refusal
from jobs.fetching.fetcher import Fetched
from jobs.storage.errors import NotModified, ObjectUnavailable
from jobs.values.inside import Inside
from jobs.values.locations import resolve
from jobs.values.tasks import Failure


class ImageFetcher(Protocol):
    """What `jobs.fetching.fetcher.Fetcher` offers."""

    def fetch(
        self, location: str, inside: Inside | None = ..., *, unless: str | None = ...
    ) -> Fetched:
        """The encoded image at a location, or at a place inside a file."""


class KnownAnswer(Protocol):
    """What `jobs.output.earlier_answers.EarlierAnswer` offers."""

    @property
    def etag(self) -> str | None:
        """ETag of the image that was scored."""

    @property
    def content(self) -> str | None:
        """SHA-256 of its bytes, hexadecimal, if it is known."""

    @property
    def row(self) -> Mapping[str, Any]:
        """Columns of the answer."""


class KnownAnswers(Protocol):
    """What `jobs.output.earlier_answers.EarlierAnswers` offers."""

    @property
    def has_contents(self) -> bool:
        """Whether any answer can be found by content."""

    def at(self, location: str) -> KnownAnswer | None:
        """The answer for an object on S3, which holds if the object has the same ETag."""

    def with_content(self, sha256: str) -> KnownAnswer | None:
        """The answer for an image with these bytes."""


class ReadyImage(Protocol):
    """An image that is ready for the model: pixels, or a request that a service has received."""

    @property
    def nbytes(self) -> int:
        """Size in memory, in bytes."""


@dataclass(frozen=True)
class Loaded:
    """An image that has been fetched and decoded, or has failed.

    Attributes:
        image: Image that is ready for the model, or the reason why there is none; None if
            ``same_as`` or ``known`` tells the answer.
        etag: Entity tag of the object, if it has one.
        data: Encoded image, if it was asked for.
        content: SHA-256 of the encoded image, hexadecimal, if it was asked for.
        same_as: Number of an image before it that has the same content.
        known: Columns of the answer of an earlier run.
    """

    image: ReadyImage | Refusal | Failure | None
    etag: str | None = None
    data: bytes | None = None
    content: str | None = None
    same_as: int | None = None
    known: Mapping[str, Any] | None = None

    @property
    def bytes(self) -> int:
        """Size in memory, in bytes; 0 without a picture."""
        if self.image is None or isinstance(self.image, Refusal | Failure):
            return 0
        return self.image.nbytes


@dataclass(frozen=True)
class Pending:
    """An image in flight: its number, counted from 0, and its future result."""

    number: int
    arrived: Future[Loaded]


@dataclass(frozen=True)
class _Encoded:
    """A fetched image, the SHA-256 of its bytes if it was asked for, and its answer if known."""

    fetched: Fetched
    content: str | None
    known: Mapping[str, Any] | None = None


class Prefetcher:
    """The threads that fetch and decode, and the size of what they hold.

    Args:
        fetcher: Fetcher of the images.
        decode: Function from an encoded image to one that is ready for the model, or to the reason
            why there is none.
        folder: Folder that relative images are relative to.
        fetch_threads: Number of threads that fetch images.
        decode_threads: Number of threads that decode.
        max_bytes: Size limit of decoded pictures, in bytes, beyond which none is decoded ahead of
            its turn.
        hashed: Whether `Loaded.content` is asked for.
        once: Whether an image is not decoded that has the content of one before it.
        known: Answers of earlier runs.
    """

    def __init__(
        self,
        fetcher: ImageFetcher,
        decode: Callable[[bytes], ReadyImage | Refusal],
        *,
        folder: str,
        fetch_threads: int,
        decode_threads: int,
        max_bytes: int,
        hashed: bool = False,
        once: bool = False,
        known: KnownAnswers | None = None,
    ) -> None:
        self._fetcher = fetcher
        self._decoded = decode
        self._folder = folder
        self._fetching = ThreadPoolExecutor(fetch_threads, thread_name_prefix="vea-fetch")
        # One thread, so that files with many images are read from front to back.
        self._reading = ThreadPoolExecutor(1, thread_name_prefix="vea-read")
        self._decoding = ThreadPoolExecutor(decode_threads, thread_name_prefix="vea-decode")
        self._max_bytes = max_bytes
        self._hashed = hashed or once or (known is not None and known.has_contents)
        self._known = known
        self._once = once
        self._first: dict[str, int] = {}
        self._passed = 0
        self._held = 0
        self._begun = 0
        self._wanted = -1
        self._closed = False
        self._changed = threading.Condition()

    def close(self) -> None:
        """Cancel what is in flight; returns when no thread is left."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        # Decoding threads wait for fetching ones, so these are told first and awaited last.
        self._fetching.shutdown(wait=False, cancel_futures=True)
        self._reading.shutdown(wait=False, cancel_futures=True)
        self._decoding.shutdown(cancel_futures=True)
        self._fetching.shutdown()
        self._reading.shutdown()

    def forget_contents(self) -> None:
        """Have images submitted from now on compared with each other only; none is in flight."""
        self._first.clear()

    def submit(self, image: str, inside: Inside | None = None, *, keep: bool = False) -> Pending:
        """Start to fetch and decode an image, and return at once.

        Args:
            image: Image as the list spells it.
            inside: Place of the image, if it is inside a file with others.
            keep: Whether the encoded image is wanted, too.
        """
        number, self._begun = self._begun, self._begun + 1
        threads = self._fetching if inside is None else self._reading
        fetched = threads.submit(self._fetch, image, inside)
        # In the order of the numbers: otherwise the image that the model waits for could be
        # queued behind images that wait for memory.
        return Pending(number, self._decoding.submit(self._decode, number, fetched, keep))

    def get(self, coming: Pending) -> Loaded:
        """Wait for an image; its bytes count as held until they are given to `release`.

        Raises:
            StorageError: No image can be fetched from S3.
        """
        with self._changed:
            self._wanted = coming.number
            self._changed.notify_all()
        return coming.arrived.result()

    def release(self, size: int) -> None:
        """Release ``size`` bytes of pictures that were returned by `get`."""
        with self._changed:
            self._held -= size
            self._changed.notify_all()

    def _fetch(self, image: str, inside: Inside | None) -> _Encoded | Failure:
        try:
            if inside is not None:
                return self._identify(self._fetcher.fetch(image, inside))
            return self._fetch_unless_known(resolve(image, self._folder))
        except ObjectUnavailable as refused:
            return Failure("fetch", refused.kind, refused.reason)
        except ValueError as error:  # a malformed answer of a server concerns one image
            return Failure.of("fetch", error)

    def _fetch_unless_known(self, location: str) -> _Encoded:
        known = self._known.at(location) if self._known else None
        if known is None:
            return self._identify(self._fetcher.fetch(location))
        try:
            found = self._fetcher.fetch(location, unless=known.etag)
        except NotModified:
            return _Encoded(Fetched(b"", known.etag), known.content, known.row)
        if found.etag == known.etag:  # a server that knows no conditions
            return _Encoded(found, known.content, known.row)
        return self._identify(found)

    def _identify(self, found: Fetched) -> _Encoded:
        """Find out what the bytes of an image tell."""
        if not self._hashed:
            return _Encoded(found, None)
        content = hashlib.sha256(found.data).hexdigest()
        known = self._known.with_content(content) if self._known else None
        return _Encoded(found, content, known.row if known else None)

    @contextmanager
    def _in_turn(self, number: int) -> Iterator[None]:
        """Wait until all images with smaller numbers have passed here."""
        with self._changed:
            self._changed.wait_for(lambda: self._passed == number or self._closed)
        try:
            yield
        finally:
            with self._changed:
                self._passed += 1
                self._changed.notify_all()

    def _compare(self, number: int, fetched: Future[_Encoded | Failure]) -> int | None:
        """The number of the first image with the same content, if it is another one."""
        with self._in_turn(number):
            found = fetched.result()
            if isinstance(found, Failure) or found.content is None or found.known is not None:
                return None
            first = self._first.setdefault(found.content, number)
        return None if first == number else first

    def _decode(self, number: int, coming: Future[_Encoded | Failure], keep: bool) -> Loaded:
        same_as = self._compare(number, coming) if self._once else None
        found = coming.result()
        if isinstance(found, Failure):
            return Loaded(found)
        fetched = found.fetched
        data = fetched.data if keep else None
        if same_as is not None or found.known is not None:
            return Loaded(None, fetched.etag, data, found.content, same_as, found.known)
        with self._changed:
            self._changed.wait_for(
                lambda: self._held < self._max_bytes or number <= self._wanted or self._closed
            )
        try:
            arrived = Loaded(self._decoded(fetched.data), fetched.etag, data, found.content)
        except Exception as error:
            return Loaded(Failure.of("decode", error), fetched.etag, data, found.content)
        with self._changed:
            self._held += arrived.bytes
        return arrived
