"""Which models can be asked, and whether they answer: `/models` and `/readyz`.

TorchServe's health check says yes long before a model answers, so readiness is a real prediction;
it and the list are kept for a short while, for however many people ask.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from typing import Any, Generic, TypeVar

from handler.values.probe_image import probe_image
from vea.web.bodies import RAW, Body
from vea.web.errors import GatewayError
from vea.web.upstream import Upstream

_LIST_SECONDS, _READY_SECONDS, _PROBE_SECONDS = 15.0, 3.0, 20.0
_SUMMARY = ("summary", "intended_use")

T = TypeVar("T")


class TTLCache(Generic[T]):
    """Caches one value for a time to live; concurrent callers wait for a single computation.

    Args:
        make: Computes the value.
        seconds: Time to live of the value.
    """

    def __init__(self, make: Callable[[], Awaitable[T]], seconds: float) -> None:
        self._make = make
        self._seconds = seconds
        self._lock = asyncio.Lock()
        self._value: T | None = None
        self._until = 0.0

    async def get(self) -> T:
        """The cached value, computed anew if it has expired."""
        async with self._lock:
            if self._value is None or time.monotonic() > self._until:
                self._value = await self._make()
                self._until = time.monotonic() + self._seconds
            return self._value


class Catalogue:
    """The models that ``upstream`` serves."""

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream
        self._models = TTLCache(self._list, _LIST_SECONDS)
        self._ready = TTLCache(self._try_all, _READY_SECONDS)
        self._probe = Body(probe_image(), RAW)

    async def models(self) -> list[dict[str, Any]]:
        """Name, default version, and digest and card summary of each version, for each model.

        Raises:
            GatewayError: TorchServe does not list them.
        """
        return await self._models.get()

    async def readiness(self) -> str | None:
        """None if every model's default version answers, else the reason."""
        return (await self._ready.get()) or None

    async def _try_all(self) -> str:
        try:
            for name in await self._names():
                path = f"/predictions/{name}"
                answer = await self._upstream.predict(
                    path, self._probe, explain=False, seconds=_PROBE_SECONDS
                )
                if answer.status != 200:
                    return f"the model {name} answers with status {answer.status}"
        except GatewayError as error:
            return error.reason
        return ""

    async def _names(self) -> list[str]:
        status, listed = await self._upstream.manage("/models?limit=100", seconds=_PROBE_SECONDS)
        names = [str(item["modelName"]) for item in listed["models"]] if status == 200 else []
        if not names:
            raise GatewayError(503, "no model is loaded", {"Retry-After": "5"})
        return sorted(names)

    async def _list(self) -> list[dict[str, Any]]:
        return [await self._describe(name) for name in await self._names()]

    async def _describe(self, name: str) -> dict[str, Any]:
        _, default = await self._upstream.manage(f"/models/{name}", seconds=_PROBE_SECONDS)
        _, every = await self._upstream.manage(f"/models/{name}/all", seconds=_PROBE_SECONDS)
        versions = [str(item["modelVersion"]) for item in every]
        return {
            "name": name,
            "default": str(default[0]["modelVersion"]),
            "versions": [await self._describe_version(name, version) for version in versions],
        }

    async def _describe_version(self, name: str, version: str) -> dict[str, Any]:
        described: dict[str, Any] = {"version": version, "ready": False, "digest": None}
        described["card"] = {}
        try:
            # The digest is the one that predictions carry: it is read from one.
            answer = await self._upstream.predict(
                f"/predictions/{name}/{version}", self._probe, explain=False, seconds=_PROBE_SECONDS
            )
            if answer.status == 200:
                described["ready"] = True
                described["digest"] = json.loads(answer.content)["model"]["digest"]
                described["card"] = await self._card(name, version)
        except GatewayError:
            pass  # listed as not ready
        return described

    async def _card(self, name: str, version: str) -> dict[str, str]:
        path = f"/models/{name}/{version}?customized=true"
        status, answer = await self._upstream.manage(path, seconds=_PROBE_SECONDS)
        own = answer[0].get("customizedMetadata") if status == 200 else None
        try:
            described: Any = json.loads(own) if isinstance(own, str) else own
            card = described["card"]
            return {key: str(card[key]) for key in _SUMMARY if card.get(key)}
        except (TypeError, KeyError, ValueError, AttributeError):
            return {}
