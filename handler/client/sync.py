"""`Client`: blocking calls, safe to use from several threads."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Self

import httpx2

from handler.client.connections import arguments, failure_of, reply_of, settings
from handler.client.errors import Refused
from handler.client.exchange import Answer
from handler.client.options import Configured, probe_image
from handler.client.steps import Ask, Reply, Result, Steps


class Client(Configured[httpx2.Client]):
    """Asks one service about one model; its arguments are those of `Configured`."""

    def predict(self, image: bytes, *, explain: bool = False) -> Answer:
        """Score one encoded image.

        Args:
            image: the file's bytes.
            explain: ask for the attended objects and the activation map too.

        Returns:
            The service's JSON document, the model's name, version and digest in it.

        Raises:
            Refused: the service will not score this image.
            Unavailable: no answer in the allowed time.
            EndpointError: wrong address, model or key.
        """
        return self._run(self._exchange.predict(image, explain=explain))

    def predict_many(
        self, images: Iterable[bytes], *, explain: bool = False
    ) -> Iterator[Answer | Refused]:
        """Score images, several at a time.

        Args:
            images: any number; read as they are needed, and few are held.
            explain: as for `predict`.

        Yields:
            One answer for each image, in the same order; a refused one gets its `Refused`.

        Raises:
            Unavailable: as `predict`; the answers before it have been given.
            EndpointError: likewise.
        """

        def answer(image: bytes) -> Answer | Refused:
            try:
                return self.predict(image, explain=explain)
            except Refused as refusal:
                return refusal

        pending: deque[Future[Answer | Refused]] = deque()
        with ThreadPoolExecutor(self.concurrency, thread_name_prefix="vea-client") as pool:
            try:
                for image in images:
                    pending.append(pool.submit(answer, image))
                    if len(pending) == self.concurrency:
                        yield pending.popleft().result()
                while pending:
                    yield pending.popleft().result()
            finally:
                for future in pending:
                    future.cancel()

    def ready(self) -> bool:
        """Whether a real prediction is made right now; no retries.

        Raises:
            EndpointError: there are no keys to ask with.
        """
        return self._run(self._exchange.ready(probe_image()))

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        """The client, closed at the end of the ``with`` block."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close."""
        self.close()

    def _open(self, connections: int) -> httpx2.Client:
        return httpx2.Client(**settings(connections))

    def _run(self, steps: Steps[Result]) -> Result:
        return drive(steps, self._http)


def drive(steps: Steps[Result], http: httpx2.Client) -> Result:
    """Carry out what the shared logic asks for, with the connections of ``http``."""
    reply: Reply | None = None
    try:
        while True:
            try:
                step = steps.send(reply)
            except StopIteration as end:
                result: Result = end.value
                return result
            if isinstance(step, Ask):
                reply = _send(step, http)
            else:
                time.sleep(step.seconds)
                reply = None
    finally:
        steps.close()  # an interrupted call must not keep what its steps hold


def _send(ask: Ask, http: httpx2.Client) -> Reply:
    try:
        return reply_of(http.request(**arguments(ask)))
    except httpx2.TransportError as error:
        return failure_of(error)
