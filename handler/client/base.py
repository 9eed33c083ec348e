"""What `Client` and `AsyncClient` have in common: their arguments."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Generic, TypeVar

from handler.client.errors import EndpointError
from handler.client.exchange import Exchange
from handler.client.keys import FixedKey, KeyFile, Keys
from handler.client.retry import RetryPolicy

Http = TypeVar("Http")


class BaseClient(ABC, Generic[Http]):
    """A client without its calls.

    Args:
        url: Address of the service, such as ``http://127.0.0.1:8080``.
        model: Name of the model on the service.
        version: Version of the model; None for its default version.
        key: Access key; at most one of ``key``, ``key_file`` and ``keys`` may be given.
        key_file: Path of TorchServe's ``key_file.json``, for a service on this machine.
        keys: Any other source of keys.
        timeout: Seconds allowed for one try.
        concurrency: Number of requests that `predict_many` has in flight; the service batches them.
        policy: Limits on retries.
        traceparent: W3C trace context that requests carry where the program has no OpenTelemetry
            span around the call.

    Raises:
        EndpointError: ``url`` is not an address, or more than one source of keys is given.
    """

    def __init__(
        self,
        url: str,
        *,
        model: str,
        version: str | None = None,
        key: str | None = None,
        key_file: Path | None = None,
        keys: Keys | None = None,
        timeout: float = 60.0,
        concurrency: int = 16,
        policy: RetryPolicy | None = None,
        traceparent: str | None = None,
    ) -> None:
        self._exchange = Exchange(
            url,
            model=model,
            version=version,
            keys=keys_from(key, key_file, keys),
            timeout=timeout,
            policy=policy or RetryPolicy(),
            traceparent=traceparent,
        )
        self.concurrency = concurrency
        # Some for other callers while `predict_many` runs.
        self._http = self._open(2 * concurrency)

    @abstractmethod
    def _open(self, max_connections: int) -> Http:
        """Open an HTTP client with at most ``max_connections`` connections."""


def keys_from(key: str | None, key_file: Path | None, keys: Keys | None) -> Keys:
    """The source of keys that was given; requests carry no key if there is none.

    Raises:
        EndpointError: More than one source was given, or the key cannot be sent in a header.
    """
    if sum(source is not None for source in (key, key_file, keys)) > 1:
        raise EndpointError("give at most one of key, key_file and keys")
    if keys is not None:
        return keys
    if key_file is not None:
        return KeyFile(key_file)
    if key is not None and not (key.isascii() and key.isprintable() and key == key.strip()):
        raise EndpointError(
            "the key begins or ends with a space, or has characters that a header must not contain"
        )
    return FixedKey(key)
