"""The folder of one TorchServe.

Everything that a server writes stays in its own folder: settings, log, keys, a copy of the archive
and what is unpacked of it. Two servers on one machine therefore share nothing.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from handler.atomic_files import atomic_write
from handler.values.configs import FACES_VARIABLE
from handler.values.runtimes import AUTO, VARIABLE
from vea.serving.errors import ServingError
from vea.serving.ports import Ports
from vea.serving.torchserve_settings import log4j_settings, server_properties

STATE_VARIABLE = "VEA_SERVING_STATE"
_SOCKET_PATH = 80  # a Unix socket's path has about 104 bytes, and the worker adds its name


@dataclass(frozen=True)
class ServerDirectory:
    """Paths in the folder of a server.

    Attributes:
        state: The folder.
        scratch: Folder in which TorchServe unpacks archives and the worker creates its socket.
    """

    state: Path
    scratch: Path

    @classmethod
    def at(cls, state: Path) -> ServerDirectory:
        """The directory at ``state``, which need not exist."""
        state = state.expanduser().resolve()
        return cls(state, state / "tmp")

    @property
    def settings(self) -> Path:
        """TorchServe's ``config.properties``."""
        return self.state / "config.properties"

    @property
    def log_settings(self) -> Path:
        """Log4j's settings."""
        return self.state / "log4j2.xml"

    @property
    def log(self) -> Path:
        """Log of the server and its workers; rolled over at 20 MB."""
        return self.state / "server.log"

    @property
    def access_log(self) -> Path:
        """A line for each request; rolled over at 20 MB."""
        return self.state / "access.log"

    @property
    def console(self) -> Path:
        """Output of Java before its log is open, or if it cannot be opened."""
        return self.state / "console.log"

    @property
    def keys(self) -> Path:
        """Access keys, which TorchServe writes when it starts."""
        return self.state / "key_file.json"

    @property
    def record(self) -> Path:
        """Record of the running server: process, ports, model."""
        return self.state / "server.json"

    @property
    def models(self) -> Path:
        """Model store: the only folder that TorchServe may load archives from."""
        return self.state / "models"

    def prepare(
        self,
        archive: Path,
        name: str,
        ports: Ports,
        *,
        file: str | None = None,
        workers: int | None = None,
        heap: int = 512,
        keep: Collection[str] = (),
        properties: Mapping[str, str] = MappingProxyType({}),
    ) -> ServerDirectory:
        """Prepare the folder for a start that serves ``archive`` as ``name``.

        Args:
            archive: Path of the ``.mar``, which is copied.
            name: Name of the model.
            ports: Ports to listen on.
            file: Name of the copy; by default that of the archive. TorchServe loads only names of
                ASCII letters, digits, ``.``, ``_`` and ``-`` that end in ``.mar``.
            workers: Number of workers of the model; None for TorchServe's default. ``minWorkers``
                of the archive takes precedence.
            heap: Heap limit in megabytes of the front end, where requests wait with their bodies.
            keep: Names of archives of earlier starts that are not deleted.
            properties: Additional entries of ``config.properties``.

        Returns:
            This directory, with a scratch folder elsewhere if its path is too long for a socket.

        Raises:
            ServingError: The folder contains something else, or cannot be written.
        """
        file = file or archive.name
        try:
            self.state.mkdir(parents=True, exist_ok=True, mode=0o700)
            self.state.chmod(0o700)  # also if it existed: keys and log are private to the user
            if any(self.state.iterdir()) and not self.log_settings.exists():
                raise ServingError(
                    f"{self.state} holds other files; choose an empty folder for the server"
                )
            self.clear()
            ready = self
            if len(os.fsencode(self.scratch)) > _SOCKET_PATH:
                ready = ServerDirectory(self.state, Path(tempfile.mkdtemp(prefix="vea-")))
            ready.scratch.mkdir(exist_ok=True)
            self.models.mkdir(exist_ok=True)
            for other in self.models.iterdir():
                if other.name not in {file, *keep}:
                    other.unlink()
            _copy(archive, self.models / file)
            self.log_settings.write_text(log4j_settings(self.log, self.access_log))
            self.settings.write_text(
                server_properties(self.models, file, name, ports, workers=workers, heap=heap)
                + "".join(f"{key}={value}\n" for key, value in properties.items())
            )
        except OSError as error:
            raise ServingError(f"cannot use {self.state} for the server: {error}") from None
        return ready

    def clear(self) -> None:
        """Delete what only a running server needs; log, history and archives stay."""
        for folder in (self.scratch, self.state / "logs"):
            shutil.rmtree(folder, ignore_errors=True)
        for file in (self.keys, self.record):
            file.unlink(missing_ok=True)

    def environment(
        self,
        java_home: Path,
        *,
        threads: int | None = None,
        runtime: str = AUTO,
        faces: bool = True,
    ) -> dict[str, str]:
        """Environment variables for TorchServe and, through it, for its workers.

        Args:
            java_home: Home folder of the Java installation.
            threads: Number of threads of each worker.
            runtime: Requested runtime of the backbones.
            faces: Whether the workers look for faces.
        """
        environment = {
            name: value
            for name, value in os.environ.items()
            # These would override the settings file.
            if not name.startswith("TS_") and name not in ("LOG_LOCATION", "METRICS_LOCATION")
        }
        # TorchServe puts these folders before the archive's own: a checkout among them would
        # serve the model with code that it was not packaged with.
        others = [
            folder
            for folder in os.environ.get("PYTHONPATH", "").split(os.pathsep)
            if Path(folder).is_absolute()
            and not any(Path(folder, name).exists() for name in ("handler", "handler.py"))
        ]
        environment["PYTHONPATH"] = os.pathsep.join(others)
        if not others:
            del environment["PYTHONPATH"]
        environment |= {
            "JAVA_HOME": str(java_home),
            "TEMP": str(self.scratch),
            "TMPDIR": str(self.scratch),
            "OMP_WAIT_POLICY": "passive",  # spinning threads take the cores from the other workers
            STATE_VARIABLE: str(self.state),
        }
        if runtime != AUTO:
            environment[VARIABLE] = runtime
        if not faces:
            environment[FACES_VARIABLE] = "off"
        if threads is not None:
            environment["OMP_NUM_THREADS"] = str(threads)
        return environment


def _copy(archive: Path, target: Path) -> None:
    """Copy an archive: with a link, a later write into the original would change the copy."""
    if archive == target:
        return
    with atomic_write(target) as partial:
        shutil.copyfile(archive, partial)
