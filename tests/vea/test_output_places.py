"""Places for results that cannot be written: found out before the work, in one line."""

from __future__ import annotations

import errno

import pytest

from tests.program import vea

DATA = ("--data", "photos")


@pytest.fixture
def folder(tmp_path, photo, encode):
    """A data set of two emotions, and a file where a folder would have to be."""
    for e, emotion in enumerate(("awe", "fear")):
        (tmp_path / "photos" / emotion).mkdir(parents=True)
        for i in range(3):
            content = encode(photo(10 * e + i, (16, 12)), "PNG")
            (tmp_path / "photos" / emotion / f"{i}.png").write_bytes(content)
    (tmp_path / "file").write_text("")
    (tmp_path / "dir").mkdir()
    return tmp_path


@pytest.fixture(autouse=True)
def no_work(monkeypatch):
    """Reading photos, archives and published files is work."""

    def work(*arguments, **options):
        raise AssertionError("the work had begun")

    for name in (
        *("train.datasets.building.build_table", "train.datasets.reading.build_table"),
        *("handler.predictor.Predictor.load", "train.weights.importing.read_checkpoint"),
        *("train.package.package", "train.weights.fetching.fetch"),
    ):
        monkeypatch.setattr(name, work)


@pytest.mark.parametrize(
    "arguments",
    [
        ("train", *DATA, "--run", "file/run"),
        ("train", *DATA, "--run", "file"),
        ("train", *DATA, "--cache", "file/cache"),
        ("train", "--recipe", "expression", "--data", "faces", "--run", "file/run"),
        ("cross-validate", *DATA, "--run", "file/run"),
        ("cross-validate", *DATA, "--run", "runs", "--cache", "file/cache"),
        ("ablate", "branches", *DATA, "--run", "file/run"),
        ("ablate", "branches", *DATA, "--run", "runs", "--cache", "file"),
        ("cache", *DATA, "--cache", "file/cache"),
        ("evaluate", "x.mar", *DATA, "--report", "file/report"),
        ("evaluate", "x.mar", *DATA, "--json", "file/figures.json"),
        ("evaluate", "x.mar", *DATA, "--json", "dir"),
        ("evaluate", "x.mar", *DATA, "--predictions", "file/p.csv"),
        ("evaluate", "x.mar", *DATA, "--predictions", "dir/none/p.csv"),
        ("figures", "x.mar", *DATA, "--out", "file/figures"),
        ("explain", "photos", "--out", "file/reasons"),
        ("data", "check", "photos", "--json", "dir"),
        ("data", "check", "photos", "--write-split", "file/split.csv"),
        ("package", "runs/lite/model", "--version", "1", "--to", "file/store"),
        ("import-weights", "x.pkl", "--to", "file/weights"),
        ("fetch-weights", "imagenet-resnet50", "--to", "file/weights"),
    ],
)
def test_a_place_that_cannot_be_written_is_told_before_the_work(folder, arguments):
    ended = vea(*arguments, cwd=folder)
    assert ended.returncode == 1
    (line,) = ended.stderr.splitlines()
    assert line.startswith("vea: cannot write ")
    assert not ended.stdout
    assert {path.name for path in folder.iterdir()} == {"photos", "file", "dir"}


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES, errno.EROFS])
def test_a_disk_that_fails_during_the_work_is_one_line(folder, monkeypatch, number):
    def fail(*arguments, **options):
        raise OSError(number, "it failed", "results.json")

    monkeypatch.setattr("train.datasets.reading.build_table", fail)
    ended = vea("data", "check", "photos", cwd=folder)
    assert ended.returncode == 1
    assert ended.stderr == "vea: cannot write or read: results.json: it failed\n"
