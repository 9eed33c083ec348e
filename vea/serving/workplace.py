"""The folder that one TorchServe lives in, and the ports it listens on.

Everything that a server writes stays in its own folder: settings, log, keys, the archive and its
unpacked copy. Two servers on one machine therefore never meet. Only the loopback interface is ever
bound: TorchServe's management port can load code, so no other machine may reach it.
"""

from __future__ import annotations

import os
import random
import re
import shutil
import socket
import tempfile
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape

from handler.values.errors import VeaError
from handler.values.limits import ImageLimits

HOST = "127.0.0.1"
STATE_VARIABLE = "VEA_SERVING_STATE"
_EPHEMERAL = 32768  # from here on the kernel hands ports to clients
_SOCKET_PATH = 80  # a Unix socket's path has about 104 bytes, and the worker adds its name
# The largest image, in base64 and with something around it.
MAX_REQUEST_BYTES = -(-ImageLimits().max_bytes // 3) * 4 + 1024 * 1024

# Bodies of megabytes are garbage a moment later. This collector gives the heap back where the
# default one would let it grow to its limit, and what is alive is small, so its pauses are short.
_JAVA = (
    "-XX:+UseSerialGC -XX:MinHeapFreeRatio=10 -XX:MaxHeapFreeRatio=30 -XX:+ExitOnOutOfMemoryError"
)

# One rolling file: a server that runs for months keeps the last 120 MB of its log.
_LOG_SETTINGS = """<?xml version="1.0" encoding="UTF-8"?>
<Configuration status="error">
  <Appenders>
    <RollingFile name="log" fileName="{log}" filePattern="{log}.%i" filePermissions="rw-------">
      <!-- One line for each event, whatever bytes a client put into it. -->
      <PatternLayout pattern="%d{{ISO8601}} %-5p %c{{1}} - %enc{{%m %throwable{{1}}}}{{CRLF}}%n"/>
      <SizeBasedTriggeringPolicy size="20 MB"/>
      <DefaultRolloverStrategy max="5"/>
    </RollingFile>
    <!-- Of each request who, what, status, milliseconds; a query could name a picture. -->
    <RollingFile name="access" fileName="{access}" filePattern="{access}.%i"
                 filePermissions="rw-------">
      <PatternLayout
        pattern="%d{{ISO8601}} %replace{{%enc{{%m}}{{CRLF}}}}{{\\?\\S*}}{{}}%n"/>
      <SizeBasedTriggeringPolicy size="20 MB"/>
      <DefaultRolloverStrategy max="5"/>
    </RollingFile>
  </Appenders>
  <Loggers>
    <Logger name="org.apache" level="off"/>
    <Logger name="io.netty" level="error"/>
    <Logger name="ACCESS_LOG" level="info" additivity="false"><AppenderRef ref="access"/></Logger>
    <!-- What the worker prints: the only place that says why a model does not load. -->
    <Logger name="MODEL_LOG" level="info">
      <RegexFilter regex="Backend received inference.*" onMatch="DENY" onMismatch="NEUTRAL"/>
    </Logger>
    <Root level="warn"><AppenderRef ref="log"/></Root>
  </Loggers>
</Configuration>
"""


class ServingError(VeaError):
    """Serving failed in a way that a person can mend; the message says how."""


@dataclass(frozen=True)
class Ports:
    """TCP ports on the loopback interface."""

    inference: int
    management: int
    metrics: int
    grpc_inference: int
    grpc_management: int

    @classmethod
    def choose(
        cls,
        inference: int | None = None,
        management: int | None = None,
        metrics: int | None = None,
    ) -> Ports:
        """The given ports, and free ones for those not given.

        Raises:
            ServingError: a given port is taken or given twice.
        """
        given = [port for port in (inference, management, metrics) if port is not None]
        for port in given:
            if given.count(port) > 1:
                raise ServingError(f"port {port} is given twice; each service needs its own")
            if not _is_free(port):
                raise ServingError(
                    f"port {port} on {HOST} is taken or not allowed; stop what listens there "
                    "or choose another port"
                )
        candidates = random.sample(range(20000, _EPHEMERAL), 500)
        free = (port for port in candidates if port not in given and _is_free(port))
        return cls(
            inference or next(free),
            management or next(free),
            metrics or next(free),
            next(free),
            next(free),
        )


@dataclass(frozen=True)
class Workplace:
    """The paths in a server's folder.

    Attributes:
        state: the folder.
        scratch: where TorchServe unpacks archives and the worker puts its socket.
    """

    state: Path
    scratch: Path

    @classmethod
    def at(cls, state: Path) -> Workplace:
        """The workplace in ``state``, which need not exist."""
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
        """What the server and its workers have to say; rolled over at 20 MB."""
        return self.state / "server.log"

    @property
    def access_log(self) -> Path:
        """A line for each request; rolled over at 20 MB."""
        return self.state / "access.log"

    @property
    def console(self) -> Path:
        """What Java prints before its log is open, and if it cannot open it."""
        return self.state / "console.log"

    @property
    def keys(self) -> Path:
        """The access keys, which TorchServe writes at its start."""
        return self.state / "key_file.json"

    @property
    def record(self) -> Path:
        """Which server runs here: process, ports, model."""
        return self.state / "server.json"

    @property
    def models(self) -> Path:
        """The one place that TorchServe may load archives from."""
        return self.state / "models"

    def prepare(
        self,
        archive: Path,
        name: str,
        ports: Ports,
        *,
        workers: int | None = None,
        heap: int = 512,
        keep: Collection[str] = (),
    ) -> Workplace:
        """Make the folder ready for a start that serves ``archive`` as ``name``.

        Args:
            archive: the ``.mar``.
            name: of the model.
            ports: where to listen.
            workers: of the model; TorchServe's own choice if not given. An archive's own
                ``minWorkers`` goes before.
            heap: megabytes of the front end, where requests wait with their bodies.
            keep: names of archives of earlier starts that stay.

        Returns:
            This workplace, with its scratch folder elsewhere if its own path is too long.

        Raises:
            ServingError: the folder holds something else, or cannot be written.
        """
        try:
            self.state.mkdir(parents=True, exist_ok=True, mode=0o700)
            self.state.chmod(0o700)  # also where it was there before: keys and log are the user's
            if any(self.state.iterdir()) and not self.log_settings.exists():
                raise ServingError(
                    f"{self.state} holds other files; choose an empty folder for the server"
                )
            self.clear()
            ready = self
            if len(os.fsencode(self.scratch)) > _SOCKET_PATH:
                ready = Workplace(self.state, Path(tempfile.mkdtemp(prefix="vea-")))
            ready.scratch.mkdir(exist_ok=True)
            self.models.mkdir(exist_ok=True)
            for other in self.models.iterdir():
                if other.name not in {archive.name, *keep}:
                    other.unlink()
            _place(archive, self.models / archive.name)
            log_settings = _LOG_SETTINGS.format(
                log=escape(str(self.log)), access=escape(str(self.access_log))
            )
            self.log_settings.write_text(log_settings)
            self.settings.write_text(self._properties(archive.name, name, ports, workers, heap))
        except OSError as error:
            raise ServingError(f"cannot use {self.state} for the server: {error}") from None
        return ready

    def clear(self) -> None:
        """Remove what is of no use once the server is gone; log, history and archives stay."""
        for folder in (self.scratch, self.state / "logs"):
            shutil.rmtree(folder, ignore_errors=True)
        for file in (self.keys, self.record):
            file.unlink(missing_ok=True)

    def environment(self, java_home: Path, *, threads: int | None = None) -> dict[str, str]:
        """Environment variables for TorchServe and, through it, for its workers.

        Args:
            java_home: of the Java to run on.
            threads: of each worker.
        """
        environment = {
            name: value
            for name, value in os.environ.items()
            # These would override our settings file.
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
        if threads is not None:
            environment["OMP_NUM_THREADS"] = str(threads)
        return environment

    def _properties(
        self, file: str, name: str, ports: Ports, workers: int | None, heap: int
    ) -> str:
        # The value is a comma-separated list of regular expressions: a dot stands for any character
        # of the path that would mean something there.
        store = re.sub(r"[^A-Za-z0-9/_-]", ".", str(self.models))
        values = {
            "inference_address": f"http://{HOST}:{ports.inference}",
            "management_address": f"http://{HOST}:{ports.management}",
            "metrics_address": f"http://{HOST}:{ports.metrics}",
            "grpc_inference_address": HOST,
            "grpc_inference_port": ports.grpc_inference,
            "grpc_management_address": HOST,
            "grpc_management_port": ports.grpc_management,
            "load_models": f"{name}={file}",
            # No slash and no percent sign in the name: TorchServe refuses "..", but not "%2e%2e",
            # and then leaves the folder.
            "allowed_urls": f"file://{store}/[A-Za-z0-9._-]+[.]mar",
            # The workflow endpoint loads code even with the model API off. It reads and writes only
            # below this path, and nothing can lie below a file, whoever asks.
            "workflow_store": os.devnull,
            "disable_token_authorization": "false",
            "enable_model_api": "true",
            "metrics_mode": "prometheus",
            "model_metrics_auto_detect": "true",
            "disable_system_metrics": "true",
            # JSON reaches the handler as it came: TorchServe would parse it without a limit, and
            # log a traceback for each that is malformed.
            "decode_input_request": "false",
            "max_request_size": MAX_REQUEST_BYTES,
            "vmargs": f"-Xmx{heap}m {_JAVA}",
        }
        if workers is not None:
            values["default_workers_per_model"] = workers
        return "".join(f"{key}={value}\n" for key, value in values.items())


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        # As the server does: a connection that has just been closed does not block the port.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except (OSError, OverflowError):
            return False
        return True


def _place(archive: Path, target: Path) -> None:
    if archive == target:
        return
    target.unlink(missing_ok=True)
    try:
        os.link(archive, target)
    except OSError:  # another file system, or one without links
        shutil.copyfile(archive, target)
