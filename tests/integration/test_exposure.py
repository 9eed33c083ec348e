"""What another program on this machine can do to a real `vea serve`, with each key and without one.

TorchServe 0.12.0 loads code through ``POST /workflows`` even where its model API is off; every
test here that says "no code" looks for the trace that such code would leave.
"""

from __future__ import annotations

import http.client
import ipaddress
import json
import shutil
import stat
import subprocess
import time
import zipfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import psutil
import pytest
from torchserve_server import drawn_images

from vea.serving.server import TorchServe

pytestmark = [pytest.mark.integration, pytest.mark.long]

KEYS = ["none", "wrong", "inference", "management", "API"]
WAITED = 5.0  # seconds in which a worker that loads a workflow has started, many times over


class Intruder:
    """An archive of code, and what tells whether it ran."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.trace = folder / "the-code-ran"
        self.archive = self.write(folder / "intruder.war")

    def write(self, target: Path) -> Path:
        """A workflow that leaves its trace as soon as a worker imports it."""
        manifest = {
            "createdOn": "01/01/2026 00:00:00",
            "runtime": "python",
            "archiverVersion": "0.2.4",
            "workflow": {
                "workflowName": "intruder",
                "specFile": "specification.yaml",
                "handler": "functions.py",
            },
        }
        specification = (
            "models:\n  min-workers: 1\n  max-workers: 1\n  batch-size: 1\n  max-batch-delay: 10\n"
            "dag:\n  before: [after]\n"
        )
        functions = (
            f"open({str(self.trace)!r}, 'w').close()\n"
            "def before(data, context):\n    return data\n"
            "def after(data, context):\n    return data\n"
        )
        with zipfile.ZipFile(target, "w") as packed:
            packed.writestr("WAR-INF/MANIFEST.json", json.dumps(manifest))
            packed.writestr("specification.yaml", specification)
            packed.writestr("functions.py", functions)
        return target

    def ran(self, *, within: float) -> bool:
        """Whether the code has run, or runs in the next seconds."""
        deadline = time.monotonic() + within
        while not self.trace.exists():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.1)
        return True


@pytest.fixture(scope="module")
def archive(tiny_archive: Path) -> Path:
    return tiny_archive


@pytest.fixture(scope="module")
def server(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TorchServe]:
    state = tmp_path_factory.mktemp("exposure") / "state"
    state.mkdir(mode=0o755)  # as another program may have made it
    state.chmod(0o755)
    with TorchServe.running(archive, state, workers=1) as running:
        yield running


@pytest.fixture
def intruder(tmp_path: Path) -> Intruder:
    return Intruder(tmp_path)


def key(server: TorchServe, name: str) -> dict[str, str]:
    """The header with one of the server's keys."""
    if name == "none":
        return {}
    if name == "wrong":
        return {"Authorization": "Bearer wrong"}
    return {"Authorization": f"Bearer {json.loads(server.directory.keys.read_text())[name]['key']}"}


