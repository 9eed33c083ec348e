"""TorchServe's two settings files: ``config.properties`` and Log4j's ``log4j2.xml``."""

from __future__ import annotations

import os
import re
from pathlib import Path
from xml.sax.saxutils import escape

from handler.values.limits import ImageLimits
from vea.serving.ports import HOST, Ports

# The largest image as base64, and a margin for the JSON or form around it.
MAX_REQUEST_BYTES = -(-ImageLimits().max_bytes // 3) * 4 + 1024 * 1024

# Request bodies are megabytes and short-lived. The serial collector returns the heap to the system
# where the default collector lets it grow to its limit; little stays alive, so pauses are short.
# Java only passes requests on: with the first of its two compilers it starts with less work, and a
# request takes half as much of its time.
_JAVA = (
    "-XX:+UseSerialGC -XX:MinHeapFreeRatio=10 -XX:MaxHeapFreeRatio=30 -XX:+ExitOnOutOfMemoryError "
    "-XX:TieredStopAtLevel=1"
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


def log4j_settings(log: Path, access_log: Path) -> str:
    """Content of ``log4j2.xml``: two log files, rolled over at 20 MB.

    Args:
        log: Log file of the server and its workers.
        access_log: Log file with a line for each request.
    """
    return _LOG_SETTINGS.format(log=escape(str(log)), access=escape(str(access_log)))


def server_properties(
    models: Path, file: str, model: str, ports: Ports, *, workers: int | None, heap: int
) -> str:
    """Content of ``config.properties``.

    Args:
        models: Model store, the only folder that archives are loaded from.
        file: Name of the archive in it that is loaded at the start.
        model: Name under which the archive is served.
        ports: Ports to listen on.
        workers: Number of workers; None for TorchServe's default.
        heap: Heap limit of the front end in megabytes.
    """
    # The value is a comma-separated list of regular expressions: a dot stands for any character
    # of the path that would mean something there.
    store = re.sub(r"[^A-Za-z0-9/_-]", ".", str(models))
    values = {
        "inference_address": f"http://{HOST}:{ports.inference}",
        "management_address": f"http://{HOST}:{ports.management}",
        "metrics_address": f"http://{HOST}:{ports.metrics}",
        "grpc_inference_address": HOST,
        "grpc_inference_port": ports.grpc_inference,
        "grpc_management_address": HOST,
        "grpc_management_port": ports.grpc_management,
        "load_models": f"{model}={file}",
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
