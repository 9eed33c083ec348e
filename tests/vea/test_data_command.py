"""`vea data check`, as a person or a program uses it."""

from __future__ import annotations

import json
import os
import shutil

import pytest
from typer.testing import CliRunner

from handler.values.errors import VeaError
from vea.main import build_app


@pytest.fixture(scope="module")
def photos(tmp_path_factory, photo, encode):
    root = tmp_path_factory.mktemp("photos")
    for e, emotion in enumerate(("awe", "fear")):
        (root / emotion).mkdir()
        for i in range(6):
            (root / emotion / f"{i}.png").write_bytes(encode(photo(10 * e + i, (16, 12)), "PNG"))
    return root


@pytest.fixture
def copied(photos, tmp_path):
    return shutil.copytree(photos, tmp_path / "photos")


def check(*arguments):
    """What it prints, on a terminal that is wide enough."""
    shown = CliRunner(env={"COLUMNS": "200"}).invoke(
        build_app(), ["data", "check", *map(str, arguments)], catch_exceptions=True
    )
    if shown.exception and not isinstance(shown.exception, SystemExit):
        raise shown.exception
    assert shown.exit_code == 0, shown.output
    return shown.stdout


def row(shown, name):
    (line,) = [line for line in shown.splitlines() if line.strip("│┃ ").startswith(name + " ")]
    return [cell.strip() for cell in line.strip("│").split("│")][1:]


def test_it_says_the_layout_and_how_many_of_each_emotion_each_split_has(photos):
    shown = check(photos)
    assert shown.startswith("emotion-named folders\n")
    assert row(shown, "awe") == ["4", "1", "1", "6"]
    assert row(shown, "amusement") == ["0", "0", "0", "0"]
    assert row(shown, "images") == ["8", "2", "2", "12"]
    assert "the split is random" in shown


def test_it_says_what_is_left_out_and_names_the_first(copied):
    for i in range(5):
        (copied / "awe" / f"gone{i}.jpg").write_bytes(b"no longer available")
    (copied / "awe" / "Thumbs.db").write_bytes(b"x")
    shown = check(copied)
    assert "left out: 6" in shown
    assert "5 x placeholder picture" in shown
    assert "awe/gone0.jpg, awe/gone1.jpg, awe/gone2.jpg, ..." in shown
    assert "1 x no image file: awe/Thumbs.db" in shown


def test_names_that_are_not_utf_8_are_shown_as_they_can_be(copied):
    for name in (b"bad\xff.png", b"notes\xff.txt"):
        (copied / "awe" / os.fsdecode(name)).write_bytes(b"no picture")
    said = check(copied, "--json", copied / "check.json")
    assert r"1 x its name is not UTF-8: awe/bad\xff.png" in said
    assert r"1 x no image file: awe/notes\xff.txt" in said


def test_copies_within_and_across_splits_are_counted(tmp_path, photos):
    for place in ("train/awe", "val/awe", "train/fear"):
        (tmp_path / place).mkdir(parents=True)
    for i, place in enumerate(["train/awe/1", "train/awe/2", "val/awe/3", "train/fear/4"]):
        source = photos / "awe" / f"{0 if i < 4 else i}.png"
        shutil.copy(source, tmp_path / f"{place}.png")
    shutil.copy(photos / "fear" / "0.png", tmp_path / "train" / "fear" / "own.png")
    shown = check(tmp_path, "--json", tmp_path / "check.json")
    assert "copies: 2 within a split, 4 across splits, 4 with another label" in shown
    found = json.loads((tmp_path / "check.json").read_text())
    assert found["copies"]["across_splits"] == 4
    assert "val/awe/3.png" in found["copies"]["names"]


def test_decoding_finds_what_cannot_be_read(copied):
    broken = copied / "fear" / "0.png"
    broken.write_bytes(broken.read_bytes()[:60])
    (copied / "awe" / "page.jpg").write_bytes(b"<html>not found</html>")
    assert "undecodable" not in check(copied)
    shown = check(copied, "--decode")
    assert "undecodable: 2" in shown
    assert "fear/0.png" in shown
    assert "markup" in shown


def test_a_written_split_is_used_by_the_next_run(copied):
    said = check(copied, "--write-split", copied)
    assert f"the split is in {copied / 'vea-split.csv'}" in said
    shown = check(copied)
    assert "the split is that of vea-split.csv" in shown
    assert row(shown, "images") == ["8", "2", "2", "12"]


def test_nothing_is_written_unasked(copied):
    before = sorted(copied.rglob("*"))
    check(copied)
    assert sorted(copied.rglob("*")) == before


def test_the_split_can_go_elsewhere(photos, tmp_path):
    check(photos, "--write-split", tmp_path / "mine.csv")
    header, *lines = (tmp_path / "mine.csv").read_text().splitlines()
    assert header == "path,label,split,sha256"
    assert len(lines) == 12


def test_json_is_for_programs(photos, tmp_path):
    check(photos, "--wheel", "polarity-2", "--decode", "--json", tmp_path / "check.json")
    found = json.loads((tmp_path / "check.json").read_text())
    assert found["wheel"] == "polarity-2"
    assert found["images"] == 12
    assert found["counts"]["positive"] == {"train": 4, "val": 1, "test": 1}
    assert found["undecodable"] == {}
    assert found["split"] == "random"


def test_faces_of_fer2013_are_counted_by_usage(tmp_path, photo, encode):
    for i, place in enumerate(["Training/happy", "Training/sad", "PublicTest/neutral"]):
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place / "1.png").write_bytes(encode(photo(i, (48, 48)), "PNG"))
    shown = check(tmp_path)
    assert "FER2013" in shown
    assert row(shown, "happy") == ["1", "0", "1"]
    assert row(shown, "images") == ["2", "1", "3"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nowhere"], "nowhere is not a folder"),
        (["."], "no known data set"),
        (["photos", "--wheel", "plutchik"], "unknown wheel 'plutchik'"),
        (["photos", "--wheel", "ekman-6"], "labelled with mikels-8"),
        (["photos", "--write-split", "absent/split.csv"], "there is no folder absent"),
        (["photos", "--json", "absent/check.json"], "cannot write absent/check.json"),
    ],
)
def test_mistakes_get_one_line(copied, tmp_path, monkeypatch, arguments, said):
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty" if arguments == ["."] else tmp_path)
    with pytest.raises(VeaError, match=said) as caught:
        check(*arguments)
    assert "\n" not in str(caught.value)


def test_help_shows_an_example():
    shown = CliRunner().invoke(build_app(), ["data", "check", "--help"])
    assert shown.exit_code == 0
    assert "vea data check FI" in shown.stdout


@pytest.mark.parametrize("option", ["--json", "--write-split"])
def test_a_file_that_cannot_be_written_is_told_before_photos_are_read(
    photos, tmp_path, option, monkeypatch
):
    def read(*arguments, **options):
        raise AssertionError("the photos were read first")

    monkeypatch.setattr("train.datasets.reading.read_dataset", read)
    lost = tmp_path / "nowhere" / "file"
    with pytest.raises(VeaError, match=r"cannot write .*: there is no folder"):
        check(photos, option, lost)
