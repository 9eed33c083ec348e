"""`AsyncClient`: the same calls as `Client`, for programs with an event loop."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Iterable
from types import TracebackType
from typing import Self

import httpx2

from handler.client.base import BaseClient
from handler.client.connections import client_kwargs, failure_of, reply_of, request_kwargs
from handler.client.errors import Refused
from handler.client.exchange import Answer
from handler.client.flow import Flow, Reply, Request, Result
from handler.values.probe_image import probe_image


class AsyncClient(BaseClient[httpx2.AsyncClient]):
    """Asynchronous client for one model of one service; its arguments are those of `BaseClient`."""

    async def predict(self, image: bytes, *, explain: bool = False) -> Answer:
        """See `Client.predict`."""
        return await self._run(self._exchange.predict(image, explain=explain))

    async def predict_many(
        self, images: Iterable[bytes] | AsyncIterable[bytes], *, explain: bool = False
    ) -> AsyncIterator[Answer | Refused]:
        """See `Client.predict_many`; the images may come from an asynchronous iterable."""

        async def answer(image: bytes) -> Answer | Refused:
            try:
                return await self.predict(image, explain=explain)
            except Refused as refusal:
                return refusal

        pending: deque[asyncio.Task[Answer | Refused]] = deque()
        try:
            async for image in _one_by_one(images):
                pending.append(asyncio.create_task(answer(image)))
                if len(pending) == self.concurrency:
                    yield await pending.popleft()
            while pending:
                yield await pending.popleft()
        finally:
            for task in pending:
                task.cancel()
            await asyncio.gather(*pending, return_exceptions=True)

    async def ready(self) -> bool:
        """See `Client.ready`."""
        return await self._run(self._exchange.ready(probe_image()))

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        """The client, closed at the end of the ``async with`` block."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the connections."""
        await self.close()

    def _open(self, max_connections: int) -> httpx2.AsyncClient:
        return httpx2.AsyncClient(**client_kwargs(max_connections))

    async def _run(self, flow: Flow[Result]) -> Result:
        reply: Reply | None = None
        try:
            while True:
                try:
                    step = flow.send(reply)
                except StopIteration as end:
                    result: Result = end.value
                    return result
                if isinstance(step, Request):
                    reply = await self._send(step)
                else:
                    await asyncio.sleep(step.seconds)
                    reply = None
        finally:
            flow.close()  # a cancelled call must release what its flow holds

    async def _send(self, request: Request) -> Reply:
        try:
            return reply_of(await self._http.request(**request_kwargs(request)))
        except httpx2.TransportError as error:
            return failure_of(error)


async def _one_by_one(images: Iterable[bytes] | AsyncIterable[bytes]) -> AsyncIterator[bytes]:
    if isinstance(images, AsyncIterable):
        async for image in images:
            yield image
    else:
        for image in images:
            yield image
