"""Images are fetched and decoded ahead of the model, in bounded memory.

One group of threads fetches, mostly waiting for the network, and one thread reads files that hold
many images. Another group, of as many threads as the model has, decodes in the list's order. The
caller decides how many images are in flight. Decoded pictures are a hundred times larger than
encoded ones, so their total size is limited: above the limit only the picture is decoded that the
model waits for. The limit is exceeded by at most one picture for each decoding thread.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

from handler.values.prediction import Refusal
from jobs.fetching.fetcher import Fetched
from jobs.storage.errors import ObjectUnavailable
from jobs.values.inside import Inside
from jobs.values.locations import resolve
from jobs.values.tasks import Failure


class ImageFetcher(Protocol):
    """What `jobs.fetching.fetcher.Fetcher` offers."""

    def fetch(self, location: str, inside: Inside | None = None) -> Fetched:
        """The encoded image at a location, or at a place inside a file."""


class ReadyImage(Protocol):
    """An image that is ready for the model: pixels, or a request that a service has received."""

    @property
    def nbytes(self) -> int:
        """Size in memory, in bytes."""


@dataclass(frozen=True)
class Loaded:
    """An image that has been fetched and decoded, or has failed.

    Attributes:
        image: Image that is ready for the model, or the reason why there is none.
        etag: Entity tag of the object, if it has one.
        data: Encoded image, if it was asked for.
    """

    image: ReadyImage | Refusal | Failure
    etag: str | None = None
    data: bytes | None = None

    @property
    def bytes(self) -> int:
        """Size in memory, in bytes; 0 without a picture."""
        return 0 if isinstance(self.image, Refusal | Failure) else self.image.nbytes


@dataclass(frozen=True)
class Pending:
    """An image in flight: its number, counted from 0, and its future result."""

    number: int
    arrived: Future[Loaded]


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
    ) -> None:
        self._fetcher = fetcher
        self._decoded = decode
        self._folder = folder
        self._fetching = ThreadPoolExecutor(fetch_threads, thread_name_prefix="vea-fetch")
        # One thread, so that files with many images are read from front to back.
        self._reading = ThreadPoolExecutor(1, thread_name_prefix="vea-read")
        self._decoding = ThreadPoolExecutor(decode_threads, thread_name_prefix="vea-decode")
        self._max_bytes = max_bytes
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

    def _fetch(self, image: str, inside: Inside | None) -> Fetched | Failure:
        try:
            if inside is not None:
                return self._fetcher.fetch(image, inside)
            return self._fetcher.fetch(resolve(image, self._folder))
        except ObjectUnavailable as refused:
            return Failure("fetch", refused.kind, refused.reason)
        except ValueError as error:  # a malformed answer of a server concerns one image
            return Failure.of("fetch", error)

    def _decode(self, number: int, fetched: Future[Fetched | Failure], keep: bool) -> Loaded:
        found = fetched.result()
        if isinstance(found, Failure):
            return Loaded(found)
        with self._changed:
            self._changed.wait_for(
                lambda: self._held < self._max_bytes or number <= self._wanted or self._closed
            )
        data = found.data if keep else None
        try:
            arrived = Loaded(self._decoded(found.data), found.etag, data)
        except Exception as error:
            return Loaded(Failure.of("decode", error), found.etag, data)
        with self._changed:
            self._held += arrived.bytes
        return arrived
