"""The archives in a server's models folder, and the copies that TorchServe unpacks of them.

The folder is the only place that TorchServe loads archives from. Each archive that is promoted is
copied there whole, under a name that says what it is, and stays until its version is removed.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Collection
from pathlib import Path

from handler.atomic_files import atomic_write
from vea.serving.errors import ServingError
from vea.serving.server_directory import ServerDirectory
from vea.serving.verification import VerifiedArchive, digest_of, verify

_LOADABLE = re.compile(r"[A-Za-z0-9._-]+[.]mar")  # see allowed_urls in TorchServe's settings


def copy_name(file: str, model: str, version: str, digest: str) -> str:
    """Name of the server's copy of an archive.

    Args:
        file: Name of the archive, which is kept if TorchServe can load an archive of that name.
        model: Name of the model.
        version: Version of the model.
        digest: Digest of the archive.
    """
    return file if _LOADABLE.fullmatch(file) else f"{model}-{version}-{digest[:12]}.mar"


class ModelFiles:
    """What lies in a server's models folder and in its scratch folder."""

    def __init__(self, directory: ServerDirectory) -> None:
        self.folder = directory.models
        self.unpacked = directory.scratch / "models"

    def keep(self, archive: VerifiedArchive) -> VerifiedArchive:
        """Copy an archive into the folder, and verify the copy.

        A link would do for the bytes, but whoever writes into the original later would change what
        is served.

        Raises:
            ArchiveError: The archive has changed since it was verified.
            ServingError: The archive cannot be copied.
        """
        if archive.path.parent == self.folder:
            return archive
        config = archive.config
        target = self.folder / copy_name("", config.name, config.version, archive.digest)
        try:
            self.folder.mkdir(exist_ok=True)
            for partial in self.folder.glob(".*.partial"):  # of a command that was killed
                partial.unlink(missing_ok=True)
            with atomic_write(target) as partial:
                shutil.copyfile(archive.path, partial)
        except OSError as error:
            raise ServingError(f"cannot copy {archive.path} to {target}: {error}") from None
        return verify(target, digest=archive.digest)

    def digest(self, file: str) -> str | None:
        """Of a file in the folder; None if it is gone or no archive."""
        return digest_of(self.folder / file)

    def drop(self, file: str) -> None:
        """Delete an archive of the folder."""
        (self.folder / Path(file).name).unlink(missing_ok=True)

    def clear_leftovers(self, digests: Collection[str]) -> int:
        """Delete unpacked archives but for those with one of ``digests``; returns how many.

        TorchServe leaves some behind: of registrations that failed, of versions that were removed.
        """
        if not self.unpacked.is_dir():
            return 0
        stale = [
            folder
            for folder in self.unpacked.iterdir()
            if folder.is_dir() and not folder.is_symlink() and digest_of(folder) not in digests
        ]
        for folder in stale:
            shutil.rmtree(folder, ignore_errors=True)
        return len(stale)
