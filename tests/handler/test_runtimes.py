"""Runtimes: the compiled form of an archive answers as its weights do, and says that it did."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from handler.archive.files import read_card, seal
from handler.client.answers import model_of
from handler.predictor import Predictor
from handler.serving.service import VisualEmotionService
from handler.values.errors import ArchiveError
from handler.values.runtimes import VARIABLE, RuntimeUnavailable, choose_runtime
from vea.main import build_app

GRAPHS = ("global_backbone.onnx", "object_backbone.onnx")


@pytest.fixture(autouse=True)
def _no_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)


@pytest.fixture(scope="module")
def images(photo, encode, portrait) -> list[bytes]:
    """Nine pictures, more than a batch, the last one with a face."""
    return [*(encode(photo(seed), "PNG") for seed in range(8)), encode(portrait, "JPEG")]


@pytest.fixture(scope="module")
def both(compiled_model: Path) -> dict[str, Predictor]:
    """The same archive with either runtime."""
    return {name: Predictor.load(compiled_model, runtime=name) for name in ("torch", "onnx")}


def test_both_runtimes_answer_alike(both: dict[str, Predictor], images: list[bytes]) -> None:
    one, other = (both[name].predict(images, explain=True) for name in ("torch", "onnx"))
    for a, b in zip(one, other, strict=True):
        assert b.emotion == a.emotion
        assert b.probabilities == pytest.approx(a.probabilities, abs=1e-4)
        assert [item.label for item in b.objects] == [item.label for item in a.objects]
        attention = [item.attention for item in a.objects]
        assert [item.attention for item in b.objects] == pytest.approx(attention, abs=1e-4)
        np.testing.assert_allclose(b.activation, a.activation, atol=1e-3)
        assert b.face == a.face


def test_an_answer_does_not_depend_on_its_batch(
    both: dict[str, Predictor], images: list[bytes]
) -> None:
    together = both["onnx"].predict(images)
    for image, answer in zip(images, together, strict=True):
        (alone,) = both["onnx"].predict([image])
        assert alone.probabilities == pytest.approx(answer.probabilities, abs=1e-5)


def test_an_answer_names_its_runtime(both: dict[str, Predictor], images: list[bytes]) -> None:
    for name, predictor in both.items():
        (answer,) = predictor.predict(images[:1])
        document = answer.to_dict(predictor.model)
        assert document["model"]["runtime"] == name
        assert model_of(document) == predictor.model


def test_an_answer_of_an_earlier_version_is_of_torch() -> None:
    assert model_of({"model": {"name": "a", "version": "1", "digest": "d"}}).runtime == "torch"


def test_a_compiled_form_is_used_by_default(compiled_model: Path, tiny_model: Path) -> None:
    assert Predictor.load(compiled_model).model.runtime == "onnx"
    assert Predictor.load(tiny_model).model.runtime == "torch"


def test_a_compiled_archive_without_its_compiled_form_is_refused(
    compiled_model: Path, tmp_path: Path
) -> None:
    for name in GRAPHS:
        folder = Path(shutil.copytree(compiled_model, tmp_path / name))
        (folder / name).unlink()
        with pytest.raises(ArchiveError):
            Predictor.load(folder)


def test_another_compiled_form_is_another_archive(compiled_model: Path, tmp_path: Path) -> None:
    listed = json.loads((compiled_model / "contents.json").read_text())
    assert set(GRAPHS) <= set(listed)
    folder = Path(shutil.copytree(compiled_model, tmp_path / "model"))
    with (folder / GRAPHS[0]).open("ab") as file:
        file.write(b"\0")
    with pytest.raises(ArchiveError, match="digest"):
        Predictor.load(folder)


def test_a_damaged_graph_is_refused_in_one_line(compiled_model: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(compiled_model, tmp_path / "model"))
    (folder / GRAPHS[1]).write_bytes(b"no graph")
    seal(folder)
    with pytest.raises(ArchiveError, match="object_backbone") as caught:
        Predictor.load(folder)
    assert "\n" not in str(caught.value)
    assert Predictor.load(folder, runtime="torch").model.runtime == "torch"


@pytest.mark.parametrize(
    ("wanted", "compiled", "device", "chosen"),
    [
        ("auto", "float32", "cpu", "onnx"),
        ("auto", None, "cpu", "torch"),
        ("auto", "int8", "cuda:0", "torch"),
        ("torch", "int8", "cpu", "torch"),
        ("onnx", "int8", "cpu", "onnx"),
    ],
)
def test_which_runtime_is_chosen(
    wanted: str, compiled: str | None, device: str, chosen: str
) -> None:
    assert choose_runtime(wanted, compiled=compiled, device=device) == chosen


@pytest.mark.parametrize(
    ("wanted", "compiled", "device", "reason"),
    [
        ("onnx", None, "cpu", "no compiled form"),
        ("onnx", "int8", "cuda", "the device is cuda"),
        ("fast", "int8", "cpu", "expected one of"),
    ],
)
def test_an_impossible_runtime_is_refused(
    wanted: str, compiled: str | None, device: str, reason: str
) -> None:
    with pytest.raises(RuntimeUnavailable, match=reason):
        choose_runtime(wanted, compiled=compiled, device=device)


@pytest.mark.integration
def test_without_onnx_runtime_torch_is_the_fallback_and_onnx_is_refused(
    compiled_model: Path,
) -> None:
    # In a program of its own, whose imports find no such package.
    code = f"""
