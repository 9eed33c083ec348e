"""Questions to a TorchServe on this machine, with its access keys.

What its users ask is `handler.client`'s; here is what starts, watches and manages a server: single
requests without retries, whose status counts, and the management port.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx2

import handler.client
from handler.client.connections import client_kwargs
from handler.client.errors import EndpointError
from handler.client.flow import Request, send
from handler.client.keys import KeyFile, Purpose
from handler.client.sync import run_sync
from vea.serving.errors import ServingError
from vea.serving.ports import HOST, Ports


class Client:
    """Asks one server about one model.

    Args:
        keys: TorchServe's ``key_file.json``.
        ports: Ports of the server.
        model: Name of the model.
    """

    def __init__(self, *, keys: Path, ports: Ports, model: str) -> None:
        self.keys = keys
        self.ports = ports
        self.model = model
        name = quote(model, safe="")
        self.path = f"/predictions/{name}"
        self.explanations_path = f"/explanations/{name}"
        self._management_path = f"/models/{name}"
        self._urls: dict[Purpose, str] = {
            "inference": f"http://{HOST}:{ports.inference}",
            "management": f"http://{HOST}:{ports.management}",
        }
        self._keys = {
            purpose: KeyFile(keys, purpose=purpose, management=self._urls["management"])
            for purpose in self._urls
        }
        # No connection outlives its answer: nobody would close it.
        self._http = httpx2.Client(**client_kwargs(None))

    def patient(self, **options: Any) -> handler.client.Client:
        """A client for predictions, which sends again what may have been lost.

        Args:
            options: Arguments of `handler.client.Client`.
        """
        return handler.client.Client(
            self._urls["inference"], model=self.model, keys=self._keys["inference"], **options
        )

    def predict(
        self, image: bytes, *, explain: bool = False, timeout: float = 120.0
    ) -> tuple[int, dict[str, Any]]:
        """Score one encoded image.

        Args:
            image: Encoded image.
            explain: Whether to request the attended objects and the activation map.
            timeout: Timeout in seconds.

        Returns:
            HTTP status, and the response document or the error document.

        Raises:
            OSError: No server answers.
        """
        path = self.explanations_path if explain else self.path
        headers = {"Content-Type": "application/octet-stream"}
        return self.ask("POST", path, body=image, headers=headers, timeout=timeout)

    def describe(self, *, timeout: float = 60.0) -> dict[str, Any]:
        """What the running model says of itself: its card, and which code serves it."""
        path = f"{self._management_path}?customized=true"
        status, answer = self.ask("GET", path, service="management", timeout=timeout)
        if status != 200:
            raise ServingError(f"the server does not describe its model (status {status})")
        own = answer[0]["customizedMetadata"]
        return json.loads(own) if isinstance(own, str) else own

    def workers(self, *, timeout: float = 10.0) -> list[str]:
        """Status of each worker, ``READY`` among them; empty while the model is unknown."""
        status, answer = self.ask(
            "GET", self._management_path, service="management", timeout=timeout
        )
        return [worker["status"] for worker in answer[0]["workers"]] if status == 200 else []

    def token(self, service: Purpose = "inference") -> str:
        """A key that is valid for at least a minute; asks for a new one if it must.

        Raises:
            ServingError: There is no key file, or the server issues no new key.
        """
        try:
            return run_sync(self._keys[service].current(), self._http)
        except EndpointError as error:
            raise ServingError(str(error)) from None

    def ask(
        self,
        method: str,
        path: str,
        *,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        service: Purpose = "inference",
        timeout: float = 120.0,
    ) -> tuple[int, Any]:
        """One request with the service's key; ``headers`` may replace the key.

        Returns:
            HTTP status and the JSON document; ``{}`` if the answer is none.

        Raises:
            OSError: No server answers.
            ServingError: There is no valid key.
        """
        sent = dict(headers or {})
        if "Authorization" not in sent:
            sent["Authorization"] = f"Bearer {self.token(service)}"
        request = Request(method, f"{self._urls[service]}{path}", timeout, sent, body)
        reply = run_sync(send(request), self._http)
        if reply.timed_out:
            raise TimeoutError(reply.failure)
        if reply.status == 0:
            raise ConnectionError(reply.failure)
        document = reply.document()
        return reply.status, {} if document is None else document
