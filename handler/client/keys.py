"""Access keys: none, a fixed one, or TorchServe's key file with its renewal.

TorchServe writes ``key_file.json`` into its working directory; its keys expire after 60 minutes.
A new one is asked for at the management port, with the API key of the same file. After that the
old key is worth nothing, to any other process as well: whoever is refused reads the file anew.
"""

from __future__ import annotations

import json
import re
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal, Protocol

from handler.client.errors import EndpointError
from handler.client.steps import Ask, Pause, Steps, send

Purpose = Literal["inference", "management"]
_MARGIN = timedelta(seconds=60)
_DEFAULT_MANAGEMENT = "http://127.0.0.1:8081"
_TIMEOUT = 30.0
_SOON = 0.02
_NEVER = "9999-12-31T00:00:00+00:00"
_READINGS = 20


class CredentialsUnavailable(EndpointError):
    """There were keys, and now there are none: the server is being started anew, or has ended."""


class Keys(Protocol):
    """Where a client's key comes from."""

    def current(self) -> Steps[str | None]:
        """The key to send; None to send none.

        Raises:
            CredentialsUnavailable: there is none any more; there may be again.
            EndpointError: there is none.
        """
        ...

    def after_refusal(self, refused: str | None) -> Steps[str | None]:
        """Another key than the ``refused`` one; the same one if there is no other."""
        ...


class FixedKey:
    """One key, whatever happens."""

    def __init__(self, key: str | None) -> None:
        self._key = key

    def current(self) -> Steps[str | None]:
        """The key."""
        yield from ()
        return self._key

    def after_refusal(self, refused: str | None) -> Steps[str | None]:
        """The key: there is no other."""
        yield from ()
        return self._key


class KeyFile:
    """TorchServe's ``key_file.json``.

    Args:
        path: of the file.
        purpose: which of its keys.
        management: address of the management port, which gives new keys. By default it is looked
            up in the ``config.properties`` beside the file, as `vea serve` lays them, and else
            TorchServe's own default.
    """

    def __init__(
        self, path: Path, *, purpose: Purpose = "inference", management: str | None = None
    ) -> None:
        self.path = path
        self.purpose: Purpose = purpose
        self._management = management
        self._renewing = threading.Lock()
        self._seen = False

    def current(self) -> Steps[str]:
        """A key that is valid for at least a minute, renewed if need be.

        Raises:
            CredentialsUnavailable: the file was there before, or the server cannot be asked for a
                new key.
            EndpointError: there is no such file, or the server gives no new key.
        """
        key, expires = yield from self._read()
        if expires - datetime.now(UTC) >= _MARGIN:
            return key
        return (yield from self._renewed(key))

    def after_refusal(self, refused: str | None) -> Steps[str]:
        """The file's key if it has changed since, else a new one; raises as `current`."""
        key, _ = yield from self._read()
        if key != refused:
            return key
        return (yield from self._renewed(key))

    def _renewed(self, old: str) -> Steps[str]:
        # Never wait for the lock: in an event loop its holder could not go on.
        while not self._renewing.acquire(blocking=False):
            yield Pause(_SOON)
            if (key := (yield from self._read())[0]) != old:
                return key
        try:
            if (key := (yield from self._read())[0]) != old:
                return key
            # Only the API key may ask. TorchServe writes the new key into its file.
            master, _ = yield from self._entry("API")
            headers = {"Authorization": f"Bearer {master}"}
            url = f"{self._management or management_beside(self.path)}/token?type={self.purpose}"
            reply = yield from send(Ask("GET", url, _TIMEOUT, headers))
            if reply.status == 0:
                raise CredentialsUnavailable(f"no new key from the server: {reply.failure}")
            if reply.status != 200:
                raise EndpointError(
                    f"the server gives no new {self.purpose} key (status {reply.status}); the one "
                    f"in {self.path} has expired or is of another server"
                )
            return (yield from self._read())[0]
        finally:
            self._renewing.release()

    def _read(self) -> Steps[tuple[str, datetime]]:
        key, expires = yield from self._entry(self.purpose)
        return key, datetime.fromisoformat(expires)

    def _entry(self, purpose: str) -> Steps[tuple[str, str]]:
        """A key and when it expires; the API key never does."""
        for reading in range(_READINGS):
            try:
                entry = json.loads(self.path.read_text())[purpose]
                key, expires = entry["key"], entry.get("expiration time", _NEVER)
                datetime.fromisoformat(expires)
                self._seen = True
                return key, expires
            except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
                # TorchServe writes over the file: for a moment it is empty or cut.
                if reading + 1 == _READINGS or not isinstance(error, ValueError):
                    away = self._seen and isinstance(error, FileNotFoundError)
                    raise (CredentialsUnavailable if away else EndpointError)(
                        f"no access keys of a running server in {self.path}: {error}"
                    ) from None
            yield Pause(_SOON)
        raise AssertionError("the last reading returns or raises")


def management_beside(key_file: Path) -> str:
    """The management address in the settings that lie beside a key file; TorchServe's default."""
    try:
        settings = key_file.with_name("config.properties").read_text()
    except OSError:
        return _DEFAULT_MANAGEMENT
    found = re.search(r"^\s*management_address\s*[=:]\s*(\S+)", settings, re.MULTILINE)
    return found[1].rstrip("/") if found else _DEFAULT_MANAGEMENT
