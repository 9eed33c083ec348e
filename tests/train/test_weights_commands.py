"""`vea weights`, `vea fetch-weights`, `vea import-weights`, as a person runs them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from file_server import serving
from published_weights import face_resnet, save_face_resnet

from train.weights.home import read_header
from vea.main import main


@dataclass
class Shown:
    """What a command printed, and its exit code."""

    returncode: int
    stdout: str
    stderr: str


Vea = Callable[..., Shown]


@pytest.fixture
def vea(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Vea:
    """Runs the program as its entry point does, with a wide terminal and no proxy."""
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")

    def run(home: Path, *arguments: object) -> Shown:
        monkeypatch.setenv("VEA_WEIGHTS", str(home))
        monkeypatch.setattr("sys.argv", ["vea", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        printed = capsys.readouterr()
        return Shown(int(ended.value.code or 0), printed.out, printed.err)

    return run


@pytest.fixture
def faces(tmp_path: Path) -> Path:
    """The published FER2013 file, small."""
    return save_face_resnet(tmp_path / "PrivateTest_model_resnet18.t7", face_resnet(width=4))


def test_import_says_what_it_took_and_left_and_where_the_result_lies(
    faces: Path, tmp_path: Path, vea: Vea
) -> None:
    shown = vea(tmp_path, "import-weights", faces, "--name", "mine")
    assert shown.returncode == 0, shown.stderr
    result = tmp_path / "mine.safetensors"
    assert "ResNet-18 on FER2013" in shown.stdout
    assert "took 100 tensors" in shown.stdout
    assert "left 5: linear.weight, linear.bias, best_PublicTest_acc" in shown.stdout
    assert f"{result} (" in shown.stdout
    assert "SHA-256 " in shown.stdout
    assert "init: {expression: mine}" in shown.stdout
    assert read_header(result).kind == "face_resnet"


@pytest.mark.integration
def test_fetch_brings_imports_and_lists(faces: Path, tmp_path: Path, vea: Vea) -> None:
    home = tmp_path / "home"
    with serving() as server:
        server.files[f"/{faces.name}"] = faces.read_bytes()
        server.cuts = [20_000]
        shown = vea(home, "fetch-weights", "fer2013-resnet18", "--from", server.url)
        assert shown.returncode == 0, shown.stderr
        assert len(server.seen) == 2
    assert "none is published, recorded from now on" in shown.stdout
    assert "init: {expression: fer2013-resnet18}" in shown.stdout
    assert sorted(path.name for path in home.iterdir() if path.is_file()) == [
        "fer2013-resnet18.safetensors",
        "fetched.json",
    ]
    assert not list(home.rglob("*.t7")), "the download is not needed any more"

    listed = vea(home, "weights")
    assert listed.returncode == 0, listed.stderr
    here, _, published = listed.stdout.partition("published")
    assert "fer2013-resnet18" in here
    assert "fer2013-resnet18" not in published
    assert "vea fetch-weights visual-genome" in published


def test_mistakes_get_one_line_and_exit_code_1(tmp_path: Path, vea: Vea) -> None:
    other = tmp_path / "other.pth"
    torch.save({"x": torch.ones(1)}, other)
    for arguments, said in (
        (("import-weights", tmp_path / "absent.pkl"), "cannot read"),
        (("import-weights", other), "expected a Visual Genome detector"),
        (("fetch-weights", "fer2013-resnet18"), "by hand from https://github.com/"),
        (("fetch-weights", "nothing"), "unknown weights 'nothing'"),
    ):
        shown = vea(tmp_path / "home", *arguments)
        assert shown.returncode == 1
        assert "Traceback" not in shown.stderr
        assert said in shown.stderr
        assert len(shown.stderr.strip().splitlines()) == 1
