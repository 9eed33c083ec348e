"""Commands that take a folder agree on what of it is a photo, and say what they left out."""

import json

import pandas
import pytest
from typer.testing import CliRunner

from vea.main import build_app

LEFT_OUT = "4 files left out (no image: 1, hidden or in a hidden folder: 2, link to a folder: 1)"


@pytest.fixture
def folder(tmp_path, photo, encode):
    folder = tmp_path / "photos"
    jpeg = encode(photo(1), "JPEG")
    for name in ("a.jfif", "b.PJPEG", "no-ending", "c.jpg_large", "sub/d.HEIC", "sub/deep/e.png"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(jpeg)
    (folder / "f.dng").write_bytes(b"II*\0 a raw photo")
    (folder / ".thumbnails").mkdir()
    (folder / ".thumbnails" / "a.jpg").write_bytes(jpeg)
    (folder / "._a.jpg").write_bytes(b"of macOS")
    (folder / "again").symlink_to(folder / "sub")
    return folder


def vea(*arguments):
    done = CliRunner().invoke(build_app(), [*map(str, arguments)])
    assert done.exit_code == 0, done.output
    return done


def test_predict_and_score_take_the_same_photos_and_leave_out_the_same_files(
    folder, tiny_model, tmp_path
):
    predicted = vea("predict", folder, "--model", tiny_model, "--json")
    assert f"{folder}: {LEFT_OUT}" in predicted.stderr
    score = ("score", f"{folder}/", "--model", tiny_model, "--workers", "0", "--json")
    for _ in ("first attempt", "finished before"):
        scored = vea(*score, "--out", tmp_path / "out")
        assert f"{folder}/: {LEFT_OUT}" in scored.stderr
        summary = json.loads(scored.stdout)
        assert summary["left_out"] == {"hidden": 2, "link-to-folder": 1, "not-an-image": 1}
    rows = pandas.read_parquet(tmp_path / "out")
    assert rows["image"].tolist() == [answer["image"] for answer in json.loads(predicted.stdout)]
    assert len(rows) == 6
    manifest = json.loads((tmp_path / "out" / "_manifest.json").read_text())
    assert manifest["facts"]["left_out"] == summary["left_out"]


def test_a_folder_without_photos_says_what_is_in_it(folder, tiny_model, tmp_path):
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "notes.md").write_text("no photo")
    done = CliRunner().invoke(build_app(), ["predict", str(tmp_path / "texts")])
    assert str(done.exception).endswith("holds no photos: 1 file left out (no image: 1)")
