"""Access keys: none, a fixed one, or TorchServe's key file with its renewal.

TorchServe writes ``key_file.json`` into its working directory; its keys expire after 60 minutes.
The management port issues a new key to a request with the API key of the same file. This
invalidates the old key for every process, so a client whose key is refused reads the file again.
"""

from __future__ import annotations

import json
import re
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal, Protocol

from handler.client.errors import EndpointError
from handler.client.flow import Flow, Request, Sleep, send

Purpose = Literal["inference", "management"]
_MARGIN = timedelta(seconds=60)
_DEFAULT_MANAGEMENT = "http://127.0.0.1:8081"
_TIMEOUT = 30.0  # seconds
_POLL = 0.02  # seconds
_NEVER = "9999-12-31T00:00:00+00:00"
_MAX_READS = 20


class CredentialsUnavailable(EndpointError):
    """The keys have disappeared: the server is restarting, or has ended."""


class Keys(Protocol):
    """Source of access keys."""

    def current(self) -> Flow[str | None]:
        """The key to send; None to send none.

        Raises:
            CredentialsUnavailable: The key has disappeared; there may be one again later.
            EndpointError: There is no key.
        """
        ...

    def after_refusal(self, refused: str | None) -> Flow[str | None]:
        """A key other than ``refused``; the same key if there is no other."""
        ...


class FixedKey:
    """A source with a single key.

    Args:
        key: Access key; None to send none.
    """

    def __init__(self, key: str | None) -> None:
        self._key = key

    def current(self) -> Flow[str | None]:
        """The key."""
        yield from ()
        return self._key

    def after_refusal(self, refused: str | None) -> Flow[str | None]:
        """The key: there is no other."""
        yield from ()
        return self._key


class KeyFile:
    """TorchServe's ``key_file.json``.

    Args:
        path: Path of the file.
        purpose: Name of the key in the file.
        management: Address of the management port, which issues new keys. By default it is read
            from the ``config.properties`` beside the file, where `vea serve` writes it; without
            that file it is TorchServe's own default.
    """

    def __init__(
        self, path: Path, *, purpose: Purpose = "inference", management: str | None = None
    ) -> None:
        self.path = path
        self.purpose: Purpose = purpose
        self._management = management
        self._renewing = threading.Lock()
        self._seen = False

    def current(self) -> Flow[str]:
        """A key that is valid for at least a minute, renewed if need be.

        Raises:
            CredentialsUnavailable: The file has disappeared, or the server cannot be reached for a
                new key.
            EndpointError: There is no such file, or the server issues no new key.
        """
        key, expires = yield from self._read()
        if expires - datetime.now(UTC) >= _MARGIN:
            return key
        return (yield from self._renewed(key))

    def after_refusal(self, refused: str | None) -> Flow[str]:
        """The file's key if it has changed, else a new one; raises the errors of `current`."""
        key, _ = yield from self._read()
        if key != refused:
            return key
        return (yield from self._renewed(key))

    def _renewed(self, old: str) -> Flow[str]:
        # Never wait for the lock: in an event loop its holder could not go on.
        while not self._renewing.acquire(blocking=False):
            yield Sleep(_POLL)
            if (key := (yield from self._read())[0]) != old:
                return key
        try:
            if (key := (yield from self._read())[0]) != old:
                return key
            # Only the API key may request this. TorchServe writes the new key into its file.
            master, _ = yield from self._entry("API")
            headers = {"Authorization": f"Bearer {master}"}
            url = f"{self._management or management_beside(self.path)}/token?type={self.purpose}"
            reply = yield from send(Request("GET", url, _TIMEOUT, headers))
            if reply.status == 0:
                raise CredentialsUnavailable(f"the server issued no new key: {reply.failure}")
            if reply.status != 200:
                raise EndpointError(
                    f"the server issues no new {self.purpose} key (status {reply.status}); the key "
                    f"in {self.path} has expired or belongs to another server"
                )
            return (yield from self._read())[0]
        finally:
            self._renewing.release()

    def _read(self) -> Flow[tuple[str, datetime]]:
        key, expires = yield from self._entry(self.purpose)
        return key, datetime.fromisoformat(expires)

    def _entry(self, purpose: str) -> Flow[tuple[str, str]]:
        """A key and the time when it expires; the API key never does."""
        for read in range(_MAX_READS):
            try:
                entry = json.loads(self.path.read_text())[purpose]
                key, expires = entry["key"], entry.get("expiration time", _NEVER)
                datetime.fromisoformat(expires)
                self._seen = True
                return key, expires
            except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
                # TorchServe overwrites the file: for a moment it is empty or truncated.
                if read + 1 == _MAX_READS or not isinstance(error, ValueError):
                    gone = self._seen and isinstance(error, FileNotFoundError)
                    raise (CredentialsUnavailable if gone else EndpointError)(
                        f"no access keys of a running server in {self.path}: {error}"
                    ) from None
            yield Sleep(_POLL)
        raise AssertionError("the last read returns or raises")


def management_beside(key_file: Path) -> str:
    """Management address in the settings beside a key file; TorchServe's default without them."""
    try:
        settings = key_file.with_name("config.properties").read_text()
    except OSError:
        return _DEFAULT_MANAGEMENT
    found = re.search(r"^\s*management_address\s*[=:]\s*(\S+)", settings, re.MULTILINE)
    return found[1].rstrip("/") if found else _DEFAULT_MANAGEMENT
