"""Evaluation counts what the predictor says, and what it refuses."""

import json

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from handler.predictor import Predictor
from handler.values.emotions import MIKELS, POLARITY
from handler.values.errors import VeaError
from handler.values.prediction import Prediction, Refusal
from train.datasets.table import DatasetError
from train.evaluation.charts import write_report
from train.evaluation.evaluate import (
    check_predictions_file,
    evaluate,
    predict_files,
    write_predictions,
)


@pytest.fixture(scope="module")
def predictor(tiny_model):
    return Predictor.load(tiny_model)


def fill(root, photo, encode, *labels, start=0):
    for number, label in enumerate(labels):
        folder = root / label
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number}.png").write_bytes(encode(photo(start + number), "PNG"))


@pytest.fixture(scope="module")
def evaluation(tmp_path_factory, predictor, photo, encode):
    """Of seven photos and one file that is none."""
    root = tmp_path_factory.mktemp("photos")
    fill(root, photo, encode, "awe", "Sad", "fear", "awe", "excitement", "anger", "disgust")
    (root / "awe" / "broken.jpg").write_bytes(b"\xff\xd8\xff not a photo")
    return evaluate(predictor, root)


def test_every_image_is_counted_under_its_label_and_its_prediction(
    tmp_path, predictor, photo, encode
):
    fill(tmp_path, photo, encode, "awe", "Sad", "fear", "awe")
    scores = evaluate(predictor, tmp_path).scores
    answers = {path: predictor.predict([path.read_bytes()])[0] for path in tmp_path.rglob("*.png")}
    for path, answer in answers.items():
        true = MIKELS.index(path.parent.name)
        assert scores.confusion[true][MIKELS.index(answer.emotion)] > 0
    right = sum(a.emotion == p.parent.name for p, a in answers.items() if p.parent.name != "Sad")
    right += sum(a.emotion == "sadness" for p, a in answers.items() if p.parent.name == "Sad")
    assert scores.images == 4
    assert scores.accuracy == right / 4
    polarity = sum(
        a.polarity == MIKELS.polarity(MIKELS.index(p.parent.name)) for p, a in answers.items()
    )
    assert scores.polarity_accuracy == polarity / 4


def test_unreadable_files_are_counted_apart_with_their_reasons(evaluation):
    document = evaluation.to_dict()
    assert document["images"] == 7
    assert document["refused"]["count"] == 1
    assert all(reason for reason in document["refused"]["reasons"])
    json.dumps(document, allow_nan=False)


def test_a_file_that_has_gone_is_refused_and_its_neighbours_are_not(
    tmp_path, predictor, photo, encode
):
    fill(tmp_path, photo, encode, "awe", "fear")
    paths = [str(tmp_path / name) for name in ("awe/0.png", "gone.png", "fear/1.png")]
    first, gone, last = predict_files(predictor, paths)
    assert isinstance(first, Prediction)
    assert isinstance(gone, Refusal)
    assert "cannot be read" in gone.reason
    assert isinstance(last, Prediction)


def test_the_test_split_is_taken_where_there_is_one_else_val(tmp_path, predictor, photo, encode):
    fill(tmp_path / "train", photo, encode, "awe", "fear", start=0)
    fill(tmp_path / "val", photo, encode, "awe", start=10)
    assert evaluate(predictor, tmp_path).split == "val"
    fill(tmp_path / "test", photo, encode, "fear", "fear", "fear", start=20)
    assert evaluate(predictor, tmp_path).scores.images == 3
    assert evaluate(predictor, tmp_path, split="train").scores.images == 2
    assert evaluate(predictor, tmp_path, split="all").scores.images == 6


def test_a_data_set_without_splits_is_measured_whole(evaluation):
    assert evaluation.split == "all"


def test_a_split_that_is_not_there_is_named(tmp_path, predictor, photo, encode):
    fill(tmp_path / "train", photo, encode, "awe")
    with pytest.raises(DatasetError, match="test"):
        evaluate(predictor, tmp_path, split="test")


