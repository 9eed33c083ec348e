"""Installing detectron2: one known archive, without running anything of it, into a clean wheel."""

from __future__ import annotations

import hashlib
import io
import subprocess
import sys
import tarfile
import zipfile
from importlib.metadata import PathDistribution
from pathlib import Path

import pytest
from typer.testing import CliRunner

from handler.values.errors import VeaError
from vea.commands import detectron2
from vea.main import build_app

PIP = [sys.executable, "-m", "pip"]
SETUP = "from setuptools import setup\nsetup(name='pb1-detectron2', version='0.6')\n"


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """A source archive laid out like the real one, with another content."""
    files = {
        "setup.py": SETUP,
        "LICENSE": "Apache License\n",
        "detectron2/__init__.py": '__version__ = "0.6"\n',
        "detectron2/modeling/__init__.py": "deep = True\n",
        "detectron2/model_zoo/configs/base.yaml": "VERSION: 2\n",
        "tools/__init__.py": "stray = True\n",
        "tools/train_net.py": "",
    }
    path = tmp_path / "offered" / "pb1-detectron2-0.6.tar.gz"
    path.parent.mkdir()
    with tarfile.open(path, "w:gz") as target:
        for name, text in files.items():
            member = tarfile.TarInfo(f"pb1-detectron2-0.6/{name}")
            member.size = len(text)
            target.addfile(member, io.BytesIO(text.encode()))
    return path


@pytest.fixture
def no_index(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Pip knows no index, and nothing of this machine's configuration."""
    for name in ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS", "PIP_CONSTRAINT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_RETRIES", "0")
    return monkeypatch


@pytest.mark.integration
def test_the_wheel_holds_the_package_and_no_stray_ones(archive: Path, tmp_path: Path) -> None:
    wheel = detectron2.build_wheel(archive, tmp_path)
    target = tmp_path / "site"
    options = ["-q", "--no-deps", "--no-index", "--target", target]
    subprocess.run([*PIP, "install", *options, wheel], check=True, capture_output=True)
    tops = {path.name for path in target.iterdir()}
    assert tops == {"detectron2", "detectron2-0.6+vea.dist-info"}
    assert (target / "detectron2/modeling/__init__.py").read_text() == "deep = True\n"
    assert (target / "detectron2/model_zoo/configs/base.yaml").exists()
    info = target / "detectron2-0.6+vea.dist-info"
    assert PathDistribution(info).metadata["Name"] == "detectron2"
    assert any(path.name == "LICENSE" for path in info.rglob("*"))


def test_the_wheel_lists_all_that_it_holds_and_nothing_that_runs_at_installation(
    archive: Path, tmp_path: Path
) -> None:
    with zipfile.ZipFile(detectron2.build_wheel(archive, tmp_path)) as wheel:
        assert not any("setup" in name for name in wheel.namelist())
        listed = wheel.read("detectron2-0.6+vea.dist-info/RECORD").decode().splitlines()
    assert len(listed) == len(set(listed)) == 7


def test_an_archive_of_another_content_is_refused(
    archive: Path, tmp_path: Path, no_index: pytest.MonkeyPatch
) -> None:
    no_index.setenv("PIP_NO_INDEX", "1")
    no_index.setenv("PIP_FIND_LINKS", str(archive.parent))
    with pytest.raises(VeaError, match="does not have the expected SHA-256") as refused:
        detectron2.fetch(tmp_path, pip=PIP)
    assert "\n" not in str(refused.value)
    assert not list(tmp_path.glob("*.tar.gz"))


def test_the_known_content_is_taken(
    archive: Path, tmp_path: Path, no_index: pytest.MonkeyPatch
) -> None:
    no_index.setenv("PIP_NO_INDEX", "1")
    no_index.setenv("PIP_FIND_LINKS", str(archive.parent))
    known = hashlib.sha256(archive.read_bytes()).hexdigest()
    fetched = detectron2.fetch(tmp_path, pip=PIP, sha256=known)
    assert fetched.read_bytes() == archive.read_bytes()


@pytest.mark.integration
@pytest.mark.parametrize("part", ["fetch", "fetch_pip"])
def test_an_index_out_of_reach_is_told_in_one_line(
    part: str, tmp_path: Path, no_index: pytest.MonkeyPatch
) -> None:
    no_index.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    options = {"pip": PIP} if part == "fetch" else {}
    with pytest.raises(VeaError, match=r"^cannot fetch p.*==.*reachable\?$") as failed:
        getattr(detectron2, part)(tmp_path, **options)
    assert "\n" not in str(failed.value)


def test_a_detectron2_that_is_there_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(detectron2.subprocess, "run", lambda *_, **__: pytest.fail("pip was run"))
    shown = CliRunner().invoke(build_app(), ["install-detectron2"])
    assert shown.exit_code == 0, shown.output
    assert "is already installed in" in shown.output
    assert "nothing to do" in shown.output
    assert len(shown.output.splitlines()) == 1


def test_what_it_needs_is_read_from_the_installation() -> None:
    needed = detectron2.requirements()
    assert any(line.startswith("fvcore") for line in needed)
    assert not any(line.startswith(("torch", "detectron2", "pytest")) for line in needed)
    assert not any("extra" in line for line in needed)
