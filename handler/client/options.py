"""What both clients make of their arguments."""

from __future__ import annotations

import io
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Generic, TypeVar

from PIL import Image

from handler.client.errors import EndpointError
from handler.client.exchange import Exchange
from handler.client.keys import FixedKey, KeyFile, Keys
from handler.client.retry import RetryPolicy

Http = TypeVar("Http")


class Configured(ABC, Generic[Http]):
    """A client before its calls: all that `Client` and `AsyncClient` are told.

    Args:
        url: of the service, ``http://127.0.0.1:8080``.
        model: the model's name there.
        version: one of its versions; the default one if not given.
        key: access key; at most one of this, ``key_file`` and ``keys``.
        key_file: TorchServe's ``key_file.json``, for a service on this machine.
        keys: any other source of keys.
        timeout: seconds for one try.
        concurrency: requests at a time in `predict_many`; the service makes batches of them.
        policy: how patient to be.

    Raises:
        EndpointError: ``url`` is no address, or more than one key is given.
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
    ) -> None:
        self._exchange = Exchange(
            url,
            model=model,
            version=version,
            keys=keys_from(key, key_file, keys),
            timeout=timeout,
            policy=policy or RetryPolicy(),
        )
        self.concurrency = concurrency
        # Some for others that ask while `predict_many` does.
        self._http = self._open(2 * concurrency)

    @abstractmethod
    def _open(self, connections: int) -> Http:
        """At most so many connections."""


def keys_from(key: str | None, key_file: Path | None, keys: Keys | None) -> Keys:
    """The one source of keys that was given; requests carry none if there is no source.

    Raises:
        EndpointError: more than one was given, or the key cannot stand in a header.
    """
    if sum(source is not None for source in (key, key_file, keys)) > 1:
        raise EndpointError("give one of a key, a key file and a source of keys")
    if keys is not None:
        return keys
    if key_file is not None:
        return KeyFile(key_file)
    if key is not None and not (key.isascii() and key.isprintable() and key == key.strip()):
        raise EndpointError("the key has spaces at its ends or characters no header may hold")
    return FixedKey(key)


def probe_image() -> bytes:
    """A small picture, to ask whether a service answers."""
    encoded = io.BytesIO()
    Image.linear_gradient("L").resize((64, 64)).convert("RGB").save(encoded, "PNG")
    return encoded.getvalue()