import sys
sys.modules["onnxruntime"] = None
from handler.predictor import Predictor
from handler.values.errors import VeaError
print(Predictor.load({str(compiled_model)!r}).model.runtime)
try:
    Predictor.load({str(compiled_model)!r}, runtime="onnx")
except VeaError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    fallback, refusal = done.stdout.splitlines()
    assert fallback == "torch"
    assert "onnxruntime is not installed" in refusal


@pytest.mark.parametrize(
    ("setting", "variable", "expected"),
    [
        (None, None, "onnx"),
        ("torch", None, "torch"),
        ("torch", "onnx", "onnx"),
        (None, "torch", "torch"),
    ],
)
def test_the_service_takes_the_runtime_of_the_archive_or_the_server(
    compiled_model: Path,
    images: list[bytes],
    monkeypatch: pytest.MonkeyPatch,
    setting: str | None,
    variable: str | None,
    expected: str,
) -> None:
    if variable is not None:
        monkeypatch.setenv(VARIABLE, variable)
    own: dict[str, Any] = {"threads": 1} | ({"runtime": setting} if setting else {})
    service = VisualEmotionService()
    properties = {"model_dir": str(compiled_model), "batch_size": 1}
    service.initialize(
        SimpleNamespace(model_yaml_config={"handler": own}, system_properties=properties)
    )
    assert service.responder is not None
    assert service.responder.predictor.model.runtime == expected


def test_predict_takes_the_runtime_of_its_option(
    compiled_model: Path, images: list[bytes], tmp_path: Path
) -> None:
    (tmp_path / "one.png").write_bytes(images[0])
    arguments = ["predict", str(tmp_path), "--model", str(compiled_model), "--json"]
    answers = {}
    for runtime in ("torch", "onnx"):
        shown = CliRunner().invoke(
            build_app(),
            [*arguments, "--runtime", runtime],
        )
        assert shown.exit_code == 0, shown.output
        (answers[runtime],) = json.loads(shown.stdout)
        assert answers[runtime]["model"]["runtime"] == runtime
    expected = answers["torch"]["probabilities"]
    assert answers["onnx"]["probabilities"] == pytest.approx(expected, abs=1e-4)


def test_the_compiled_form_is_part_of_the_settings(compiled_model: Path, tiny_model: Path) -> None:
    assert read_card(compiled_model)[0].compiled == "float32"
    assert read_card(tiny_model)[0].compiled is None
    assert "compiled" not in json.loads((tiny_model / "config.json").read_text())
