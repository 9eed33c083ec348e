"""What the image would run, run here: its command, its health check, its end.

There is no engine for containers here. The command of the Dockerfile starts with only the packages
that the image would have: all others are hidden from it and from TorchServe's workers.
"""

from __future__ import annotations

import configparser
import http.client
import importlib.metadata
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import dockerfile_parse
import psutil
import pytest
from nginx_server import WEB, Nginx, free_port
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from torchserve_server import REPOSITORY, drawn_images

from train.package import package
from vea.serving.server_directory import STATE_VARIABLE
from vea.web.keys import new_key

pytestmark = [pytest.mark.integration, pytest.mark.long]

DOCKERFILE = REPOSITORY / "deploy" / "docker" / "Dockerfile"
GRACE = 45  # seconds: what the gateway and TorchServe may take to end, and some to spare
_HIDE = """
import sys
from importlib.machinery import PathFinder

class OfTheImage(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        hidden = name.partition(".")[0] in {names!r}
        return None if hidden else PathFinder.find_spec(name, path, target)

sys.meta_path[sys.meta_path.index(PathFinder)] = OfTheImage
"""


@dataclass
class Container:
    """The image's command, running.

    Attributes:
        process: of `vea`.
        port: where it listens.
        key: lets a client in.
        state: folder of TorchServe.
        log: what it printed.
    """

    process: subprocess.Popen[bytes]
    port: int
    key: str
    state: Path
    log: Path

    def members(self) -> list[psutil.Process]:
        """TorchServe and its workers."""
        found = []
        for process in psutil.process_iter():
            try:
                of_the_server = process.environ().get(STATE_VARIABLE) == str(self.state)
                if of_the_server and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
            except psutil.Error:  # it has ended meanwhile
                continue
        return found

    def asking(self) -> int:
        """How many requests the gateway is at work on, by its own count."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request("GET", "/metrics", headers={"Authorization": f"Bearer {self.key}"})
            text = connection.getresponse().read().decode()
        finally:
            connection.close()
        (count,) = re.findall(r"^vea_web_asking (\S+)$", text, re.MULTILINE)
        return int(float(count))

    def ask(self, method: str, path: str, body: bytes | None = None, key: str = "") -> int:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        headers = {"Content-Type": "application/octet-stream"}
        if key:
            headers["Authorization"] = f"Bearer {key}"
        try:
            connection.request(method, path, body=body, headers=headers)
            response = connection.getresponse()
            response.read()
            return response.status
        finally:
            connection.close()


def words_of(kind: str) -> list[str]:
    """An instruction of the Dockerfile in exec form."""
    parser = dockerfile_parse.DockerfileParser(fileobj=DOCKERFILE.open("rb"))
    (value,) = [item["value"] for item in parser.structure if item["instruction"] == kind]
    return json.loads(value[value.index("[") :])


def packages_of_the_image() -> set[str]:
    """Distributions that `pip install vea[web]` brings, by this machine's metadata."""
    settings = configparser.ConfigParser()
    settings.read(REPOSITORY / "setup.cfg")
    waiting: list[Requirement] = []

    def add(lines: str) -> None:
        for line in lines.splitlines():
            text = line.partition("#")[0].strip()
            if text.startswith("vea["):
                add(settings["options.extras_require"][text[4:-1]])
            elif text:
                waiting.append(Requirement(text))

    add(settings["options"]["install_requires"])
    add(settings["options.extras_require"]["web"])
    found: set[str] = set()
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        extras = requirement.extras or {""}
        marker = requirement.marker
        if marker and not any(marker.evaluate({"extra": extra}) for extra in ("", *extras)):
            continue
        if name in found:
            continue
        try:
            needs = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:
            continue  # of an extra that this machine does not need
        found.add(name)
        for line in needs:
            need = Requirement(line)
            if need.marker is None or any(need.marker.evaluate({"extra": e}) for e in extras):
                waiting.append(need)
    return found


def hidden_modules() -> set[str]:
    """Top-level names that are importable here and would not be in the image."""
    image = packages_of_the_image()
    owners = importlib.metadata.packages_distributions()
    return {
        module
        for module, names in owners.items()
        if not {canonicalize_name(name) for name in names} & {*image, "vea", "pip", "setuptools"}
    }


