"""`vea package --faces`: an archive looks for faces otherwise than its model did in training."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest
from typer.testing import CliRunner

from handler.archive.files import read_card
from handler.predictor import Predictor
from vea.main import build_app
from vea.serving.verification import verify


def packed(*arguments: str | Path) -> tuple[int, str]:
    """Run `vea package`; its exit code, and what it said or why it failed."""
    shown = CliRunner().invoke(build_app(), ["package", *map(str, arguments)])
    return shown.exit_code, f"{shown.output}{shown.exception}"


@pytest.mark.integration
def test_a_model_gets_the_light_source(
    tiny_model: Path, tmp_path: Path, portrait, encode, photo
) -> None:
    code, said = packed(tiny_model, "--version", "2", "--to", tmp_path, "--faces", "light")
    assert code == 0, said
    archive = tmp_path / "vea-lite-2.mar"
    config = verify(archive).config
    assert (config.selector.faces.backend, config.selector.faces.threshold) == ("light", 0.6)
    assert config.compiled is None
    card = read_card(archive)[1]
    assert card["faces"] == {"backend": "light", "threshold": 0.6, "trained_with": "hog"}
    assert "Apache-2.0" in card["licences"]["face_detector.safetensors"]
    before, after = (
        Predictor.load(model).predict([encode(portrait, "PNG"), encode(photo(1), "PNG")])
        for model in (tiny_model, archive)
    )
    assert after[0].face is not None
    assert after[0].face.score != before[0].face.score
    assert after[1].face is None
    assert after[1].probabilities == pytest.approx(before[1].probabilities, abs=1e-6)


@pytest.mark.integration
def test_the_compiled_form_is_made_anew(compiled_model: Path, tmp_path: Path) -> None:
    source = ("--faces", "light", "--face-threshold", "1.5")
    code, said = packed(compiled_model, "--version", "2", "--to", tmp_path, *source)
    assert code == 0, said
    archive = tmp_path / "vea-lite-2.mar"
    assert read_card(archive)[0].selector.faces.threshold == 1.5
    assert read_card(archive)[1]["compiled"]["precision"] == "float32"
    with zipfile.ZipFile(archive) as opened:
        assert {"face_detector.onnx", "global_backbone.onnx"} <= set(opened.namelist())
    # And back again: nothing of the light source is left.
    code, said = packed(archive, "--version", "3", "--to", tmp_path, "--faces", "hog")
    assert code == 0, said
    with zipfile.ZipFile(tmp_path / "vea-lite-3.mar") as opened:
        assert not [name for name in opened.namelist() if name.startswith("face_detector")]


def test_what_cannot_be_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    code, said = packed(tiny_model, "--version", "2", "--to", tmp_path, "--face-threshold", "1")
    assert code == 1
    assert "give --faces" in said
    code, said = packed(tiny_model, "--version", "2", "--to", tmp_path, "--faces", "none")
    assert code == 0, said
    none = tmp_path / "vea-lite-2.mar"
    code, said = packed(none, "--version", "3", "--to", tmp_path, "--faces", "light")
    assert code == 1
    assert "without faces" in said
