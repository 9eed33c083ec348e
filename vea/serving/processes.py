"""The processes of one TorchServe: the Java front end and its Python workers.

They run in a process group of their own and carry the server's folder in their environment, so that
another program can find and end all of them later.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time

import psutil

from vea.serving.server_directory import STATE_VARIABLE, ServerDirectory

_POLL = 0.2  # seconds
_GRACE = 15.0  # seconds until processes that do not end by themselves are killed


class ServerProcesses:
    """Processes of a server, whoever started it.

    Args:
        directory: Folder of the server.
        pid: Process ID of the front end, which is the ID of the process group.
        child: The front end, if this program started it.
    """

    def __init__(
        self, directory: ServerDirectory, pid: int, child: subprocess.Popen[bytes] | None = None
    ) -> None:
        self.pid = pid
        self._state = str(directory.state)
        self._child = child

    def alive(self) -> list[psutil.Process]:
        """Every process of the server that has not ended."""
        if self._child is not None:
            self._child.poll()  # otherwise a child that has ended would remain as a zombie
        return [process for process in psutil.process_iter() if self._owns(process)]

    def have_ended(self) -> bool:
        """Whether the front end has ended; for another program's server, whether all have."""
        # The process list may miss a child that is just being started.
        if self._child is not None:
            return self._child.poll() is not None
        return not self.alive()

    def end(self) -> None:
        """Terminate every process, kill those that take longer than 15 seconds, and wait."""
        deadline = time.monotonic() + _GRACE
        terminated: set[int] = set()
        while members := self.alive():
            for process in members:
                try:
                    if time.monotonic() > deadline:
                        process.kill()
                    elif process.pid not in terminated:
                        process.terminate()
                except psutil.NoSuchProcess:
                    continue
                terminated.add(process.pid)
            time.sleep(_POLL)

    def _owns(self, process: psutil.Process) -> bool:
        try:
            # The variable excludes a stranger's process that was given the same ID later.
            return (
                os.getpgid(process.pid) == self.pid
                and process.status() != psutil.STATUS_ZOMBIE
                and process.environ().get(STATE_VARIABLE) == self._state
            )
        except (psutil.Error, OSError):
            return False


def launch(directory: ServerDirectory, environment: dict[str, str]) -> subprocess.Popen[bytes]:
    """Start TorchServe in a prepared folder.

    Args:
        directory: Folder of the server.
        environment: Environment variables; see `ServerDirectory.environment`.
    """
    command = [
        *(sys.executable, "-m", "ts.model_server", "--start", "--foreground", "--ncs"),
        *("--ts-config", str(directory.settings)),
        *("--model-store", str(directory.models)),
        *("--log-config", str(directory.log_settings)),
    ]
    for log in (directory.log, directory.access_log):  # of an earlier server
        log.unlink(missing_ok=True)
    with directory.console.open("wb") as console:
        return subprocess.Popen(
            command,
            cwd=directory.state,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=console,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
