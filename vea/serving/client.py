"""Questions to a TorchServe on this machine, with its access keys.

TorchServe writes its keys beside it and lets them expire; the client reads them there, and asks
for a new one in time. It speaks HTTP directly: a proxy in the environment must not see the keys.
"""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

from vea.serving.workplace import HOST, Ports, ServingError

Service = Literal["inference", "management"]
_MARGIN = timedelta(seconds=60)


class Client:
    """Asks one server about one model.

    Args:
        keys: TorchServe's ``key_file.json``.
        ports: where the server listens.
        model: the model's name.
    """

    def __init__(self, *, keys: Path, ports: Ports, model: str) -> None:
        self.keys = keys
        self.ports = ports
        name = quote(model, safe="")
        self.path = f"/predictions/{name}"
        self.explanations_path = f"/explanations/{name}"
        self._management_path = f"/models/{name}"
        self._renewing = threading.Lock()

    def predict(
        self, image: bytes, *, explain: bool = False, timeout: float = 120.0
    ) -> tuple[int, dict[str, Any]]:
        """Score one encoded image.

        Args:
            image: the file's bytes.
            explain: ask for the attended objects and the activation map too.
            timeout: seconds.

        Returns:
            HTTP status, and the response document or the error document.

        Raises:
            OSError: no server answers.
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

    def token(self, service: Service = "inference") -> str:
        """A key that is valid for at least a minute; asks for a new one if it must.

        Raises:
            ServingError: there is no key file, or the server gives no new key.
        """
        with self._renewing:
            entry = self._read_keys()[service]
            expires = datetime.fromisoformat(entry["expiration time"])
            if expires - datetime.now(UTC) < _MARGIN:
                self._renew(service)
                entry = self._read_keys()[service]
            return entry["key"]

    def ask(
        self,
        method: str,
        path: str,
        *,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        service: Service = "inference",
        timeout: float = 120.0,
    ) -> tuple[int, Any]:
        """One request with the service's key; ``headers`` may replace the key.

        Returns:
            HTTP status and the JSON document; ``{}`` if the answer is none.
        """
        sent = dict(headers or {})
        sent.setdefault("Authorization", f"Bearer {self.token(service)}")
        return self._send(method, path, body, sent, service, timeout)

    def _send(
        self,
        method: str,
        path: str,
        body: bytes | None,
        headers: Mapping[str, str],
        service: Service,
        timeout: float,
    ) -> tuple[int, Any]:
        port = self.ports.inference if service == "inference" else self.ports.management
        connection = http.client.HTTPConnection(HOST, port, timeout=timeout)
        try:
            connection.request(method, path, body=body, headers=dict(headers))
            response = connection.getresponse()
            text = response.read()
        except http.client.HTTPException as error:
            raise ConnectionError(f"the server broke off its answer: {error!r}") from None
        finally:
            connection.close()
        try:
            return response.status, json.loads(text)
        except ValueError:
            return response.status, {}

    def _read_keys(self) -> dict[str, dict[str, str]]:
        try:
            keys = json.loads(self.keys.read_text())
        except (OSError, ValueError) as error:
            raise ServingError(
                f"no access keys of a running server in {self.keys}: {error}"
            ) from None
        return keys

    def _renew(self, service: Service) -> None:
        # TorchServe writes the new key into its file; only the API key may ask for one.
        headers = {"Authorization": f"Bearer {self._read_keys()['API']['key']}"}
        status, _ = self._send("GET", f"/token?type={service}", None, headers, "management", 30.0)
        if status != 200:
            raise ServingError(f"the server gives no new {service} key (status {status})")