@pytest.fixture(scope="module")
def root(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the image holds, as far as it is not this machine's own."""
    root = tmp_path_factory.mktemp("image")
    package(tiny_model, root / "model_store", name="tiny", version="0.1", card={})
    hidden = hidden_modules()
    assert {"pandas", "pytest", "matplotlib", "boto3"} <= hidden
    assert not {"torch", "ts", "starlette", "dlib"} & hidden
    (root / "site").mkdir()
    (root / "site" / "sitecustomize.py").write_text(_HIDE.format(names=hidden))
    return root


def run(root: Path) -> Container:
    """Start the image's command and wait for its health."""
    key, line = new_key("test")
    (root / "api-keys").write_text(line + "\n")
    port = free_port()
    places = {
        "--host=0.0.0.0": "--host=127.0.0.1",
        "--port=8000": f"--port={port}",
        "--state=/tmp/vea": f"--state={root / 'vea'}",
        "--api-keys=/run/secrets/vea/api-keys": f"--api-keys={root / 'api-keys'}",
    }
    assert set(places) < set(words_of("CMD"))
    command = [places.get(word, word) for word in words_of("CMD")]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(root / "site"), str(REPOSITORY)]),
        "HOME": str(root),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    tini = shutil.which("tini")
    start = [*([tini, "-s", "--"] if tini else []), sys.executable, "-m", "vea.main", *command]
    log = root / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            start, cwd=root, env=environment, stdout=output, stderr=subprocess.STDOUT
        )
    container = Container(process, port, key, root / "vea", log)
    until_it_is_healthy(container)
    return container


@pytest.fixture(scope="module")
def container(root: Path) -> Iterator[Container]:
    running = run(root)
    try:
        yield running
    finally:
        running.process.send_signal(signal.SIGTERM)
        running.process.wait(timeout=GRACE)


def health(container: Container) -> int:
    """Exit status of the image's own check."""
    words = [word.replace(":8000", f":{container.port}") for word in words_of("HEALTHCHECK")]
    assert words[0] == "python"
    return subprocess.run(
        [sys.executable, *words[1:]], capture_output=True, check=False, timeout=60
    ).returncode


def until_it_is_healthy(container: Container) -> None:
    deadline = time.monotonic() + 180
    try:
        while health(container) != 0:
            assert container.process.poll() is None, container.log.read_text()
            assert time.monotonic() < deadline, container.log.read_text()
            time.sleep(0.2)
    except BaseException:
        container.process.terminate()
        container.process.wait(timeout=GRACE)
        raise


def test_the_command_of_the_image_answers_with_the_packages_of_the_image(
    container: Container,
) -> None:
    image = drawn_images(1)[0]
    assert container.ask("POST", "/predictions/tiny", image, key=container.key) == 200
    assert container.ask("POST", "/explanations/tiny", image, key=container.key) == 200
    assert container.ask("POST", "/predictions/tiny", image) == 401
    assert container.ask("GET", "/healthz") == 200


@pytest.mark.threat("T1", "T4")
def test_through_nginx_and_the_gateway_a_photo_reaches_the_model_and_nothing_the_management(
    container: Container, tmp_path: Path
) -> None:
    image = drawn_images(1)[0]
    with Nginx.running(tmp_path / "nginx", web=container.port) as nginx:
        headers = {"Authorization": f"Bearer {container.key}"}
        headers["Content-Type"] = "application/octet-stream"
        answer = nginx.ask(WEB, "POST", "/predictions/tiny", body=image, headers=headers)
        assert answer.status == 200
        assert b'"probabilities"' in answer.body
        assert nginx.ask(WEB, "POST", "/predictions/tiny", body=image).status == 401
        assert nginx.ask(WEB, "GET", "/models", headers=headers).status == 200
        page = nginx.ask(WEB, "GET", "/")
        assert page.status == 200
        assert b"<html" in page.body
        assert page.headers.get_all("X-Content-Type-Options") == ["nosniff"]  # type: ignore[attr-defined]
        assert "default-src 'none'" in page.headers["Content-Security-Policy"]
        for request in ("POST /workflows?url=x.war", "POST /models?url=x.mar", "GET /token"):
            method, path = request.split()
            # Not by the proxy, and not by the gateway without it.
            assert nginx.ask(WEB, method, path, headers=headers).status in (404, 405)
            assert container.ask(method, path, key=container.key) in (404, 405)


def test_sigterm_ends_it_after_the_requests_under_way_and_leaves_nothing(
    container: Container,
) -> None:
    image = drawn_images(1)[0].ljust(15_000_000, b"\0")
    with ThreadPoolExecutor(4) as pool:
        path = "/predictions/tiny"
        under_way = [
            pool.submit(container.ask, "POST", path, image, key=container.key) for _ in range(4)
        ]
        until_they_are_read(container, under_way)
        container.process.send_signal(signal.SIGTERM)
        assert {answer.result() for answer in under_way} == {200}
    assert container.process.wait(timeout=GRACE) in (0, 143)
    assert container.members() == []


def until_they_are_read(container: Container, under_way: list[Future[int]]) -> None:
    """Wait until the gateway is at work on every request that has no answer yet."""
    deadline = time.monotonic() + 30
    while container.asking() < sum(not answer.done() for answer in under_way):
        assert time.monotonic() < deadline, container.log.read_text()
        time.sleep(0.01)


def test_a_torchserve_that_dies_takes_the_container_with_it(root: Path) -> None:
    # So that whoever started it starts it again, rather than keep one that never gets ready.
    container = run(root)
    (front_end,) = [process for process in container.members() if process.name() == "java"]
    front_end.kill()
    assert container.process.wait(timeout=GRACE) not in (0, 143)
    assert "TorchServe ended by itself" in container.log.read_text()
    assert container.members() == []
