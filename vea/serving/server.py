"""One real TorchServe that serves one archive on this machine.

    with TorchServe.running(archive, state=folder) as server:
        status, answer = server.predict(photo)

It runs in a process group of its own and is known by a record in its folder, so that another
program can find and stop it later, and so that nothing of it outlives a stop.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.parse import quote

import psutil

from handler.archive.files import read_card
from handler.atomic_files import atomic_write
from handler.values.probe_image import probe_image
from handler.values.runtimes import AUTO
from vea.serving.capacity import Capacity
from vea.serving.client import Client
from vea.serving.errors import ServingError
from vea.serving.history import History
from vea.serving.java import find_java_home
from vea.serving.log import ServerLog
from vea.serving.model_files import copy_name
from vea.serving.ports import Ports
from vea.serving.processes import ServerProcesses, launch
from vea.serving.server_directory import ServerDirectory

_POLL = 0.2  # seconds


class TorchServe:
    """A running server, whoever started it.

    Made by `start`, `running` or `attach`.

    Attributes:
        model: Name under which the archive is served.
        version: Version of the archive.
        ports: Ports on 127.0.0.1.
        directory: Folder of the server.
        pid: Process ID of the front end.
        client: Client for requests other than `predict`.
    """

    def __init__(
        self,
        *,
        directory: ServerDirectory,
        ports: Ports,
        model: str,
        version: str,
        pid: int,
        process: subprocess.Popen[bytes] | None = None,
    ) -> None:
        self.directory = directory
        self.ports = ports
        self.model = model
        self.version = version
        self.pid = pid
        self.client = Client(keys=directory.keys, ports=ports, model=model)
        self._processes = ServerProcesses(directory, pid, process)

    @classmethod
    def start(
        cls,
        archive: Path,
        state: Path,
        *,
        ports: Ports | None = None,
        workers: int | None = None,
        timeout: float = 180.0,
        properties: Mapping[str, str] = MappingProxyType({}),
        runtime: str = AUTO,
        faces: bool = True,
    ) -> TorchServe:
        """Start a server and wait until its model has answered.

        Args:
            archive: Path of the ``.mar``; the server works on a copy.
            state: Folder of the server, created if it does not exist.
            ports: Ports to listen on; free ports by default.
            workers: Number of workers; by default ``minWorkers`` of the archive, or what suits the
                machine.
            timeout: Seconds until the first answer.
            properties: Additional entries of TorchServe's ``config.properties``.
            runtime: Requested runtime of the backbones; with ``auto`` the archive's own setting.
            faces: Whether faces are looked for, if the model does so at all.

        Raises:
            ArchiveError: ``archive`` is no archive.
            JavaMissing: There is no Java.
            ServingError: A server already runs in ``state``, or this one does not start.
        """
        if archive.is_dir():
            raise ServingError(
                f"{archive} is a folder; TorchServe needs a .mar: make one with `vea package`"
            )
        config, _, digest = read_card(archive)
        cls.require_none(state)
        java_home = find_java_home()
        ports = ports or Ports.choose()
        history, source = History(state), archive.resolve()
        file = copy_name(source.name, config.name, config.version, digest)
        capacity = Capacity.of_this_machine()
        chosen = workers or capacity.workers()
        directory = ServerDirectory.at(state).prepare(
            source,
            config.name,
            ports,
            file=file,
            workers=chosen,
            heap=capacity.heap(),
            keep=history.files(),
            properties=properties,
        )
        environment = directory.environment(
            java_home, threads=capacity.threads(chosen), runtime=runtime, faces=faces
        )
        process = launch(directory, environment)
        server = cls(
            directory=directory,
            ports=ports,
            model=config.name,
            version=config.version,
            pid=process.pid,
            process=process,
        )
        try:
            server._write_record()
            server._wait_until_it_answers(timeout)
            if not faces:
                server._require_no_faces(archive)
            if workers is not None:
                server._scale(workers, timeout)
            history.record(
                "start",
                model=config.name,
                version=config.version,
                digest=digest,
                file=file,
                source=source,
            )
        except BaseException:  # also Ctrl-C: nothing may stay behind
            server.stop()
            raise
        return server

    def _require_no_faces(self, archive: Path) -> None:
        """The archive serves itself with its own code, which can be older than this program."""
        _, answer = self.predict(probe_image())
        if "face" in answer:
            raise ServingError(
                f"the code in {archive} is too old to leave faces out: pack it again with "
                f"`vea package {archive} --version VERSION`"
            )

    @classmethod
    @contextmanager
    def running(
        cls,
        archive: Path,
        state: Path,
        *,
        port: int | None = None,
        workers: int | None = None,
        timeout: float = 180.0,
        runtime: str = AUTO,
        properties: Mapping[str, str] = MappingProxyType({}),
        faces: bool = True,
    ) -> Iterator[TorchServe]:
        """A server for the length of a ``with`` block; arguments as for `start`."""
        server = cls.start(
            archive,
            state,
            ports=Ports.choose(port),
            workers=workers,
            timeout=timeout,
            runtime=runtime,
            properties=properties,
            faces=faces,
        )
        try:
            yield server
        finally:
            server.stop()

    @classmethod
    def attach(cls, state: Path) -> TorchServe | None:
        """The server that runs in ``state``, if there is one."""
        directory = ServerDirectory.at(state)
        try:
            record = json.loads(directory.record.read_text())
            server = cls(
                directory=ServerDirectory(directory.state, Path(record["scratch"])),
                ports=Ports(**record["ports"]),
                model=record["model"],
                version=record["version"],
                pid=record["pid"],
            )
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return server if server.processes() else None

    @classmethod
    def require_none(cls, state: Path) -> None:
        """Raises: ServingError: a server already runs in ``state``."""
        other = cls.attach(state)
        if other is not None:
            raise ServingError(
                f"a server for {other.model} already runs in {other.directory.state}; "
                "stop it with `vea serve --stop` or choose another --state"
            )

    @property
    def url(self) -> str:
        """Where predictions are made."""
        return f"http://127.0.0.1:{self.ports.inference}{self.client.path}"

    def predict(
        self, image: bytes, *, explain: bool = False, timeout: float = 120.0
    ) -> tuple[int, dict[str, Any]]:
        """HTTP status and answer for one encoded image; see `Client.predict`."""
        return self.client.predict(image, explain=explain, timeout=timeout)

    def processes(self) -> list[psutil.Process]:
        """Every live process of this server: front end and workers."""
        return self._processes.alive()

    def stop(self) -> None:
        """End every process of the server and clear its folder; the log stays."""
        self._processes.end()
        self.directory.clear()

    def record_version(self, version: str) -> None:
        """Remember, for those who attach later, which version is the default now."""
        self.version = version
        self._write_record()

    def _write_record(self) -> None:
        record = {
            "pid": self.pid,
            "ports": asdict(self.ports),
            "model": self.model,
            "version": self.version,
            "scratch": str(self.directory.scratch),
        }
        with atomic_write(self.directory.record) as partial:
            partial.write_text(json.dumps(record, indent=2) + "\n")

    def _wait_until_it_answers(self, timeout: float) -> None:
        deadline = time.monotonic() + timeout
        log = ServerLog(self.directory.log)
        image = probe_image()
        while time.monotonic() < deadline:
            if self._processes.have_ended():
                raise self._failure("TorchServe ended before it answered")
            if log.is_crash_loop():
                raise self._failure(f"the model {self.model} cannot be loaded")
            try:
                # The health check says yes long before a worker is ready, and a request for a
                # model without a worker gets no reply: look for the worker first.
                ready = "READY" in self.client.workers()
                if ready and self.predict(image, timeout=30.0)[0] == 200:
                    return
            except (OSError, ServingError):
                pass  # no port or no keys yet
            time.sleep(_POLL)
        raise self._failure(f"the model {self.model} gave no answer within {timeout:.0f} seconds")

    def _scale(self, workers: int, timeout: float) -> None:
        """Bring the model to so many workers, whatever its archive says; wait until all serve."""
        if len(self.client.workers()) == workers:
            return
        status, answer = self.client.ask(
            "PUT",
            f"/models/{quote(self.model, safe='')}"
            f"?min_worker={workers}&max_worker={workers}&synchronous=true",
            service="management",
            timeout=timeout,
        )
        if status != 200:
            raise self._failure(f"the server did not start {workers} workers ({answer})")

    def _failure(self, what: str) -> ServingError:
        log = self.directory.log
        if not log.exists() or not log.stat().st_size:  # Java did not come that far
            log = self.directory.console
        return ServingError(f"{what}; the end of {log}:\n{ServerLog(log).reason()}")
