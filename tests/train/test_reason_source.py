"""`vea package --reasons`: an archive tells further reasons, and nothing else changes."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

from handler.archive import files
from handler.batch_metrics import BatchMetrics
from handler.predictor import Predictor
from handler.values.prediction import Prediction
from train.compiling.build import Calibration
from train.reason_source import change_reasons
from vea.main import build_app
from vea.serving.verification import verify

DETECTOR = {"thing_detector.safetensors", "thing_detector.onnx"}
TOLD = {"config.json", "model_card.json", "contents.json"}


@pytest.fixture(autouse=True)
def _at_home(detector_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VEA_WEIGHTS", str(detector_home))


def content(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


@pytest.fixture(scope="module")
def plain(compiled_model: Path, tiny_model: Path) -> dict[str, Path]:
    return {"torch": tiny_model, "onnx": compiled_model}


@pytest.fixture
def pictures(photo, encode) -> list[bytes]:
    return [encode(photo(seed, (150 + 10 * seed, 100)), "PNG") for seed in range(4)]


def told(answers: list) -> list[list[tuple[str, float]]]:
    assert all(isinstance(answer, Prediction) for answer in answers)
    return [[(thing.label, thing.attention) for thing in answer.detected] for answer in answers]


def test_nothing_else_of_the_model_changes(plain, reasons_models) -> None:
    for name in plain:
        before, after = content(plain[name]), content(reasons_models[name])
        new = DETECTOR if name == "onnx" else DETECTOR - {"thing_detector.onnx"}
        assert after.keys() - before.keys() == new
        assert {file for file in before if before[file] != after[file]} <= TOLD
    graph = reasons_models["onnx"] / "thing_detector.onnx"
    assert graph.stat().st_size < 200_000, "it has no weights of its own"
    card = files.read_card(reasons_models["onnx"])[1]
    assert card["reasons"] == {"source": "light", "name_threshold": 0.85}
    assert "Apache-2.0" in card["licences"]["thing_detector.safetensors"]


def test_filters_of_the_detector_are_shortened(reasons_models) -> None:
    """To 8 significant bits, those of bfloat16."""
    tensors = load_file(reasons_models["torch"] / files.THING_DETECTOR)
    for name, tensor in tensors.items():
        if tensor.is_floating_point():
            assert tensor.dtype == torch.half
            assert tensor.ndim == 1 or torch.equal(tensor.bfloat16().half(), tensor), name


def test_without_it_again_the_model_is_the_one_before(
    plain, reasons_models, tmp_path: Path
) -> None:
    for name in plain:
        change_reasons(reasons_models[name], tmp_path / name, "none")
        assert content(tmp_path / name) == content(plain[name])


@pytest.mark.parametrize("runtime", ["torch", "onnx"])
def test_no_emotion_changes_and_people_are_told_where_reasons_are_wanted(
    plain, reasons_models, pictures, runtime: str
) -> None:
    before = Predictor.load(plain[runtime], runtime=runtime)
    after = Predictor.load(reasons_models[runtime], runtime=runtime)
    assert (before.model.detects, after.model.detects) == (False, True)
    asked, explained = after.predict(pictures), after.predict(pictures, explain=True)
    for one, same, other in zip(before.predict(pictures), asked, explained, strict=True):
        assert one == same, "not even in the last digit"
        assert (one.probabilities, one.objects) == (other.probabilities, other.objects)
    found = told(explained)
    assert sum(map(len, found)) > 4
    assert {label for things in found for label, _ in things} == {"person"}
    for things in found:
        shares = [share for _, share in things]
        assert shares == sorted(shares, reverse=True)
        assert all(0 <= share <= 1.0001 for share in shares)
    assert told(after.predict(pictures, detect=True)) == found
    assert before.predict(pictures, explain=True)[0].detected is None


def test_the_detector_works_only_where_reasons_are_wanted(reasons_models, pictures) -> None:
    predictor = Predictor.load(reasons_models["onnx"])
    for wanted, works in (({}, False), ({"explain": True}, True), ({"detect": True}, True)):
        metrics = BatchMetrics()
        predictor.predict(pictures, metrics=metrics, **wanted)
        assert ("detect" in metrics.seconds) == works, wanted


def test_both_forms_find_the_same(reasons_models, pictures) -> None:
    one, other = (
        Predictor.load(reasons_models["onnx"], runtime=runtime).predict(pictures, explain=True)
        for runtime in ("torch", "onnx")
    )
    for mine, theirs in zip(one, other, strict=True):
        assert len(mine.detected) == len(theirs.detected)
        for a, b in zip(mine.detected, theirs.detected, strict=True):
            assert a.box == pytest.approx(b.box, abs=0.5)
            assert a.score == pytest.approx(b.score, abs=1e-3)


@pytest.mark.long
def test_a_detector_in_8_bits_is_calibrated_alone(plain, tmp_path: Path, photo, pictures) -> None:
    for seed in range(3):
        photo(seed, (200, 160)).save(tmp_path / f"{seed}.png")
    calibration = Calibration(sorted(tmp_path.glob("*.png")), "test")
    change_reasons(plain["onnx"], tmp_path / "model", "light", calibration)
    sizes = {name: len(data) for name, data in content(tmp_path / "model").items()}
    assert sizes["thing_detector.onnx"] < 0.6 * sizes["thing_detector.safetensors"]
    assert any(told(Predictor.load(tmp_path / "model").predict(pictures, explain=True)))


def packed(*arguments: str | Path) -> tuple[int, str]:
    shown = CliRunner().invoke(build_app(), ["package", *map(str, arguments)])
    return shown.exit_code, f"{shown.output}{shown.exception}"


@pytest.mark.integration
def test_an_archive_has_the_detector_until_it_is_packed_without(
    compiled_model: Path, tmp_path: Path, pictures
) -> None:
    code, said = packed(compiled_model, "--version", "2", "--to", tmp_path, "--reasons", "light")
    assert code == 0, said
    archive = tmp_path / "vea-lite-2.mar"
    assert verify(archive).config.reasons == {"source": "light", "size": 320}
    assert any(told(Predictor.load(archive).predict(pictures, explain=True)))
    # It stays with another face source and another form, and goes when it is told to.
    code, said = packed(
        *(archive, "--version", "3", "--to", tmp_path), *("--faces", "none"), *("--runtime", "onnx")
    )
    assert code == 0, said
    with zipfile.ZipFile(tmp_path / "vea-lite-3.mar") as opened:
        assert set(opened.namelist()) >= DETECTOR
    code, said = packed(archive, "--version", "4", "--to", tmp_path, "--reasons", "none")
    assert code == 0, said
    with zipfile.ZipFile(tmp_path / "vea-lite-4.mar") as opened:
        assert not set(opened.namelist()) & DETECTOR


def test_missing_weights_are_told_with_what_to_do(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VEA_WEIGHTS", str(tmp_path / "none"))
    code, said = packed(tiny_model, "--version", "2", "--to", tmp_path, "--reasons", "light")
    assert code == 1
    assert "nanodet-g" in said
    assert not list(tmp_path.glob("*.mar"))
