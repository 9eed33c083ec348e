"""TorchServe's management API for one model: which versions there are, and changing that.

Only archives in the server's own model store can be named; see `vea.serving.torchserve_settings`.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

from vea.serving.client import Client
from vea.serving.errors import ServingError

_POLL = 0.2  # seconds
_LOADING = 300.0  # seconds that a version may take to load


@dataclass(frozen=True)
class Served:
    """A version as TorchServe describes it.

    Attributes:
        version: Version of the model.
        file: Name of its archive in the model store.
        default: Whether requests without a version are answered by this one.
        statuses: Status of each worker, such as ``READY``.
        pids: Process IDs of the workers.
        started: Start time of the oldest worker, ISO 8601; None without a worker.
        waiting: Number of requests in its queue.
    """

    version: str
    file: str
    default: bool
    statuses: tuple[str, ...]
    pids: tuple[int, ...]
    started: str | None
    waiting: int

    @property
    def ready(self) -> int:
        """Workers that answer."""
        return self.statuses.count("READY")


class Management:
    """What can be asked of, and done to, the versions of one model."""

    def __init__(self, client: Client, model: str) -> None:
        self.client = client
        self.model = model
        self._path = f"/models/{quote(model, safe='')}"

    def versions(self) -> dict[str, Served]:
        """Every version that is registered, by name."""
        listed = self._ask("GET", f"{self._path}/all", "list the versions")
        (default,) = self._ask("GET", self._path, "name the default version")
        return {
            entry["modelVersion"]: _served(entry, entry["modelVersion"] == default["modelVersion"])
            for entry in listed
        }

    def register(self, file: str, *, workers: int = 1, timeout: float = _LOADING) -> None:
        """Load an archive of the models folder beside what is served; returns when it is loaded.

        TorchServe itself takes a version back whose workers cannot start.
        """
        query = urlencode(
            {
                "url": file,
                "model_name": self.model,
                "initial_workers": workers,
                "synchronous": "true",
            }
        )
        self._ask("POST", f"/models?{query}", f"load {file}", timeout=timeout)

    def wait_until_ready(self, version: str, *, timeout: float = _LOADING) -> None:
        """Return once a worker of the version answers.

        Raises:
            ServingError: No worker is ready in time, or the version is gone.
        """
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            served = self.versions().get(version)
            if served is None:
                raise ServingError(f"version {version} is not there any more")
            if served.ready:
                return
            if not served.statuses:  # an interrupted start, or somebody scaled it down
                self._ask(
                    "PUT",
                    f"{self._of(version)}?min_worker=1&synchronous=true",
                    f"start a worker of version {version}",
                    timeout=timeout,
                )
            time.sleep(_POLL)
        raise ServingError(f"no worker of version {version} was ready in {timeout:.0f} seconds")

    def set_default(self, version: str) -> None:
        """Let requests that name no version go to this one from now on."""
        self._ask("PUT", f"{self._of(version)}/set-default", f"make {version} the default")

    def unregister(self, version: str) -> None:
        """Stop serving a version; the default one cannot be meant."""
        self._ask("DELETE", self._of(version), f"remove version {version}", timeout=120.0)

    def predict(self, version: str, image: bytes) -> tuple[int, dict[str, Any]]:
        """HTTP status and answer of one version to one encoded image."""
        return self.client.ask(
            "POST",
            f"{self.client.path}/{quote(version, safe='')}",
            body=image,
            headers={"Content-Type": "application/octet-stream"},
        )

    def _of(self, version: str) -> str:
        return f"{self._path}/{quote(version, safe='')}"

    def _ask(self, method: str, path: str, what: str, *, timeout: float = 30.0) -> Any:
        try:
            status, answer = self.client.ask(method, path, service="management", timeout=timeout)
        except OSError as error:
            raise ServingError(f"TorchServe could not {what}: {error}") from None
        if status != 200:
            said = answer.get("message") if isinstance(answer, dict) else None
            raise ServingError(f"TorchServe could not {what}: {said or 'no reason'} ({status})")
        return answer


def _served(entry: dict[str, Any], default: bool) -> Served:
    workers = entry.get("workers", [])
    return Served(
        version=entry["modelVersion"],
        file=entry["modelUrl"].rsplit("/", 1)[-1],
        default=default,
        statuses=tuple(worker["status"] for worker in workers),
        pids=tuple(worker["pid"] for worker in workers if worker.get("pid")),
        started=min((worker["startTime"] for worker in workers), default=None),
        waiting=int(entry.get("jobQueueStatus", {}).get("pendingRequests", 0)),
    )
