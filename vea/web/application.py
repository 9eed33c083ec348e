"""The gateway as an ASGI application: paths -> TorchServe, the page, or what it says itself.

Nothing else of TorchServe can be reached through it: a path is one of those listed here, with names
that are names, or it is 404.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from handler.telemetry import SilentTelemetry, Telemetry
from vea.web.assets import Asset, Assets
from vea.web.bodies import Memory, read_body, to_torchserve
from vea.web.catalogue import Catalogue
from vea.web.description import NAME, describe
from vea.web.errors import GatewayError, busy, json_response
from vea.web.gateway_metrics import GatewayMetrics
from vea.web.keys import KeyRing
from vea.web.request_context import RequestContextMiddleware
from vea.web.security import AccessControlMiddleware
from vea.web.upstream import Upstream

_NAME = re.compile(NAME)
_METRICS_SECONDS = 5.0  # half of what Prometheus waits for
_SEND = ["POST", "PUT"]  # curl -T puts, and TorchServe does not mind
Endpoint = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True)
class Limits:
    """What requests may cost.

    Attributes:
        body: Size limit of one request body, in bytes.
        memory: Size limit of all request bodies together, in bytes.
        asking: Maximum number of requests that wait for a model; further ones get 503.
        upload: Timeout for receiving a body, in seconds.
        answer: Timeout of a model's answer with all attempts, in seconds.
    """

    body: int = 21 * 2**20
    memory: int = 512 * 2**20
    asking: int = 64
    upload: float = 60.0
    answer: float = 60.0


def build(
    upstream: Upstream,
    *,
    keys: KeyRing | None = None,
    limits: Limits | None = None,
    telemetry: Telemetry | None = None,
) -> Starlette:
    """The application.

    Args:
        upstream: Server of the models.
        keys: Accepted API keys; None accepts every request from this machine, and no other.
        limits: Limits on requests.
        telemetry: Receives a span for each request; nobody by default.
    """
    limits = limits or Limits()
    metrics = GatewayMetrics()
    gateway = _Gateway(upstream, limits, metrics, keyed=keys is not None)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        close = getattr(upstream, "close", None)
        if close is not None:
            await close()

    return Starlette(
        routes=gateway.routes(),
        middleware=[
            Middleware(RequestContextMiddleware, telemetry=telemetry or SilentTelemetry()),
            Middleware(AccessControlMiddleware, keys=keys, metrics=metrics),
        ],
        exception_handlers={
            GatewayError: _refuse,
            HTTPException: _refuse_route,
        },
        lifespan=lifespan,
    )


class _Gateway:
    def __init__(
        self, upstream: Upstream, limits: Limits, metrics: GatewayMetrics, *, keyed: bool
    ) -> None:
        self._upstream = upstream
        self._limits = limits
        self._counts = metrics
        self._catalogue = Catalogue(upstream)
        self._assets = Assets.load()
        self._memory = Memory(limits.memory)
        self._asking = 0
        self._description = json_response(describe(self._assets, limits.body, keyed=keyed)).body

    def routes(self) -> list[Route]:
        """Every path there is."""
        model = "/{model}"
        version = "/{model}/{version}"
        return [
            Route("/", self._page, methods=["GET"]),
            Route("/assets/{file}", self._part, methods=["GET"]),
            Route("/samples/{file}", self._sample, methods=["GET"]),
            Route("/healthz", self._alive, methods=["GET"]),
            Route("/readyz", self._ready, methods=["GET"]),
            Route("/models", self._models, methods=["GET"]),
            Route("/metrics", self._metrics, methods=["GET"]),
            Route("/openapi.json", self._openapi, methods=["GET"]),
            Route("/predictions" + model, self._predict, methods=_SEND),
            Route("/predictions" + version, self._predict, methods=_SEND),
            Route("/explanations" + model, self._explain, methods=_SEND),
            Route("/explanations" + version, self._explain, methods=_SEND),
        ]

    async def _page(self, request: Request) -> Response:
        return self._assets.page.response(request)

    async def _part(self, request: Request) -> Response:
        return _one_of(self._assets.parts, request)

    async def _sample(self, request: Request) -> Response:
        return _one_of(self._assets.samples, request)

    async def _alive(self, _: Request) -> Response:
        return json_response({"status": "alive"})

    async def _ready(self, _: Request) -> Response:
        reason = await self._catalogue.readiness()
        if reason is not None:
            raise busy(reason, seconds=3)
        return json_response({"status": "ready"})

    async def _models(self, _: Request) -> Response:
        return json_response({"models": await self._catalogue.models()})

    async def _metrics(self, _: Request) -> Response:
        # TorchServe's are on a port of the loopback interface that changes with each start.
        text = self._counts.text() + await self._upstream.metrics(seconds=_METRICS_SECONDS)
        return Response(text, media_type="text/plain; version=0.0.4")

    async def _openapi(self, _: Request) -> Response:
        return Response(self._description, media_type="application/json")

    async def _predict(self, request: Request) -> Response:
        wish = request.headers.get("x-explain", "false")
        if wish not in ("true", "false"):
            raise GatewayError(400, "the header X-Explain must be true or false")
        return await self._ask("predictions", request, explain=wish == "true")

    async def _explain(self, request: Request) -> Response:
        return await self._ask("explanations", request, explain=False)

    async def _ask(self, what: str, request: Request, *, explain: bool) -> Response:
        names = [str(name) for name in request.path_params.values()]
        if not all(_NAME.fullmatch(name) for name in names):
            raise GatewayError(404, "there is no such model, or no such version of it; see /models")
        limits = self._limits
        with self._memory.share() as share:
            content = await read_body(request, share, max_bytes=limits.body, seconds=limits.upload)
            body = await to_torchserve(content, request.headers.get("content-type"))
            if self._asking >= limits.asking:
                raise busy(f"{self._asking} requests wait for a model already; try again")
            self._asking += 1
            try:
                with self._counts.asking.track_inprogress():
                    answer = await self._upstream.predict(
                        "/".join(["", what, *names]), body, explain=explain, seconds=limits.answer
                    )
            finally:
                self._asking -= 1
        return Response(answer.content, answer.status, media_type="application/json")


def _one_of(files: dict[str, Asset], request: Request) -> Response:
    asset = files.get(request.path_params["file"])
    if asset is None:
        raise GatewayError(404, "there is no such file")
    return asset.response(request)


async def _refuse(_: Request, error: Exception) -> Response:
    assert isinstance(error, GatewayError)
    return error.response()


async def _refuse_route(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "")
        reason = f"{request.method} is not for this path; use {allowed}"
        return GatewayError(405, reason, error.headers).response()
    reason = "there is no such path; /openapi.json lists those there are"
    return GatewayError(error.status_code, reason, error.headers).response()
