"""`--faces off`, and models that look for no faces: nothing about faces is computed or said."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import pyarrow.dataset
import pytest
from PIL import Image

from handler.archive.files import LANDMARKS
from handler.archive.loading import load_archive, without_faces
from handler.archive.writing import write_model_folder
from handler.client.answers import model_of, prediction_of
from handler.drawing.sheet import sheet
from handler.images import decode
from handler.predictor import Predictor
from handler.serving.service import VisualEmotionService
from handler.values.configs import FaceConfig
from jobs.report.reading import read_run
from jobs.storage.stores import Stores
from tests.handler.test_service import Context
from tests.program import vea
from vea.demo.page import make_card
from vea.web.schemas import SCHEMAS

FACE_COLUMNS = {"faces", "face_x1", "face_y1", "face_x2", "face_y2"}


@pytest.fixture(scope="module")
def face(portrait: Image.Image) -> bytes:
    encoded = io.BytesIO()
    portrait.save(encoded, "PNG")
    return encoded.getvalue()


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory, face: bytes, photo, encode) -> Path:
    folder = tmp_path_factory.mktemp("people") / "photos"
    folder.mkdir()
    (folder / "portrait.png").write_bytes(face)
    (folder / "none.jpg").write_bytes(encode(photo(1), "JPEG"))
    (folder / "broken.jpg").write_bytes(b"<html>not found</html>")
    return folder


@pytest.fixture(scope="module")
def faceless_model(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    """The tiny model, packed with the backend ``none``."""
    archive = load_archive(tiny_model)
    folder = tmp_path_factory.mktemp("faceless") / "model"
    write_model_folder(
        folder,
        config=without_faces(archive.config),
        network=archive.network,
        selector=archive.selector,
        landmarks=tiny_model / LANDMARKS,
        card=archive.card,
    )
    return folder


@pytest.fixture(params=["option", "model"])
def off(request: pytest.FixtureRequest, tiny_model: Path, faceless_model: Path) -> list[object]:
    """Arguments of the program that leave faces out, by the option or by the model."""
    if request.param == "option":
        return ["--model", tiny_model, "--faces", "off"]
    return ["--model", faceless_model]


def test_nothing_about_faces_is_computed(tiny_model: Path, face: bytes) -> None:
    read: list[int] = []
    emotions = {}
    for faces in (True, False):
        predictor = Predictor.load(tiny_model, faces=faces)
        trunk = predictor.network.expression_net.faces
        trunk.register_forward_hook(lambda *_: read.append(1))
        (answer,) = predictor.predict([face], explain=True)
        emotions[faces] = answer.probabilities
        assert predictor.model.faces is faces
        assert (answer.face is None, answer.face_count) == ((not faces), (1 if faces else None))
    assert read == [1], "Expression-Net read the face where faces are on"
    assert emotions[True] != emotions[False]


def test_a_photo_without_a_face_is_answered_as_before(tiny_model: Path, photo, encode) -> None:
    data = [encode(photo(seed), "PNG") for seed in range(3)]
    on, out = (Predictor.load(tiny_model, faces=faces).predict(data) for faces in (True, False))
    assert [one.face_count for one in on] == [0, 0, 0]
    assert [one.probabilities for one in on] == [one.probabilities for one in out]


def test_a_search_for_no_faces_needs_no_landmarks(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"expected one of hog, cnn, light, lighter, none"):
        FaceConfig(backend="nobody")
    from handler.stimuli.faces.source import build_face_source  # noqa: PLC0415

    source = build_face_source(
        FaceConfig(backend="none"), landmarks=tmp_path / "absent", detector=None, threads=1
    )
    assert not source.select([decode(_png())]).mask.any()


def _png() -> bytes:
    encoded = io.BytesIO()
    Image.new("RGB", (40, 30)).save(encoded, "PNG")
    return encoded.getvalue()


def test_predict_says_nothing_of_faces(photos: Path, off: list[object]) -> None:
    answered = json.loads(vea("predict", photos / "portrait.png", *off, "--json").stdout)
    assert "face" not in answered[0]
    assert "face" not in vea("predict", photos / "none.jpg", *off).stdout


def test_explain_draws_no_face(photos: Path, off: list[object], tmp_path: Path) -> None:
    shown = vea("explain", photos / "portrait.png", *off, "--out", tmp_path, "--json")
    (document,) = json.loads(shown.stdout)
    assert set(document["files"]) == {"data", "sheet", "activation", "objects"}
    assert not list(tmp_path.glob("*.face.png"))
    assert "face" not in json.loads(Path(document["files"]["data"]).read_text())


def test_the_demo_and_the_sheet_do_without(tiny_model: Path, face: bytes) -> None:
    (answer,) = Predictor.load(tiny_model, faces=False).predict([face], explain=True)
    assert "face" not in make_card("portrait.png", face, answer, 200).reasons
    image = decode(face)
    assert sheet(image, answer).width == sheet(image, replace(answer, face_count=0)).width


@pytest.mark.integration
def test_rows_have_no_columns_of_faces_and_a_run_keeps_its_choice(
    photos: Path, tiny_model: Path, faceless_model: Path, tmp_path: Path
) -> None:
    def score(out: str, *options: object, model: Path = tiny_model) -> object:
        return vea("score", photos, "--model", model, "--out", tmp_path / out, *options)

    assert score("with").returncode == 0
    assert score("without", "--faces", "off").returncode == 0
    assert score("faceless", model=faceless_model).returncode == 0
    columns = {}
    settings = {}
    for name in ("with", "without", "faceless"):
        table = pyarrow.dataset.dataset(tmp_path / name).to_table()
        columns[name] = set(table.column_names)
        assert table.num_rows == 3
        settings[name] = json.loads((tmp_path / name / "_manifest.json").read_text())["settings"]
    assert columns["with"] - columns["without"] == FACE_COLUMNS
    assert columns["without"] == columns["faceless"]
    assert "faces" not in settings["with"], "as runs were identified before there was a choice"
    assert settings["without"]["faces"] is False
    other = score("without")
    assert other.returncode == 1
    assert "--faces" in other.stderr
    other = score("with", "--faces", "off")
    assert other.returncode == 1
    assert "--faces" in other.stderr
    s3 = Stores()
    assert read_run(str(tmp_path / "with"), s3, examples=2).with_face == 1
    run = read_run(str(tmp_path / "without"), s3, examples=2)
    assert run.with_face is None
    assert {one.faces for one in run.most_confident} == {None}
    shown = vea("report", tmp_path / "without", "--html", tmp_path / "report.html")
    assert shown.returncode == 0, shown.stderr
    page = (tmp_path / "report.html").read_text()
    assert "face" not in page.partition("</style>")[2].casefold()


def test_a_service_decides_for_itself(photos: Path, tmp_path: Path) -> None:
    endpoint = ("--endpoint", "http://127.0.0.1:9")
    shown = vea("score", photos, *endpoint, "--out", tmp_path / "out", "--faces", "off")
    assert shown.returncode == 2
    assert "--faces" in shown.stderr


def test_a_worker_of_torchserve_obeys_whoever_started_it(
    tiny_model: Path, face: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def answer(settings: dict[str, object]) -> dict[str, object]:
        service = VisualEmotionService()
        service.initialize(Context(tiny_model, [], settings))
        context = Context(tiny_model, [{"X-Explain": "true"}])
        (body,) = service.handle([{"body": bytearray(face)}], context)
        document: dict[str, object] = json.loads(body)
        return document

    assert answer({})["face"]["count"] == 1
    without = answer({"handler": {"faces": False}})
    assert "face" not in without
    monkeypatch.setenv("VEA_FACES", "off")
    assert "face" not in answer({})
    read = prediction_of(without)
    assert (read.face, read.face_count) == (None, None)
    assert model_of(without).faces is False
    for name in ("Prediction", "Explanation"):
        assert set(SCHEMAS[name]["required"]) <= set(without), "the gateway's description holds"
