"""Images on their way to the model: fetched and decoded ahead of it, in bounded memory.

Threads that mostly wait fetch; others, as many as the model has, decode in the list's order. How
many images are under way is up to the caller. Decoded pictures are a hundred times larger than
encoded ones, so of these there is a limit in bytes: above it nothing is decoded but what the model
waits for. It is passed by one picture for each decoding thread at most.
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
from jobs.values.locations import resolve
from jobs.values.tasks import Failure


class ImageFetcher(Protocol):
    """What `jobs.fetching.fetcher.Fetcher` offers."""

    def fetch(self, location: str) -> Fetched:
        """The encoded image at a location."""


class ReadyImage(Protocol):
    """An image that the model can be given: pixels, or what a service has been asked."""

    @property
    def nbytes(self) -> int:
        """Memory that it holds."""


@dataclass(frozen=True)
class Loaded:
    """An image at the end of its way.

    Attributes:
        image: Image that is ready for the model, or the reason why there is none.
        etag: Entity tag of the object, if it has one.
    """

    image: ReadyImage | Refusal | Failure
    etag: str | None = None

    @property
    def bytes(self) -> int:
        """That it holds when it is ready."""
        return 0 if isinstance(self.image, Refusal | Failure) else self.image.nbytes


@dataclass(frozen=True)
class Pending:
    """An image under way: its number, which grows by one with each, and what will arrive."""

    number: int
    arrived: Future[Loaded]


class Prefetcher:
    """The threads that fetch and decode, and the account of what they hold.

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
        self._decoding = ThreadPoolExecutor(decode_threads, thread_name_prefix="vea-decode")
        self._max_bytes = max_bytes
        self._held = 0
        self._begun = 0
        self._wanted = -1
        self._closed = False
        self._changed = threading.Condition()

    def close(self) -> None:
        """Give up what is under way; returns when no thread is left."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        # Decoding threads wait for fetching ones, so these are told first and awaited last.
        self._fetching.shutdown(wait=False, cancel_futures=True)
        self._decoding.shutdown(cancel_futures=True)
        self._fetching.shutdown()

    def submit(self, image: str) -> Pending:
        """Start to fetch and decode an image, and return at once."""
        number, self._begun = self._begun, self._begun + 1
        fetched = self._fetching.submit(self._fetch, image)
        # In the order of the numbers: otherwise what the model waits for might stand behind
        # images that wait for room.
        return Pending(number, self._decoding.submit(self._decode, number, fetched))

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
        """Say that so many bytes of pictures which were taken are not needed any more."""
        with self._changed:
            self._held -= size
            self._changed.notify_all()

    def _fetch(self, image: str) -> Fetched | Failure:
        try:
            return self._fetcher.fetch(resolve(image, self._folder))
        except ObjectUnavailable as refused:
            return Failure("fetch", refused.kind, refused.reason)
        except ValueError as error:  # an odd answer of a server is one image's affair
            return Failure.of("fetch", error)

    def _decode(self, number: int, fetched: Future[Fetched | Failure]) -> Loaded:
        found = fetched.result()
        if isinstance(found, Failure):
            return Loaded(found)
        with self._changed:
            self._changed.wait_for(
                lambda: self._held < self._max_bytes or number <= self._wanted or self._closed
            )
        try:
            arrived = Loaded(self._decoded(found.data), found.etag)
        except Exception as error:
            return Loaded(Failure.of("decode", error), found.etag)
        with self._changed:
            self._held += arrived.bytes
        return arrived
