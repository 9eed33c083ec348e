"""The Dockerfile: read by a parser and a linter. Building it needs an engine, which is not here."""

from __future__ import annotations

import configparser
import json
import subprocess
import sys
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import dockerfile_parse
import pytest
import yaml
from commands import DEPLOY, parse

DOCKERFILE = DEPLOY / "docker" / "Dockerfile"
REPOSITORY = DEPLOY.parent


def instructions(kind: str | None = None) -> list[dict[str, Any]]:
    """The Dockerfile's instructions, in order, of one kind or all."""
    parser = dockerfile_parse.DockerfileParser(fileobj=DOCKERFILE.open("rb"))
    return [
        item
        for item in parser.structure
        if item["instruction"] != "COMMENT" and kind in (None, item["instruction"])
    ]


def the_only(kind: str) -> str:
    (found,) = instructions(kind)
    return str(found["value"])


def ignored(path: str) -> bool:
    """Whether the engine is kept from a path by the list of what it gets."""
    allowed = (DOCKERFILE.parent / "Dockerfile.dockerignore").read_text().splitlines()
    assert allowed[1] == "*"
    names = [line[1:] for line in allowed if line.startswith("!")]
    return not any(fnmatchcase(path, name) for name in names)


@pytest.mark.integration
def test_the_linter_has_nothing_to_say() -> None:
    program = Path(sys.executable).with_name("hadolint")
    ended = subprocess.run(
        [str(program), "--no-color", str(DOCKERFILE)], capture_output=True, text=True, check=False
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")


def test_everything_that_is_copied_is_there_and_reaches_the_engine() -> None:
    sources = [
        word
        for item in instructions("COPY")
        if "--from=" not in item["value"]
        for word in item["value"].split()[:-1]
    ]
    assert {"handler", "vea", "constraints.txt", "model_store/*.mar"} <= set(sources)
    for source in sources:
        assert list(REPOSITORY.glob(source)), source
        assert not ignored(source), source


def test_secrets_tests_and_runs_do_not_reach_the_engine() -> None:
    for path in ("api-keys", ".git", "tests", "runs", ".venv", "model_store/README.md"):
        assert ignored(path), path


def test_both_variants_are_targets_with_the_same_program() -> None:
    stages = [item["value"].split() for item in instructions("FROM")]
    names = [words[-1] for words in stages]
    assert names[-2:] == ["cuda", "cpu"]  # the last one is what a build without a target makes
    assert stages[-1][0] == stages[-2][0] == "runtime"
    installs = [item["value"] for item in instructions("RUN") if "'.[web]'" in item["value"]]
    assert len(installs) == 2
    assert len(set(installs)) == 1


def test_what_is_installed_is_an_extra_and_pinned() -> None:
    settings = configparser.ConfigParser()
    settings.read(REPOSITORY / "setup.cfg")
    assert "vea[serve]" in settings["options.extras_require"]["web"]
    pinned = (REPOSITORY / "constraints.txt").read_text().splitlines()
    assert any(line.startswith("torch==") for line in pinned)
    environment = " ".join(item["value"] for item in instructions("ENV"))
    assert "PIP_CONSTRAINT=/src/constraints.txt" in environment


def test_it_does_not_run_as_root_and_gets_its_signals() -> None:
    user = the_only("USER")
    uid, gid = user.split(":")
    assert int(uid) == int(gid) > 0
    manifest = yaml.safe_load((DEPLOY / "kubernetes" / "deployment.yaml").read_text())
    context = manifest["spec"]["template"]["spec"]["securityContext"]
    assert f"{context['runAsUser']}:{context['runAsGroup']}" == user
    # In exec form; a shell would keep the signal to itself.
    assert json.loads(the_only("ENTRYPOINT")) == ["tini", "--", "vea"]
    assert isinstance(json.loads(the_only("CMD")), list)
    assert the_only("STOPSIGNAL") == "SIGTERM"


def test_the_command_is_one_that_vea_understands() -> None:
    name, values = parse(json.loads(the_only("CMD")))
    assert name == "web"
    assert str(values["port"]) == the_only("EXPOSE")
    assert Path("/tmp") in values["state"].parents  # the only place that is written to
    assert values["archive"] is None  # the newest in model_store
    places = [item["value"].split() for item in instructions("COPY")]
    assert ["model_store/*.mar", "model_store/"] in places
    manifest = yaml.safe_load((DEPLOY / "kubernetes" / "deployment.yaml").read_text())
    (container,) = manifest["spec"]["template"]["spec"]["containers"]
    assert container["args"] == json.loads(the_only("CMD"))
