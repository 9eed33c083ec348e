"""One real TorchServe that serves one archive on this machine.

    with TorchServe.running(archive, state=folder) as server:
        status, answer = server.predict(photo)

It runs in a process group of its own and is known by a record in its folder, so that another
program can find and stop it later, and so that nothing of it outlives a stop.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psutil

from handler.archive.files import read_card
from handler.atomic_files import atomic_write
from handler.values.probe_image import probe_image
from vea.serving.capacity import Capacity
from vea.serving.client import Client
from vea.serving.history import History
from vea.serving.java import find_java_home
from vea.serving.log import ServerLog
from vea.serving.workplace import STATE_VARIABLE, Ports, ServingError, Workplace

_POLL = 0.2  # seconds
_GRACE = 15.0  # seconds that a server may take to end by itself


class TorchServe:
    """A server that runs, whoever started it.

    Made by `start`, `running` or `attach`.

    Attributes:
        model: the name it serves the archive under.
        version: of the archive.
        ports: where it listens, on 127.0.0.1 only.
        workplace: its folder.
        client: for other questions than `predict`.
    """

    def __init__(
        self,
        *,
        workplace: Workplace,
        ports: Ports,
        model: str,
        version: str,
        pid: int,
        process: subprocess.Popen[bytes] | None = None,
    ) -> None:
        self.workplace = workplace
        self.ports = ports
        self.model = model
        self.version = version
        self.pid = pid
        self.client = Client(keys=workplace.keys, ports=ports, model=model)
        self._process = process

    @classmethod
    def start(
        cls,
        archive: Path,
        state: Path,
        *,
        ports: Ports | None = None,
        workers: int | None = None,
        timeout: float = 180.0,
    ) -> TorchServe:
        """Start a server and wait until its model has answered.

        Args:
            archive: the ``.mar``; it stays where it is.
            state: folder of the server, made if there is none.
            ports: free ones by default.
            workers: what suits the machine by default, or what the archive itself asks for.
            timeout: seconds until the first answer.

        Raises:
            ArchiveError: ``archive`` is no archive.
            JavaMissing: there is no Java.
            ServingError: a server already runs in ``state``, or this one does not come up.
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
        capacity = Capacity.of_this_machine()
        chosen = workers or capacity.workers()
        workplace = Workplace.at(state).prepare(
            source,
            config.name,
            ports,
            workers=chosen,
            heap=capacity.heap(),
            keep=history.files(),
        )
        environment = workplace.environment(java_home, threads=capacity.threads(chosen))
        process = _launch(workplace, environment)
        server = cls(
            workplace=workplace,
            ports=ports,
            model=config.name,
            version=config.version,
            pid=process.pid,
            process=process,
        )
        try:
            server._write_record()
            server._wait_until_it_answers(timeout)
            if workers is not None:
                server._scale(workers, timeout)
            history.record(
                "start",
                model=config.name,
                version=config.version,
                digest=digest,
                file=source.name,
                source=source,
            )
        except BaseException:  # also Ctrl-C: nothing may stay behind
            server.stop()
            raise
        return server

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
    ) -> Iterator[TorchServe]:
        """A server for the length of a ``with`` block; arguments as for `start`."""
        server = cls.start(
            archive, state, ports=Ports.choose(port), workers=workers, timeout=timeout
        )
        try:
            yield server
        finally:
            server.stop()

    @classmethod
    def attach(cls, state: Path) -> TorchServe | None:
        """The server that runs in ``state``, if there is one."""
        workplace = Workplace.at(state)
        try:
            record = json.loads(workplace.record.read_text())
            server = cls(
                workplace=Workplace(workplace.state, Path(record["scratch"])),
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
                f"a server for {other.model} already runs in {other.workplace.state}; "
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
        if self._process is not None:
            self._process.poll()  # else a dead child would stay as a zombie
        return [process for process in psutil.process_iter() if self._owns(process)]

    def stop(self) -> None:
        """End every process of the server and tidy its folder; the log stays."""
        deadline = time.monotonic() + _GRACE
        asked: set[int] = set()
        while members := self.processes():
            for process in members:
                try:
                    if time.monotonic() > deadline:
                        process.kill()
                    elif process.pid not in asked:
                        process.terminate()
                except psutil.NoSuchProcess:
                    continue
                asked.add(process.pid)
            time.sleep(_POLL)
        self.workplace.clear()

    def record_version(self, version: str) -> None:
        """Remember, for those who attach later, which version is the default now."""
        self.version = version
        self._write_record()

    def _owns(self, process: psutil.Process) -> bool:
        try:
            # The variable tells ours from a stranger's that was given the same number later.
            return (
                os.getpgid(process.pid) == self.pid
                and process.status() != psutil.STATUS_ZOMBIE
                and process.environ().get(STATE_VARIABLE) == str(self.workplace.state)
            )
        except (psutil.Error, OSError):
            return False

    def _write_record(self) -> None:
        record = {
            "pid": self.pid,
            "ports": asdict(self.ports),
            "model": self.model,
            "version": self.version,
            "scratch": str(self.workplace.scratch),
        }
        with atomic_write(self.workplace.record) as partial:
            partial.write_text(json.dumps(record, indent=2) + "\n")

    def _wait_until_it_answers(self, timeout: float) -> None:
        deadline = time.monotonic() + timeout
        log = ServerLog(self.workplace.log)
        image = probe_image()
        while time.monotonic() < deadline:
            if self._has_ended():
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

    def _has_ended(self) -> bool:
        # A child tells for certain; the process list may miss one that is just being started.
        if self._process is not None:
            return self._process.poll() is not None
        return not self.processes()

    def _failure(self, what: str) -> ServingError:
        log = self.workplace.log
        if not log.exists() or not log.stat().st_size:  # Java did not come that far
            log = self.workplace.console
        return ServingError(f"{what}; the end of {log}:\n{ServerLog(log).reason()}")


def _launch(workplace: Workplace, environment: dict[str, str]) -> subprocess.Popen[bytes]:
    command = [
        *(sys.executable, "-m", "ts.model_server", "--start", "--foreground", "--ncs"),
        *("--ts-config", str(workplace.settings)),
        *("--model-store", str(workplace.models)),
        *("--log-config", str(workplace.log_settings)),
    ]
    for log in (workplace.log, workplace.access_log):  # of an earlier server
        log.unlink(missing_ok=True)
    with workplace.console.open("wb") as console:
        return subprocess.Popen(
            command,
            cwd=workplace.state,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=console,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
