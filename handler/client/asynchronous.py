"""`AsyncClient`: the same calls as `Client`, for programs with an event loop."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Iterable
from types import TracebackType
from typing import Self

import httpx2

from handler.client.connections import arguments, failure_of, reply_of, settings
from handler.client.errors import Refused
from handler.client.exchange import Answer
from handler.client.options import Configured, probe_image
from handler.client.steps import Ask, Reply, Result, Steps


class AsyncClient(Configured[httpx2.AsyncClient]):
    """Asks one service about one model; its arguments are those of `Configured`."""

    async def predict(self, image: bytes, *, explain: bool = False) -> Answer:
        """As `Client.predict`."""
        return await self._run(self._exchange.predict(image, explain=explain))

    async def predict_many(
        self, images: Iterable[bytes] | AsyncIterable[bytes], *, explain: bool = False
    ) -> AsyncIterator[Answer | Refused]:
        """As `Client.predict_many`; the images may come from an asynchronous iterable."""

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
        """As `Client.ready`."""
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
        """Close."""
        await self.close()

    def _open(self, connections: int) -> httpx2.AsyncClient:
        return httpx2.AsyncClient(**settings(connections))

    async def _run(self, steps: Steps[Result]) -> Result:
        reply: Reply | None = None
        try:
            while True:
                try:
                    step = steps.send(reply)
                except StopIteration as end:
                    result: Result = end.value
                    return result
                if isinstance(step, Ask):
                    reply = await self._send(step)
                else:
                    await asyncio.sleep(step.seconds)
                    reply = None
        finally:
            steps.close()  # a cancelled call must not keep what its steps hold

    async def _send(self, ask: Ask) -> Reply:
        try:
            return reply_of(await self._http.request(**arguments(ask)))
        except httpx2.TransportError as error:
            return failure_of(error)


async def _one_by_one(images: Iterable[bytes] | AsyncIterable[bytes]) -> AsyncIterator[bytes]:
    if isinstance(images, AsyncIterable):
        async for image in images:
            yield image
    else:
        for image in images:
            yield image
