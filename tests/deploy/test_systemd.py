"""The units: systemd takes them, they run commands that exist, and they may do little."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
from commands import DEPLOY, parse, seconds

FOLDER = DEPLOY / "systemd"
UNITS = ["vea-serve.service", "vea-web.service"]


def unit(name: str) -> dict[str, list[str]]:
    """Values by key; a key may have many."""
    values: dict[str, list[str]] = {}
    for line in (FOLDER / name).read_text().splitlines():
        if line and line[0] not in "#[":
            key, _, value = line.partition("=")
            values.setdefault(key, []).append(value)
    return values


def test_all_units_are_tested() -> None:
    assert sorted(path.name for path in FOLDER.iterdir()) == UNITS


def test_the_units_run_commands_that_vea_understands() -> None:
    state = "/var/lib/vea/serve"
    (start,) = unit("vea-serve.service")["ExecStart"]
    program, *words = shlex.split(start.replace("${MODEL}", "/opt/vea/vea-lite-3.1.mar"))
    name, values = parse(words)
    assert (program, name, str(values["state"])) == ("/opt/vea/bin/vea", "serve", state)
    assert not values["detach"]
    (wait,) = unit("vea-serve.service")["ExecStartPost"]
    asked = wait.partition("/opt/vea/bin/vea ")[2].partition(" >")[0]
    _, values = parse(shlex.split(asked))
    assert values["token"]
    assert str(values["state"]) == state
    (start,) = unit("vea-web.service")["ExecStart"]
    program, *words = shlex.split(start)
    name, values = parse(words)
    assert (program, name, str(values["state"])) == ("/opt/vea/bin/vea", "web", state)
    assert values["host"] == "127.0.0.1"
    assert str(values["api_keys"]) == "/etc/vea/api-keys"


@pytest.mark.parametrize("name", UNITS)
def test_the_kill_comes_after_the_grace(name: str) -> None:
    (stop,) = unit(name)["TimeoutStopSec"]
    assert seconds(stop) > 20 + 15
    assert unit(name)["KillMode"] == ["mixed"]


def test_the_gateway_starts_after_the_model_and_ends_with_it() -> None:
    web = unit("vea-web.service")
    assert web["Requires"] == web["After"] == ["vea-serve.service"]


@pytest.mark.parametrize("name", UNITS)
@pytest.mark.threat("T8", "T11")
def test_nothing_reaches_another_machine(name: str) -> None:
    assert unit(name)["IPAddressDeny"] == ["any"]
    assert unit(name)["IPAddressAllow"] == ["localhost"]
    assert unit(name)["StateDirectoryMode"] == ["0700"]
    assert unit(name)["UMask"] == ["0077"]


@pytest.mark.integration
@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="there is no systemd-analyze")
def test_systemd_takes_the_units(tmp_path: Path) -> None:
    program = tmp_path / "vea"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    for name in UNITS:
        text = (FOLDER / name).read_text().replace("/opt/vea/bin/vea", str(program))
        (tmp_path / name).write_text(text)
    files = [str(tmp_path / name) for name in UNITS]
    ended = subprocess.run(
        ["systemd-analyze", "verify", *files], capture_output=True, text=True, check=False
    )
    ours = [line for line in ended.stderr.splitlines() if "vea-" in line]
    assert (ended.returncode, ours) == (0, [])
    for file in files:
        # 100 is a service that may do anything, 0 one that may do nothing.
        ended = subprocess.run(
            ["systemd-analyze", "security", "--offline=true", "--threshold=20", file],
            capture_output=True,
            text=True,
            check=False,
        )
        assert ended.returncode == 0, ended.stdout[-600:]
