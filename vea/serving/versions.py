"""Promote, roll back and remove versions of a model on a server that goes on answering.

The old version never stops: the new one is loaded beside it, answers real requests that nobody
sees, and only then becomes the default. What fails is taken back whole. Each step can be repeated,
so that after a kill the same command goes on where it was.
"""

from __future__ import annotations

import fcntl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from handler.values.errors import VeaError
from vea.serving.errors import ServingError
from vea.serving.history import Action, Event, History
from vea.serving.management import Management, Served
from vea.serving.model_files import ModelFiles
from vea.serving.server import TorchServe
from vea.serving.smoke_test import smoke_test
from vea.serving.verification import VerifiedArchive, verify

_DRAINING = 60.0  # seconds that requests under way may take
_IDLE = 0.3  # seconds without work after which a worker counts as idle

OnStep = Callable[[str], None]


@dataclass(frozen=True)
class Version:
    """A served version, with what the state folder knows of it.

    Attributes:
        served: Description by TorchServe.
        digest: Digest of its archive; None if the archive is missing from the model store.
        since: Time at which it last became the default, ISO 8601; None if it never did.
    """

    served: Served
    digest: str | None
    since: str | None


class Versions:
    """The versions that one running server has, and can be given.

    Args:
        server: Running server.
        on_step: Called with a short description of each step.
    """

    def __init__(self, server: TorchServe, on_step: OnStep = lambda step: None) -> None:
        self.server = server
        self.management = Management(server.client, server.model)
        self.files = ModelFiles(server.directory)
        self.history = History(server.directory.state)
        self._say = on_step

    def served(self) -> list[Version]:
        """What the server has, the default first."""
        since = {e.digest: e.at for e in self.history.events() if e.action != "remove"}
        found = []
        for served in self.management.versions().values():
            digest = self.files.digest(served.file)
            found.append(Version(served, digest, since.get(digest or "")))
        return sorted(found, key=lambda item: (not item.served.default, item.served.version))

    def promote(self, archive: Path, *, digest: str | None = None) -> VerifiedArchive:
        """Make an archive the default version.

        Args:
            archive: Path of a ``.mar`` of the model that the server serves.
            digest: Expected digest.

        Raises:
            ArchiveError: The archive is damaged, or its digest is not ``digest``.
            ServingError: The archive cannot be served; the server continues as before.
        """
        with self._locked():
            self._say(f"verifying {archive}")
            verified = verify(archive, digest=digest)
            if verified.config.name != self.server.model:
                raise ServingError(
                    f"{archive} is the model {verified.config.name}; this server serves "
                    f"{self.server.model}: start another server for it"
                )
            self._refuse_other_archive_of(verified)
            self._bring_forward(verified, "promote", source=archive.resolve())
            return verified

    def rollback(self) -> VerifiedArchive:
        """Make the version the default that was it before.

        Raises:
            ArchiveError: The stored archive has changed.
            ServingError: There is no earlier default version, or it can no longer be served.
        """
        with self._locked():
            event = self.history.previous()
            if event is None:
                raise ServingError("there is nothing to roll back to: no other version was served")
            kept = self.files.folder / event.file
            self._say(f"verifying {event.title}")
            verified = verify(kept, digest=event.digest)
            self._refuse_other_archive_of(verified)
            self._bring_forward(verified, "rollback", source=Path(event.source))
            return verified

    def remove(self, version: str) -> Version:
        """Stop serving a version and delete the server's copies of it; never the default.

        Raises:
            ServingError: The version is the default, or does not exist.
        """
        with self._locked():
            found = {item.served.version: item for item in self.served()}
            chosen = found.get(version)
            if chosen is None:
                have = ", ".join(sorted(found))
                raise ServingError(f"there is no version {version} here; there are: {have}")
            if chosen.served.default:
                raise ServingError(
                    f"version {version} is the default; promote another one before you remove it"
                )
            self._drain(version)
            self._take_away(version, chosen.served.file, drop=True)
            self._remember(
                "remove", version, chosen.digest or "", chosen.served.file, Path(chosen.served.file)
            )
            return chosen

    def _refuse_other_archive_of(self, archive: VerifiedArchive) -> None:
        version = archive.config.version
        there = self.management.versions().get(version)
        if there is None:
            return
        digest = self.files.digest(there.file)
        if digest != archive.digest:
            raise ServingError(
                f"version {version} is served already, from another archive "
                f"({(digest or 'unknown')[:12]}, not {archive.digest[:12]}): "
                "package yours with a new --version"
            )

    def _bring_forward(self, archive: VerifiedArchive, action: Action, *, source: Path) -> None:
        """Load, test, switch, record; or leave everything as it was."""
        version = archive.config.version
        before = self._default()
        if before.version == version:
            self._say(f"{archive.title} is the default already")
            self._remember_once(action, archive, before.file, source)
            return
        there = self.management.versions().get(version)
        file = there.file if there else self.files.keep(archive).path.name
        switched = False
        try:
            if there is None:
                self._say(f"loading {archive.title} beside version {before.version}")
                workers = max(1, len(before.statuses))
                self.management.register(file, workers=workers)
            self.management.wait_until_ready(version)
            self._say(f"asking version {version} about the bundled photos")
            smoke_test(self.management, version, archive.digest)
            self._say(f"making version {version} the default")
            switched = True
            self.management.set_default(version)
            self._check_default(archive)
        except BaseException as error:  # also Ctrl-C: nothing half done may stay
            self._undo(before, version, file, switched=switched, loaded=there is None)
            if isinstance(error, VeaError | OSError):
                raise ServingError(
                    f"{error}\n{archive.title} was not promoted; version {before.version} "
                    "answers as before"
                ) from None
            raise
        self._remember_once(action, archive, file, source)

    def _check_default(self, archive: VerifiedArchive) -> None:
        default = self._default()
        if default.version != archive.config.version:
            raise ServingError(f"the default is still version {default.version}")

    def _undo(
        self, before: Served, version: str, file: str, *, switched: bool, loaded: bool
    ) -> None:
        # What was the default once is there on purpose; its archive is wanted for a rollback.
        wanted = file in self.history.files()
        with suppress(VeaError, OSError):  # the first failure is the one to tell
            if switched:
                self.management.set_default(before.version)
            if loaded or not wanted:
                self._take_away(version, file, drop=not wanted)

    def _take_away(self, version: str, file: str, *, drop: bool) -> None:
        if version in self.management.versions():
            self.management.unregister(version)
        left = self.management.versions().values()
        if drop and file not in {served.file for served in left}:
            self.files.drop(file)
        digests = {self.files.digest(served.file) for served in left}
        if None not in digests:  # else an unpacked copy in use could not be told from a leftover
            self.files.clear_leftovers({digest for digest in digests if digest})

    def _remember_once(
        self, action: Action, archive: VerifiedArchive, file: str, source: Path
    ) -> None:
        now = self.history.current()
        if now is None or (now.version, now.digest) != (archive.config.version, archive.digest):
            self._remember(action, archive.config.version, archive.digest, file, source)
        self.server.record_version(archive.config.version)

    def _remember(
        self, action: Action, version: str, digest: str, file: str, source: Path
    ) -> Event:
        return self.history.record(
            action,
            model=self.server.model,
            version=version,
            digest=digest,
            file=file,
            source=source,
        )

    def _default(self) -> Served:
        return next(served for served in self.management.versions().values() if served.default)

    def _drain(self, version: str) -> None:
        """Wait until a version has answered all that it was asked."""
        self._say(f"waiting until version {version} has answered what it was asked")
        deadline = time.monotonic() + _DRAINING
        while time.monotonic() < deadline:
            served = self.management.versions().get(version)
            if served is None or (not served.waiting and _are_idle(served.pids)):
                return

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """One change at a time; the lock goes with the process that holds it."""
        with (self.server.directory.state / "versions.lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise ServingError(
                    f"another command is changing the versions in {self.server.directory.state}; "
                    "wait until it has ended"
                ) from None
            yield


def _are_idle(pids: tuple[int, ...]) -> bool:
    """Whether processes do no work for a moment: a batch under way is in no queue."""
    before = _processor_seconds(pids)
    time.sleep(_IDLE)
    return _processor_seconds(pids) - before < _IDLE / 10


def _processor_seconds(pids: tuple[int, ...]) -> float:
    total = 0.0
    for pid in pids:
        with suppress(psutil.Error):
            times = psutil.Process(pid).cpu_times()
            total += times.user + times.system
    return total
