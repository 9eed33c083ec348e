"""`Client`: blocking calls, safe to use from several threads."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from types import TracebackType
from typing import Self

import httpx2

from handler.client.base import BaseClient
from handler.client.connections import client_kwargs, failure_of, reply_of, request_kwargs
from handler.client.errors import Refused
from handler.client.exchange import Answer
from handler.client.flow import Flow, Reply, Request, Result
from handler.values.probe_image import probe_image


class Client(BaseClient[httpx2.Client]):
    """Blocking client for one model of one service; its arguments are those of `BaseClient`."""

    def predict(self, image: bytes, *, explain: bool = False) -> Answer:
        """Score one encoded image.

        Args:
            image: Bytes of an image file.
            explain: Whether the answer includes the attended objects and the activation map.

        Returns:
            JSON document of the service, with name, version and digest of the model.

        Raises:
            Refused: The service refuses this image.
            Unavailable: There is no answer within the allowed time.
            EndpointError: The address, the model or the key is wrong.
        """
        return self._run(self._exchange.predict(image, explain=explain))

    def predict_many(
        self, images: Iterable[bytes], *, explain: bool = False
    ) -> Iterator[Answer | Refused]:
        """Score images concurrently.

        Args:
            images: Encoded images, any number; they are read when needed, and few are in memory.
            explain: Whether the answers include the attended objects and the activation map.

        Yields:
            One answer for each image, in the same order; `Refused` for an image that is refused.

        Raises:
            Unavailable: There is no answer for an image; all earlier answers have been yielded.
            EndpointError: The address, the model or the key is wrong.
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
                    # In a copy of the caller's context, so that the requests are of its trace.
                    pending.append(pool.submit(copy_context().run, answer, image))
                    if len(pending) == self.concurrency:
                        yield pending.popleft().result()
                while pending:
                    yield pending.popleft().result()
            finally:
                for future in pending:
                    future.cancel()

    def ready(self) -> bool:
        """Whether the service makes a real prediction right now, without retries.

        Raises:
            EndpointError: There is no key to send.
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
        """Close the connections."""
        self.close()

    def _open(self, max_connections: int) -> httpx2.Client:
        return httpx2.Client(**client_kwargs(max_connections))

    def _run(self, flow: Flow[Result]) -> Result:
        return run_sync(flow, self._http)


def run_sync(flow: Flow[Result], http: httpx2.Client) -> Result:
    """Run a flow to its end and return its result.

    Args:
        flow: Flow that has not been started.
        http: HTTP client that sends the requests.
    """
    reply: Reply | None = None
    try:
        while True:
            try:
                step = flow.send(reply)
            except StopIteration as end:
                result: Result = end.value
                return result
            if isinstance(step, Request):
                reply = _send(step, http)
            else:
                time.sleep(step.seconds)
                reply = None
    finally:
        flow.close()  # an interrupted call must release what its flow holds


def _send(request: Request, http: httpx2.Client) -> Reply:
    try:
        return reply_of(http.request(**request_kwargs(request)))
    except httpx2.TransportError as error:
        return failure_of(error)