@pytest.mark.parametrize(
    ("labels", "positive"),
    [(("pos", "neg", "neg"), 1), (("joy", "surprise", "anger", "disgust"), 2)],
    ids=["a polarity set", "other emotions"],
)
def test_a_data_set_with_other_labels_is_measured_on_polarity(
    tmp_path, predictor, photo, encode, labels, positive
):
    fill(tmp_path, photo, encode, *labels)
    result = evaluate(predictor, tmp_path)
    scores = result.scores
    assert scores.wheel == POLARITY
    assert scores.per_class()["positive"]["images"] == positive
    answers = {p: predictor.predict([p.read_bytes()])[0] for p in tmp_path.rglob("*.png")}
    is_positive = {"pos", "joy", "surprise"}
    right = sum(
        (a.polarity == "positive") == (p.parent.name in is_positive) for p, a in answers.items()
    )
    assert scores.accuracy == scores.polarity_accuracy == right / len(labels)
    assert result.to_dict()["wheel"] == "polarity-2"
    assert list(result.table.filter(like="p_").columns) == ["p_positive", "p_negative"]


def test_a_folder_that_holds_nothing_known_is_an_error(tmp_path, predictor):
    with pytest.raises(DatasetError, match="no known data set"):
        evaluate(predictor, tmp_path)


def test_the_table_holds_the_answer_to_every_image_or_why_there_is_none(evaluation, predictor):
    table = evaluation.table.set_index("image")
    assert len(table) == 8
    columns = [f"p_{label}" for label in MIKELS.labels]
    scored = table[table["refused"] == ""]
    assert scored[columns].sum(axis=1).to_numpy() == pytest.approx(1)
    assert (
        scored["predicted"] == [MIKELS.labels[i] for i in scored[columns].to_numpy().argmax(1)]
    ).all()
    assert table.loc["Sad/1.png", "label"] == "sadness"
    broken = table.loc["awe/broken.jpg"]
    assert broken["refused"]
    assert broken["predicted"] == ""
    assert np.isnan(broken[columns].astype(float)).all()


@pytest.mark.parametrize("name", ["predictions.csv", "predictions.parquet"])
def test_predictions_come_back_from_the_file_as_they_were(evaluation, tmp_path, name):
    write_predictions(evaluation.table, tmp_path / name)
    if name.endswith(".csv"):
        back = pd.read_csv(tmp_path / name, keep_default_na=True).fillna(
            {"refused": "", "predicted": ""}
        )
    else:
        back = pd.read_parquet(tmp_path / name)
    pd.testing.assert_frame_equal(back, evaluation.table, check_dtype=False)


def test_a_file_for_predictions_that_cannot_be_written_is_told_at_once(tmp_path):
    with pytest.raises(VeaError, match=r"expected a \.parquet or \.csv file"):
        check_predictions_file(tmp_path / "predictions.xlsx")
    with pytest.raises(VeaError, match="there is no folder"):
        check_predictions_file(tmp_path / "absent" / "predictions.csv")


def test_the_report_holds_figures_predictions_and_three_charts(evaluation, tmp_path):
    files = write_report(evaluation, tmp_path / "report")
    assert sorted(f.name for f in files) == sorted(f.name for f in (tmp_path / "report").iterdir())
    assert json.loads((tmp_path / "report" / "evaluation.json").read_text()) == evaluation.to_dict()
    assert len(pd.read_csv(tmp_path / "report" / "predictions.csv")) == 8
    charts = [f for f in files if f.suffix == ".png"]
    assert len(charts) == 3
    for chart in charts:
        picture = np.asarray(Image.open(chart).convert("L"))
        assert min(picture.shape) > 400
        assert picture.min() < 60, "something is drawn"


def test_charts_can_be_drawn_of_polarity_alone(tmp_path, predictor, photo, encode):
    fill(tmp_path / "data", photo, encode, "pos", "neg", "neg")
    files = write_report(evaluate(predictor, tmp_path / "data"), tmp_path / "report")
    assert all(f.stat().st_size for f in files)
