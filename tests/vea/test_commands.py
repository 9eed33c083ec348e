"""The command line, as a person or a program uses it."""

import json
import subprocess
import sys

import pytest
from PIL import Image
from typer.testing import CliRunner

from tests.program import vea
from tests.shipped import ARCHIVE
from vea.main import build_app


def vea_in_a_process(*arguments, cwd=None):
    """Runs the program as a user does."""
    command = [sys.executable, "-m", "vea.main", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def photos(tmp_path_factory, photo, encode):
    folder = tmp_path_factory.mktemp("photos")
    (folder / "one.jpg").write_bytes(encode(photo(1), "JPEG"))
    (folder / "two.png").write_bytes(encode(photo(2), "PNG"))
    return folder


@pytest.mark.integration
def test_help_names_every_command():
    shown = vea_in_a_process("--help")
    assert shown.returncode == 0
    commands = (
        *("demo", "predict", "explain", "data", "cache", "train", "package"),
        *("weights", "fetch-weights", "import-weights", "install-detectron2"),
        *("evaluate", "cross-validate", "ablate", "figures", "serve", "score"),
    )
    for command in commands:
        assert f" {command} " in shown.stdout


def test_predict_with_reasons_lists_the_most_attended_objects(photos, tiny_model, tmp_path):
    plain = vea("predict", photos / "one.jpg", "--model", tiny_model)
    shown = vea("predict", photos / "one.jpg", "--model", tiny_model, "--explain", tmp_path)
    assert "attention" not in plain.stdout
    assert "reasons" in shown.stdout
    assert "attention" in shown.stdout
    answered = vea(
        *("predict", photos / "one.jpg", "--model", tiny_model, "--explain", tmp_path, "--json")
    )
    (answer,) = json.loads(answered.stdout)
    for item in answer["objects"]:
        assert set(item) == {"label", "attribute", "score", "box", "attention"}
        assert item["attribute"] is None, "the grid source tells no attributes"


@pytest.mark.integration
def test_help_does_not_wait_for_heavy_imports():
    code = "import sys; import vea.main as m; m.build_app(); print('torch' in sys.modules)"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "False"


def test_predict_prints_a_row_for_each_photo_and_the_reason_of_a_refusal(photos, tiny_model):
    broken = photos.parent / "broken.jpg"
    broken.write_bytes(b"<html>not found</html>")
    shown = vea("predict", photos, broken, "--model", tiny_model)
    assert shown.returncode == 1, "one photo could not be read"
    assert "one.jpg" in shown.stdout
    assert "two.png" in shown.stdout
    assert "markup" in shown.stdout


def test_predict_json_follows_the_documented_schema(photos, tiny_model):
    shown = vea("predict", photos / "one.jpg", "--model", tiny_model, "--json")
    assert shown.returncode == 0, shown.stderr
    (answer,) = json.loads(shown.stdout)
    assert set(answer) == {
        "image",
        "emotion",
        "probabilities",
        "polarity",
        "face",
        "image_size",
        "model",
    }
    assert sum(answer["probabilities"].values()) == pytest.approx(1.0)
    assert set(answer["model"]) == {"name", "version", "digest", "runtime"}


def test_predict_explain_draws_a_sheet_for_each_photo(photos, tiny_model, tmp_path):
    shown = vea("predict", photos, "--model", tiny_model, "--explain", tmp_path / "why")
    assert shown.returncode == 0, shown.stderr
    drawn = sorted(p.name for p in (tmp_path / "why").iterdir())
    assert drawn == ["one.jpg.png", "two.png.png"]
    assert Image.open(tmp_path / "why" / "one.jpg.png").width > 640


def test_photos_of_one_name_have_a_drawing_each(photos, tiny_model, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    (other / "one.jpg").write_bytes((photos / "one.jpg").read_bytes())
    drawn = tmp_path / "why"
    shown = vea("predict", photos, other, "--model", tiny_model, "--explain", drawn)
    assert shown.returncode == 0, shown.stderr
    assert sorted(p.name for p in drawn.iterdir()) == [
        "one.jpg-2.png",
        "one.jpg.png",
        "two.png.png",
    ]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("predict", "absent.jpg"), "there is no photo at absent.jpg"),
        (("predict", "photo.jpg", "--model", "photo.jpg"), "not a model archive"),
        (("evaluate", "photo.jpg", "--data", "."), "not a model archive"),
        (("train", "--data", ".", "--recipe", "heavy"), "unknown recipe 'heavy'"),
        (("serve", "absent.mar"), "no archive at"),
        (("score", "absent.txt", "--out", "out", "--model", "photo.jpg"), "not a model archive"),
    ],
)
def test_mistakes_get_one_line_and_exit_code_1(tmp_path, arguments, said):
    Image.new("RGB", (32, 32)).save(tmp_path / "photo.jpg")
    shown = vea(*arguments, cwd=tmp_path)
    assert shown.returncode == 1
    assert "Traceback" not in shown.stderr
    assert said in shown.stderr
    complaints = [line for line in shown.stderr.splitlines() if line.startswith("vea: ")]
    assert len(complaints) == 1
    assert shown.stderr.strip().endswith(complaints[0]), "and nothing follows it"


