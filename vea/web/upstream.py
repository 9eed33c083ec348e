"""The gateway's one way to TorchServe: it alone holds the keys.

A request goes out with a content type, perhaps the wish to be explained, and the key; nothing that
a client sent beside its image goes with it. TorchServe says 503 while its queue is full, and 500
when a worker dies under a batch. Neither is the request's fault: both are tried again in time.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import httpx2

from handler.client.keys import Purpose
from vea.serving.server import TorchServe
from vea.serving.workplace import HOST, ServingError
from vea.web.bodies import Body
from vea.web.errors import GatewayError, busy

_ATTEMPTS_PER_BODY = 3  # an image on which three workers died will kill the fourth
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 2.0  # seconds between attempts


@dataclass(frozen=True)
class Answer:
    """What a model said: a prediction, or a refusal of its own with its reason."""

    status: int
    content: bytes


class Upstream(Protocol):
    """A server of models; TorchServe's place is here."""

    async def predict(self, path: str, body: Body, *, explain: bool, seconds: float) -> Answer:
        """Ask a model.

        Args:
            path: of the model.
            body: one image, or JSON.
            explain: whether the answer should say why.
            seconds: for all attempts together.

        Raises:
            GatewayError: there was no answer.
        """
        ...

    async def manage(self, path: str, *, seconds: float) -> tuple[int, Any]:
        """Look something up about models: status and document.

        Raises:
            GatewayError: there was no answer.
        """
        ...


class TorchServeUpstream:
    """The TorchServe that runs in a folder, and whichever runs there later.

    Args:
        find: the running server, or None.
        connections: most at a time.
    """

    def __init__(self, find: Callable[[], TorchServe | None], *, connections: int = 64) -> None:
        self._find = find
        self._server: TorchServe | None = None
        self._finding = asyncio.Lock()
        limits = httpx2.Limits(max_connections=connections, max_keepalive_connections=connections)
        # A proxy in the environment must not see the keys.
        self._http = httpx2.AsyncClient(trust_env=False, limits=limits, follow_redirects=False)

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def predict(self, path: str, body: Body, *, explain: bool, seconds: float) -> Answer:
        """See `Upstream.predict`."""
        deadline = time.monotonic() + seconds
        headers = {"Content-Type": body.content_type} | ({"X-Explain": "true"} if explain else {})
        deaths, pause = 0, _FIRST_PAUSE
        while True:
            try:
                response = await self._send(
                    "POST", path, "inference", deadline, headers=headers, content=body.content
                )
                answer, problem = _read(response)
                if answer is not None:
                    return answer
                deaths += response.status_code == 500
            except httpx2.TimeoutException:
                raise _too_late(seconds) from None
            except (httpx2.TransportError, ServingError, OSError):
                problem = GatewayError(502, "the server of the models cannot be reached")
                self._server = None
            if deaths == _ATTEMPTS_PER_BODY:
                raise problem
            if time.monotonic() + pause > deadline:
                raise problem
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    async def manage(self, path: str, *, seconds: float) -> tuple[int, Any]:
        """See `Upstream.manage`; only ever GET."""
        try:
            response = await self._send("GET", path, "management", time.monotonic() + seconds)
            return response.status_code, response.json()
        except httpx2.TimeoutException:
            raise _too_late(seconds) from None
        except (httpx2.TransportError, ServingError, OSError):
            self._server = None
            raise GatewayError(502, "the server of the models cannot be reached") from None
        except ValueError:
            raise GatewayError(502, "the server of the models gave no sensible answer") from None

    async def _send(
        self, method: str, path: str, service: Purpose, deadline: float, **parts: Any
    ) -> httpx2.Response:
        server = await self._running()
        ports = server.ports
        port = ports.inference if service == "inference" else ports.management
        # Reads a file, and asks for a new key shortly before the old one expires.
        token = await asyncio.to_thread(server.client.token, service)
        headers = {**parts.pop("headers", {}), "Authorization": f"Bearer {token}"}
        left = max(deadline - time.monotonic(), 0.01)
        request = self._http.build_request(
            method, f"http://{HOST}:{port}{path}", headers=headers, timeout=left, **parts
        )
        try:
            # httpx counts its timeouts anew with every piece it reads.
            async with asyncio.timeout(left):
                return await self._http.send(request)
        except TimeoutError:
            raise httpx2.ReadTimeout("too late", request=request) from None

    async def _running(self) -> TorchServe:
        async with self._finding:
            if self._server is None:
                self._server = await asyncio.to_thread(self._find)
            if self._server is None:
                raise ServingError("no server of models runs")
            return self._server


def _read(response: httpx2.Response) -> tuple[Answer | None, GatewayError]:
    """The model's answer, or what to say if trying again is of no use either.

    Raises:
        GatewayError: trying again would change nothing.
    """
    status = response.status_code
    try:
        document = json.loads(response.content)
    except ValueError:
        document = None
    own = isinstance(document, dict) and "type" in document and "message" in document
    nonsense = GatewayError(502, f"the server of the models gave no sensible answer ({status})")
    if document is not None and not own and (status < 500 or "error" in document):
        return Answer(status, response.content), nonsense
    if status == 404:
        raise GatewayError(404, "there is no such model, or no such version of it; see /models")
    if status == 413:
        raise GatewayError(413, "the body is larger than the model takes")
    if status in (503, 507):
        return None, busy("the model is busy; try again in a moment")
    if status == 500:
        return None, GatewayError(502, "the model's worker died on this request")
    raise nonsense


def _too_late(seconds: float) -> GatewayError:
    return GatewayError(504, f"the model gave no answer within {seconds:.0f} seconds")
