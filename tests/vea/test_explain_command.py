"""`vea explain` and `vea figures`, as a person or a program uses them."""

import json
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from handler.predictor import Predictor
from handler.values.errors import VeaError
from vea.main import build_app
from vea.photo_files import output_names

KINDS = ("sheet.png", "activation.png", "objects.png", "face.png", "json")


def vea(*arguments):
    return CliRunner().invoke(build_app(), [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def photos(tmp_path_factory, photo, encode):
    folder = tmp_path_factory.mktemp("photos")
    (folder / "one.jpg").write_bytes(encode(photo(1), "JPEG"))
    (folder / "two.png").write_bytes(encode(photo(2), "PNG"))
    return folder


def test_explain_writes_five_files_for_each_photo(photos, tiny_model, tmp_path):
    shown = vea("explain", photos, "--model", tiny_model, "--out", tmp_path / "why")
    assert shown.exit_code == 0, shown.exception
    expected = sorted(f"{name}.{kind}" for name in ("one", "two") for kind in KINDS)
    assert sorted(p.name for p in (tmp_path / "why").iterdir()) == expected
    for drawing in (tmp_path / "why").glob("*.png"):
        assert Image.open(drawing).width >= 600
    assert "one" in shown.stdout
    assert "reasons" in shown.stdout


def test_the_data_is_what_the_server_gives_with_explanations(photos, tiny_model, tmp_path):
    vea("explain", photos / "one.jpg", "--model", tiny_model, "--out", tmp_path)
    predictor = Predictor.load(tiny_model)
    (answer,) = predictor.predict([(photos / "one.jpg").read_bytes()], explain=True)
    expected = json.loads(json.dumps(answer.to_dict(predictor.model, explain=True)))
    written = json.loads((tmp_path / "one.json").read_text())
    assert written.keys() == expected.keys()
    assert written["probabilities"] == pytest.approx(expected["probabilities"], abs=1e-5)
    assert written["face"] == expected["face"]
    assert len(written["objects"]) == len(expected["objects"])


def test_explain_json_lists_the_answers_and_their_files(photos, tiny_model, tmp_path):
    shown = vea("explain", photos, "--model", tiny_model, "--out", tmp_path, "--json")
    first, second = json.loads(shown.stdout)
    assert [Path(item["image"]).name for item in (first, second)] == ["one.jpg", "two.png"]
    assert set(first["files"]) == {"sheet", "activation", "objects", "face", "data"}
    assert all(Path(file).is_file() for file in first["files"].values())
    assert first["activation"]


def test_a_photo_that_cannot_be_read_gets_its_reason_and_exit_code_1(photos, tiny_model, tmp_path):
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"<html>not found</html>")
    why = tmp_path / "why"
    shown = vea("explain", broken, photos / "one.jpg", "--model", tiny_model, "--out", why)
    assert shown.exit_code == 1
    assert "refused" in shown.stdout
    assert "reason" in json.loads((why / "broken.json").read_text())["error"]
    assert not list(why.glob("broken.*.png"))
    assert (why / "one.sheet.png").is_file(), "its neighbour is explained all the same"


def test_an_absent_photo_is_told_before_anything_is_made(tiny_model, tmp_path):
    shown = vea("explain", "absent.jpg", "--model", tiny_model, "--out", tmp_path / "why")
    assert isinstance(shown.exception, VeaError)
    assert not (tmp_path / "why").exists()


@pytest.mark.parametrize(
    ("files", "names"),
    [
        (["a.jpg", "b.png"], ["a", "b"]),
        (["a.jpg", "a.png"], ["a.jpg", "a.png"]),
        (["x/a.jpg", "y/a.jpg", "z/a.jpg"], ["a.jpg", "a.jpg-2", "a.jpg-3"]),
        (["A.jpg", "a.JPG"], ["A.jpg", "a.JPG-2"]),
        (["a.jpg", "a.png", "a.jpg.jpg"], ["a.jpg", "a.png", "a.jpg-2"]),
    ],
)
def test_no_two_photos_share_their_outputs_names(files, names):
    assert output_names([Path(file) for file in files]) == names


def test_outputs_may_keep_their_files_endings():
    files = [Path(file) for file in ("x/a.jpg", "b.png", "y/a.jpg")]
    assert output_names(files, endings=True) == ["a.jpg", "b.png", "a.jpg-2"]


def test_figures_names_what_it_wrote(photo, tiny_model, tmp_path):
    for emotion in ("awe", "fear"):
        (tmp_path / "data" / "val" / emotion).mkdir(parents=True)
        for i in range(2):
            seed = i + 10 * len(emotion)
            photo(seed, (80, 64)).save(tmp_path / "data" / "val" / emotion / f"{i}.png")
    out = tmp_path / "figures"
    shown = vea("figures", tiny_model, "--data", tmp_path / "data", "--out", out, "--count", 2)
    assert shown.exit_code == 0, shown.exception
    assert len(list(out.glob("figure-1[2-5]-*.png"))) == 4
    assert len(list(out.glob("figure-1[2-5]-*.json"))) == 4
    for file in out.iterdir():
        assert file.name in shown.stdout


def test_figures_refuses_a_split_that_is_not_there(photo, tiny_model, tmp_path):
    (tmp_path / "data" / "val" / "awe").mkdir(parents=True)
    photo(1).save(tmp_path / "data" / "val" / "awe" / "0.png")
    shown = vea(
        *("figures", tiny_model, "--data", tmp_path / "data", "--out", tmp_path / "figures"),
        *("--split", "test"),
    )
    assert isinstance(shown.exception, VeaError)
    assert "no split 'test'" in str(shown.exception)
    assert not (tmp_path / "figures").exists()