@pytest.mark.integration
def test_a_process_ends_with_the_line_and_the_exit_code_too(tmp_path):
    arguments = ("serve", "absent.mar")
    shown, said = vea_in_a_process(*arguments, cwd=tmp_path), vea(*arguments, cwd=tmp_path)
    assert (shown.returncode, shown.stdout, shown.stderr) == (1, said.stdout, said.stderr)


@pytest.mark.integration
@pytest.mark.parametrize(
    "arguments",
    [
        ("predict", "\x1b[31mred\x9b.jpg"),
        ("score", "\x1b[2Jlist.txt", "--out", "o", "--model", "none.mar"),
        ("score", "list.\x1b[31m", "--out", "{tmp}/out", "--model", "{shipped}"),
    ],
)
def test_a_line_holds_nothing_that_a_terminal_obeys(tmp_path, arguments):
    command = [part.format(tmp=tmp_path, shipped=ARCHIVE) for part in arguments]
    ended = subprocess.run(
        [sys.executable, "-m", "vea.main", *command], capture_output=True, check=False
    )
    assert ended.returncode == 1
    assert ended.stderr.startswith(b"vea: ")
    assert b"\x1b" not in ended.stderr
    assert b"\x9b" not in ended.stderr


def test_names_of_photos_in_tables_and_remarks_are_spelled_out(tmp_path, photo, encode, tiny_model):
    folder = tmp_path / "photos \x1b[2J"
    folder.mkdir()
    (folder / "a\x1b[31m\x9b.jpg").write_bytes(encode(photo(1), "JPEG"))
    (folder / "notes.txt").write_text("no photo")
    shown = vea("predict", folder, "--model", tiny_model)
    assert shown.returncode == 0, shown.stderr
    for text in (shown.stdout, shown.stderr):
        assert "\x1b" not in text
        assert "\x9b" not in text
    assert "\\x1b" in shown.stdout
    assert "\\x1b[2J" in shown.stderr
    listed = vea("predict", folder, "--model", tiny_model, "--json")
    assert json.loads(listed.stdout)[0]["image"].endswith("a\x1b[31m\x9b.jpg"), (
        "data stay as they are"
    )


def test_wrong_usage_is_exit_code_2(tmp_path):
    assert vea("predict", cwd=tmp_path).returncode == 2
    assert vea("nonsense", cwd=tmp_path).returncode == 2


def test_every_command_has_help_that_teaches():
    for command in build_app().registered_commands:
        assert command.callback.__doc__.strip()
        assert "vea " in command.callback.__doc__, f"{command.name} shows no example"


def test_the_demo_says_what_it_lacks_before_it_begins(tmp_path, monkeypatch):
    for name in ("ts", "pyarrow"):
        monkeypatch.setitem(sys.modules, name, None)
    done = CliRunner().invoke(build_app(), ["demo", "--to", str(tmp_path / "out")])
    assert str(done.exception) == "not installed: pyarrow, ts: pip install 'vea[demo]'"
    assert not (tmp_path / "out").exists()
