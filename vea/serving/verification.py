"""Is this ``.mar`` whole, and is it the one that is meant?

An archive carries the code that serves it: whoever registers one runs it. So before TorchServe sees
an archive every file in it is hashed and compared with the archive's own list, files that are not
on the list are refused, and the digest of the list can be demanded.
"""

from __future__ import annotations

import hashlib
import json
import re
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from handler.archive.files import CONTENTS, read_card
from handler.values.archive_config import ArchiveConfig
from handler.values.errors import ArchiveError

_MANIFEST = "MAR-INF/MANIFEST.json"  # the archiver adds it after the list was made
_LONGEST_LIST = 4 << 20  # bytes; thousands of files
_CHUNK = 1 << 20
_ZIP_ERRORS = (zipfile.BadZipFile, OSError, EOFError, RuntimeError, zlib.error, KeyError)
_DIGEST = re.compile(r"[0-9a-f]{12,64}")
# They become parts of URLs and of file names.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")


@dataclass(frozen=True)
class VerifiedArchive:
    """An archive whose every file is the one that its list names.

    Attributes:
        path: Path of the ``.mar``.
        config: Names and settings.
        card: Model card.
        digest: SHA-256 (hex) of the list, and so of everything.
    """

    path: Path
    config: ArchiveConfig
    card: dict[str, Any]
    digest: str

    @property
    def title(self) -> str:
        """Name, version and the beginning of the digest, for people."""
        return f"{self.config.name} {self.config.version} ({self.digest[:12]})"


def verify(path: Path, *, digest: str | None = None) -> VerifiedArchive:
    """Check a ``.mar`` from end to end; nothing in it is run or unpacked to disk for good.

    Args:
        path: Path of the archive.
        digest: Expected digest, or at least its first 12 characters.

    Raises:
        ArchiveError: The archive has another format, is damaged, contains files that its list
            does not name, or its digest is not ``digest``.
    """
    if path.is_dir():
        raise ArchiveError(
            f"{path} is a folder; a server takes a .mar: make one with `vea package`"
        )
    config, card, found = read_card(path)
    try:
        with zipfile.ZipFile(path) as packed:
            _check_files(packed, path)
            _check_manifest(json.loads(_small(packed, _MANIFEST)), config, path)
    except (*_ZIP_ERRORS, ValueError, TypeError, AttributeError) as error:
        raise ArchiveError(f"{path} is not a model archive: {error}") from None
    for what, text in (("name", config.name), ("version", config.version)):
        if not _NAME.fullmatch(text):
            raise ArchiveError(
                f"the {what} of {path} is {text!r}; expected letters, digits, '.', '_' and '-'"
            )
    if digest is not None:
        _check_digest(found, digest.strip().lower().removeprefix("sha256:"), path)
    return VerifiedArchive(path, config, card, found)


def digest_of(path: Path) -> str | None:
    """The digest that an archive, packed or unpacked, says it has; None if it is none.

    Nothing is verified: this tells files apart, it does not vouch for them.
    """
    try:
        if path.is_dir():
            return hashlib.sha256((path / CONTENTS).read_bytes()).hexdigest()
        with zipfile.ZipFile(path) as packed:
            return hashlib.sha256(_small(packed, CONTENTS)).hexdigest()
    except (*_ZIP_ERRORS, ArchiveError):
        return None


def _check_files(packed: zipfile.ZipFile, path: Path) -> None:
    listed = json.loads(_small(packed, CONTENTS))
    names = [name for name in packed.namelist() if not name.endswith("/")]
    if len(names) != len(set(names)):
        raise ArchiveError(f"{path} holds two files of one name")
    unknown = sorted(set(names) - set(listed) - {CONTENTS, _MANIFEST})
    if unknown:
        raise ArchiveError(f"{path} holds {unknown[0]}, which its {CONTENTS} does not list")
    for name, expected in listed.items():
        if name.startswith("/") or ".." in Path(name).parts:
            raise ArchiveError(f"{path} lists {name}, which lies outside of it")
        with packed.open(name) as file:
            hashed = hashlib.sha256()
            while chunk := file.read(_CHUNK):
                hashed.update(chunk)
        if hashed.hexdigest() != expected:
            raise ArchiveError(f"{name} in {path} does not match the digest in {CONTENTS}")


def _check_manifest(manifest: Any, config: ArchiveConfig, path: Path) -> None:
    # It is on no list, and it says which of the files TorchServe runs, and under which name.
    model = manifest["model"]
    expected = {
        "modelName": config.name,
        "modelVersion": config.version,
        "handler": "service.py",
        "configFile": "model-config.yaml",
    }
    if model != expected:
        raise ArchiveError(
            f"{_MANIFEST} of {path} says {json.dumps(model, sort_keys=True)}; "
            f"expected {json.dumps(expected, sort_keys=True)}"
        )


def _check_digest(found: str, wanted: str, path: Path) -> None:
    if not _DIGEST.fullmatch(wanted):
        raise ArchiveError(f"{wanted!r} is not a digest: expected 12 to 64 hexadecimal digits")
    if not found.startswith(wanted):
        raise ArchiveError(f"{path} has the digest {found}, not {wanted}: it is another archive")


def _small(packed: zipfile.ZipFile, name: str) -> bytes:
    if packed.getinfo(name).file_size > _LONGEST_LIST:
        raise ArchiveError(f"{name} is too long to be one")
    return packed.read(name)