def request(
    port: int, method: str, path: str, headers: dict[str, str], body: bytes | None = None
) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request(method, path, body=body, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def addresses_of_a_workflow(server: TorchServe, intruder: Intruder) -> list[str]:
    """Every spelling under which the server could find the intruder."""
    store = server.directory.models
    inside = intruder.write(store / "inside.war")
    up = "/".join([".."] * len(store.parts[1:]))
    return [
        intruder.archive.as_uri(),
        str(intruder.archive),
        inside.name,
        inside.as_uri(),
        str(inside),
        # The server of 0.12.0 copies this one into its store before it refuses the path ...
        f"file://{store}/{up}{intruder.archive}",
        f"file://{store}/{'/'.join(['%252e%252e'] * len(store.parts[1:]))}{intruder.archive}",
        # ... where the second request would find it.
        intruder.archive.name,
    ]


def test_every_socket_that_listens_is_on_the_loopback(server: TorchServe) -> None:
    listening = [
        connection.laddr
        for process in server.processes()
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    ]
    assert {address.port for address in listening} == set(asdict(server.ports).values())
    for address in listening:
        ip = ipaddress.ip_address(address.ip)
        mapped = ip.ipv4_mapped if isinstance(ip, ipaddress.IPv6Address) else None
        assert (mapped or ip).is_loopback, address


@pytest.mark.threat("T6", "T10")
def test_no_key_loads_code_through_the_workflow_endpoint(
    server: TorchServe, intruder: Intruder
) -> None:
    ports = server.ports
    for address in addresses_of_a_workflow(server, intruder):
        for name in KEYS:
            path = f"/workflows?url={address}"
            status, text = request(ports.management, "POST", path, key(server, name))
            assert 400 <= status < 500, (address, text)
            assert ("Token Authorization failed" in text) == (name != "management")
            for port in (ports.inference, ports.metrics):
                status, text = request(port, "POST", path, key(server, name))
                assert status in (400, 404, 405), (address, text)
    assert not intruder.ran(within=WAITED)
    assert list(server.directory.models.glob("intruder*")) == []
    assert server.predict(drawn_images(1)[0])[0] == 200


@pytest.mark.threat("T10")
def test_without_our_settings_the_management_key_does_load_code(
    archive: Path, intruder: Intruder, tmp_path: Path
) -> None:
    # What the test above would see if it saw nothing because it looks in the wrong place; and the
    # way from outside the store: the server copies the file before it refuses its path.
    models = tmp_path / "state" / "models"
    lax = {"workflow_store": str(models), "allowed_urls": f"file://{models}/.*"}
    with TorchServe.running(archive, tmp_path / "state", workers=1, properties=lax) as server:
        up = "/".join([".."] * len(server.directory.models.parts[1:]))
        outside = f"file://{server.directory.models}/{up}{intruder.archive}"
        answers = []
        for name in KEYS:
            assert not intruder.trace.exists()
            for address in (outside, intruder.archive.name):
                path = f"/workflows?url={address}"
                answers.append(request(server.ports.management, "POST", path, key(server, name)))
            if name == "management":
                assert intruder.ran(within=60.0), answers
                break


@pytest.mark.parametrize("name", KEYS)
@pytest.mark.threat("T10")
def test_a_model_from_outside_the_models_folder_is_refused(
    server: TorchServe, archive: Path, tmp_path: Path, name: str
) -> None:
    stranger = tmp_path / "stranger.mar"
    shutil.copy(archive, stranger)
    store = server.directory.models
    steps = len(store.parts[1:])
    before = sorted(store.iterdir())
    for address in (
        stranger.as_uri(),
        str(stranger),
        f"file://{store}/{'/'.join(['..'] * steps)}{stranger}",
        f"file://{store}/{'%252f'.join(['%252e%252e'] * steps)}{stranger}",
        f"file://{store}/{'%252f'.join(['..'] * steps)}%252f{str(stranger).replace('/', '%252f')}",
        f"http://127.0.0.1:{server.ports.inference}/stranger.mar",
    ):
        path = f"/models?url={address}&model_name=stranger&initial_workers=1&synchronous=true"
        status, text = request(server.ports.management, "POST", path, key(server, name))
        assert 400 <= status < 500, (address, text)
    assert sorted(store.iterdir()) == before
    status, _ = server.client.ask("GET", "/models/stranger", service="management")
    assert status == 404


@pytest.mark.parametrize("name", ["none", "wrong", "inference", "management"])
@pytest.mark.threat("T6")
def test_grpc_asks_for_the_same_keys(server: TorchServe, name: str, tmp_path: Path) -> None:
    package_name = "org.pytorch.serve.grpc"
    calls = {
        (server.ports.grpc_inference, f"{package_name}.inference.InferenceAPIsService/Ping"): (
            "inference"
        ),
        (
            server.ports.grpc_management,
            f"{package_name}.management.ManagementAPIsService/ListModels",
        ): "management",
    }
    for (port, method), needed in calls.items():
        ended = call_grpc(port, method, key(server, name), tmp_path)
        assert ("grpc-status: 0" in ended) == (name == needed), ended


@pytest.mark.threat("T10")
def test_grpc_registers_no_model_from_outside_the_models_folder(
    server: TorchServe, archive: Path, tmp_path: Path
) -> None:
    stranger = tmp_path / "stranger.mar"
    shutil.copy(archive, stranger)
    store = server.directory.models
    up = "/".join([".."] * len(store.parts[1:]))
    before = sorted(store.iterdir())
    method = "org.pytorch.serve.grpc.management.ManagementAPIsService/RegisterModel"
    for address in (stranger.as_uri(), f"file://{store}/{up}{stranger}"):
        url = address.encode()
        size = bytes([len(url) & 0x7F | 0x80, len(url) >> 7])  # as protobuf writes 128 to 16383
        content = bytes([9 << 3 | 2]) + size + url
        ended = call_grpc(
            server.ports.grpc_management, method, key(server, "management"), tmp_path, content
        )
        assert "grpc-status: 0" not in ended
        assert "allowed" in ended, ended  # and not for want of a key, or of sense
    assert sorted(store.iterdir()) == before


def call_grpc(
    port: int, method: str, headers: dict[str, str], folder: Path, content: bytes = b""
) -> str:
    """Headers and trailers of a call with one message; skips without a curl for HTTP/2."""
    message = folder / "message"
    message.write_bytes(b"\0" + len(content).to_bytes(4, "big") + content)  # not compressed
    sent = {"Content-Type": "application/grpc", "TE": "trailers", **headers}
    command = [
        *("curl", "--silent", "--max-time", "30", "--http2-prior-knowledge"),
        *(word for name, value in sent.items() for word in ("--header", f"{name}: {value}")),
        *("--data-binary", f"@{message}", "--dump-header", "-", "--output", "/dev/null"),
        f"http://127.0.0.1:{port}/{method}",
    ]
    try:
        ended = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no curl")
    if ended.returncode == 2:  # an option that this curl was built without
        pytest.skip("this curl speaks no HTTP/2")
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


@pytest.mark.threat("T9")
def test_other_users_of_the_machine_cannot_look_into_the_folder(server: TorchServe) -> None:
    place = server.directory
    assert stat.S_IMODE(place.state.stat().st_mode) == 0o700
    assert stat.S_IMODE(place.keys.stat().st_mode) == 0o600
    # The worker takes orders from its socket without a key: nobody else may reach it.
    assert place.scratch == place.state / "tmp" or not place.scratch.stat().st_mode & 0o077
    assert any(place.scratch.glob(".ts.sock.*"))


@pytest.mark.threat("T9")
def test_no_process_shows_a_key_in_its_arguments(server: TorchServe) -> None:
    keys = [entry["key"] for entry in json.loads(server.directory.keys.read_text()).values()]
    shown = " ".join(word for process in server.processes() for word in process.cmdline())
    assert "ts.model_server" in shown or "model-server.jar" in shown
    assert not any(secret in shown for secret in keys)


@pytest.mark.threat("T9")
def test_the_log_holds_no_key(server: TorchServe) -> None:
    keys = [entry["key"] for entry in json.loads(server.directory.keys.read_text()).values()]
    for name in KEYS:
        request(server.ports.inference, "POST", server.client.path, key(server, name), b"no image")
        request(server.ports.management, "GET", "/models", key(server, name))
    server.client.ask("GET", "/token?type=inference", headers=key(server, "API"))
    logs = sorted(server.directory.state.glob("*.log"))
    assert {server.directory.log, server.directory.access_log} <= set(logs)
    text = "".join(log.read_text() for log in logs)
    assert server.client.path in text
    assert not any(secret in text for secret in keys)
