"""Bodies of requests: read within limits, and brought into a form that TorchServe understands.

TorchServe takes what it cannot parse for something else, and reads a form's fields as headers; what
reaches it from here is one image's bytes or JSON, nothing else.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from starlette.datastructures import Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from vea.web.errors import GatewayError, busy

RAW, JSON, FORM = "application/octet-stream", "application/json", "multipart/form-data"
_FIELDS = "application/x-www-form-urlencoded"


@dataclass(frozen=True)
class Body:
    """What goes to TorchServe.

    Attributes:
        content: One image, or a JSON document.
        content_type: Media type of the content.
    """

    content: bytes
    content_type: str


class Memory:
    """Limit on the bytes that all requests together hold.

    Args:
        max_bytes: The limit.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.held = 0

    @contextmanager
    def share(self) -> Iterator[Share]:
        """One request's part; given back at the end of the block."""
        share = Share(self)
        try:
            yield share
        finally:
            self.held -= share.held
            share.held = 0


class Share:
    """What one request holds of a `Memory`."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self.held = 0

    def take(self, count: int) -> None:
        """Hold ``count`` bytes more.

        Raises:
            GatewayError: 503, there is no room now.
        """
        if self._memory.held + count > self._memory.max_bytes:
            raise busy("too many large requests at once; try again in a moment")
        self._memory.held += count
        self.held += count


async def read_body(request: Request, share: Share, *, max_bytes: int, seconds: float) -> bytes:
    """The body, of at most ``max_bytes`` bytes, sent within ``seconds``.

    Raises:
        GatewayError: 408 too slow, 413 too large, 503 no room.
    """
    # What is left of a refused body is read and forgotten, for as long as a head may take: a client
    # that is still sending would not see the answer of a connection that is closed under it.
    too_large = GatewayError(413, f"the body is larger than {max_bytes} bytes, the limit")
    announced = request.headers.get("content-length", "")
    # h11 has refused what is no number; a long one must not become a large int.
    if len(announced) > 18 or int(announced or 0) > max_bytes:
        raise too_large
    content = bytearray()
    try:
        async with asyncio.timeout(seconds):
            async for chunk in request.stream():
                if len(content) + len(chunk) > max_bytes:
                    raise too_large
                share.take(len(chunk))
                content += chunk
    except TimeoutError:
        raise GatewayError(408, f"the body did not arrive within {seconds:.0f} seconds") from None
    except ClientDisconnect:
        raise GatewayError(400, "the connection ended before the body did") from None
    return bytes(content)


async def to_torchserve(content: bytes, content_type: str | None) -> Body:
    """What TorchServe gets for a client's body.

    Args:
        content: Body as received.
        content_type: Content-Type header; None if absent, as with ``curl -T``.

    Raises:
        GatewayError: 400 or 415, with what to send instead.
    """
    kind = (content_type or RAW).split(";")[0].strip().lower()
    if kind == FORM:
        content = await _only_file(content, content_type or "")
    elif kind == JSON:
        if not content:
            raise GatewayError(400, "the request has no body; send one image")
        return Body(content, JSON)
    elif kind == _FIELDS:
        raise GatewayError(
            415,
            "the body is called a form's fields (curl --data-binary does that): send the image "
            f"with curl -T FILE, or with the header Content-Type: {RAW}",
        )
    elif kind != RAW and not kind.startswith("image/"):
        raise GatewayError(
            415,
            f"cannot read a body of type '{kind[:80]}': send an image as {RAW} or image/*, a form "
            f"with one file as {FORM}, or base64 as {JSON}",
        )
    if not content:
        raise GatewayError(400, "the request has no body; send one image")
    return Body(content, RAW)


async def _only_file(content: bytes, content_type: str) -> bytes:
    async def once() -> AsyncGenerator[bytes, None]:
        yield content

    headers = Headers({"content-type": content_type})
    try:
        form = await MultiPartParser(headers, once(), max_files=2, max_fields=8).parse()
    except (MultiPartException, KeyError, ValueError, AttributeError) as error:
        reason = getattr(error, "message", "") or "it is not well-formed"
        raise GatewayError(400, f"cannot read the form: {reason}") from None
    try:
        parts = [value for _, value in form.multi_items()]
        if len(parts) != 1 or not isinstance(parts[0], UploadFile):
            raise GatewayError(
                400, f"the form has {len(parts)} parts: send exactly one, a file with the image"
            )
        return await parts[0].read()
    finally:
        await form.close()
