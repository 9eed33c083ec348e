"""The OpenAPI description is true: of every route, and against whatever schemathesis thinks of."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import httpx2
import pytest
from gateway_server import gateway, send

from vea.serving.server import TorchServe
from vea.web.application import build
from vea.web.keys import KeyRing, new_key
from vea.web.upstream import TorchServeUpstream

pytestmark = pytest.mark.integration

# A schema cannot say what an image is: an allowed string of bytes may be refused as none. And a
# list that is too long is too large, which schemathesis does not know as a refusal of the list.
_SETTINGS = """
[parameters]
"path.model" = "tiny"
"path.version" = "0.1"

[checks.positive_data_acceptance]
expected-statuses = ["2xx", 400, 413, 415, 422]

[checks.negative_data_rejection]
expected-statuses = [400, 401, 404, 405, 413, 415, 422]
"""


@pytest.mark.long
def test_schemathesis_finds_nothing_that_the_description_does_not_say(
    tiny_server: TorchServe, tmp_path: Path
) -> None:
    (tmp_path / "schemathesis.toml").write_text(_SETTINGS)
    with gateway(tiny_server.directory.state) as base:
        command = [
            *(sys.executable, "-m", "schemathesis.cli"),
            *("--config-file", "schemathesis.toml", "run", f"{base}/openapi.json"),
            *("--checks", "all", "--max-examples", "5", "--seed", "1", "--exclude-method", "PUT"),
            *("--phases", "examples,coverage,fuzzing,stateful", "--continue-on-failure"),
        ]
        done = subprocess.run(
            command, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False
        )
        assert send(base, "GET", "/readyz")[0] == 200
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    cases = re.search(r"(\d+) generated", done.stdout)
    assert cases, done.stdout[-2000:]
    assert int(cases[1]) > 200
    operations = re.search(r"Tested: (\d+)", done.stdout)
    assert operations
    assert int(operations[1]) == 11


@pytest.mark.parametrize("keyed", [False, True])
def test_every_route_is_described_and_nothing_else_is(keyed: bool, tmp_path: Path) -> None:
    (tmp_path / "keys").write_text(new_key("one")[1])
    keys = KeyRing(tmp_path / "keys") if keyed else None
    upstream = TorchServeUpstream(lambda: None)
    app = build(upstream, keys=keys)
    routes = {
        (route.path, method)
        for route in app.routes
        for method in route.methods - {"HEAD"}  # as GET, without a body
    }
    with gateway(upstream, keys=keys) as base:
        _, description, _ = send(base, "GET", "/openapi.json")
    described = {
        (path, method.upper())
        for path, item in description["paths"].items()
        for method in item
        if method != "parameters"
    }
    assert described == routes
    for path, item in description["paths"].items():
        # So what holds for the one in the test above holds for the other.
        post, put = dict(item.get("post", {})), dict(item.get("put", {}))
        post.pop("operationId", None), put.pop("operationId", None)
        assert post == put, path
    secured = {
        path
        for path, item in description["paths"].items()
        for operation in item.values()
        if isinstance(operation, dict) and operation.get("security")
    }
    assert bool(secured) == keyed


def test_files_that_are_described_exist_and_no_others(tiny_server: TorchServe) -> None:
    with gateway(tiny_server.directory.state) as base:
        _, description, _ = send(base, "GET", "/openapi.json")
        for path in ("/assets/{file}", "/samples/{file}"):
            (parameter,) = description["paths"][path]["parameters"]
            for name in parameter["schema"]["enum"]:
                reply = httpx2.get(base + path.replace("{file}", name), trust_env=False)
                assert reply.status_code == 200
                kinds = description["paths"][path]["get"]["responses"]["200"]["content"]
                assert reply.headers["content-type"].split(";")[0] in kinds
        for name in ("SOURCES.md", "..", "__init__.py", "index.html"):
            assert send(base, "GET", f"/samples/{name}")[0] == 404
            assert send(base, "GET", f"/assets/{name}")[0] == 404
