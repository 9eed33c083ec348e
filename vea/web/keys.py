"""API keys of the gateway's own: a file with one hash a line, never the keys themselves.

A line is ``NAME sha256:HEX``. A key holds 256 random bits, so one round of SHA-256 is as good as a
slow hash would be, and a request does not have to wait for it. A line that is taken out of the file
is a key that no longer opens anything, without a restart.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from pathlib import Path

from handler.values.errors import VeaError

_PREFIX = "vea_"
_NAME = re.compile(r"[A-Za-z0-9._@-]{1,64}")
_HASH = re.compile(r"sha256:([0-9a-f]{64})")


def new_key(name: str) -> tuple[str, str]:
    """A key, and the line of the file that lets it in.

    Raises:
        VeaError: ``name`` is not one word.
    """
    if not _NAME.fullmatch(name):
        raise VeaError(
            f"'{name}' cannot name a key: take 1 to 64 letters, digits, dots, dashes or @"
        )
    key = _PREFIX + secrets.token_urlsafe(32)
    return key, f"{name} sha256:{_digest(key)}"


class KeyRing:
    """The keys that a file lets in.

    Args:
        path: Path of the file.

    Raises:
        VeaError: The file cannot be read, or a line of it is not a key.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._stamp: tuple[int, int] | None = None
        self._hashes: dict[str, str] = {}
        self._read()

    def owner(self, key: str) -> str | None:
        """Name of the key's line; None for a key that is not let in."""
        try:
            self._read()
        except VeaError:
            # Half written or gone: nobody is let in until it can be read again.
            return None
        digest = _digest(key)
        found = None
        for name, expected in self._hashes.items():
            # All are compared, each in constant time: how long it takes tells nothing.
            if hmac.compare_digest(digest, expected):
                found = name
        return found

    def _read(self) -> None:
        try:
            state = self.path.stat()
            stamp = (state.st_mtime_ns, state.st_size)
            if stamp == self._stamp:
                return
            self._stamp = None
            lines = self.path.read_text(encoding="utf-8").splitlines()
        except (OSError, ValueError) as error:
            raise VeaError(f"cannot read the API keys in {self.path}: {error}") from None
        hashes: dict[str, str] = {}
        for number, line in enumerate(lines, 1):
            fields = line.split()
            if not fields or line.lstrip().startswith("#"):
                continue
            match = _HASH.fullmatch(fields[-1])
            if len(fields) != 2 or not match or not _NAME.fullmatch(fields[0]):
                raise VeaError(
                    f"line {number} of {self.path} is no key: expected NAME sha256:HEX, as "
                    "`vea web --new-key NAME` prints it"
                )
            if fields[0] in hashes:
                raise VeaError(f"{self.path} names '{fields[0]}' twice; each key needs its own")
            hashes[fields[0]] = match[1]
        if not hashes:
            raise VeaError(f"{self.path} holds no key: add one with `vea web --new-key NAME`")
        self._hashes, self._stamp = hashes, stamp


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()
