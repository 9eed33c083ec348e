"""Evaluation counts what the predictor says, and what it refuses."""

import math

import pytest

from handler.emotions import MIKELS
from handler.predictor import Prediction, Predictor, Refusal
from train.datasets.folders import DatasetError
from train.evaluate import Evaluation, evaluate, wilson_interval


@pytest.fixture(scope="module")
def predictor(tiny_model):
    return Predictor.load(tiny_model)


def fill(root, photo, encode, *labels, start=0):
    for number, label in enumerate(labels):
        folder = root / label
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number}.png").write_bytes(encode(photo(start + number), "PNG"))


def test_every_image_is_counted_under_its_label_and_its_prediction(
    tmp_path, predictor, photo, encode
):
    fill(tmp_path, photo, encode, "awe", "Sad", "fear", "awe")
    result = evaluate(predictor, tmp_path)
    answers = {path: predictor.predict([path.read_bytes()])[0] for path in tmp_path.rglob("*.png")}
    for path, answer in answers.items():
        true = MIKELS.index(path.parent.name)
        assert result.confusion[true][MIKELS.index(answer.emotion)] > 0
    right = sum(a.emotion == p.parent.name for p, a in answers.items() if p.parent.name != "Sad")
    right += sum(a.emotion == "sadness" for p, a in answers.items() if p.parent.name == "Sad")
    assert result.images == 4
    assert result.accuracy == right / 4
    polarity = sum(
        a.polarity == MIKELS.polarity(MIKELS.index(p.parent.name)) for p, a in answers.items()
    )
    assert result.polarity_accuracy == polarity / 4
    assert result.split == "all"


def test_unreadable_files_are_counted_apart_with_their_reasons(tmp_path, predictor, photo, encode):
    fill(tmp_path, photo, encode, "awe", "fear")
    (tmp_path / "awe" / "broken.jpg").write_bytes(b"\xff\xd8\xff not a photo")
    result = evaluate(predictor, tmp_path).to_dict()
    assert result["images"] == 2
    assert result["refused"]["count"] == 1
    assert all(reason for reason in result["refused"]["reasons"])


def test_the_test_split_is_taken_where_there_is_one_else_val(tmp_path, predictor, photo, encode):
    fill(tmp_path / "train", photo, encode, "awe", "fear", start=0)
    fill(tmp_path / "val", photo, encode, "awe", start=10)
    assert evaluate(predictor, tmp_path).split == "val"
    fill(tmp_path / "test", photo, encode, "fear", "fear", "fear", start=20)
    assert evaluate(predictor, tmp_path).images == 3
    assert evaluate(predictor, tmp_path, split="train").images == 2
    assert evaluate(predictor, tmp_path, split="all").images == 6


def test_a_split_that_is_not_there_is_named(tmp_path, predictor, photo, encode):
    fill(tmp_path / "train", photo, encode, "awe")
    with pytest.raises(DatasetError, match="val"):
        evaluate(predictor, tmp_path, split="val")


def result_of(confusion, polarity_correct=0):
    return Evaluation(
        wheel=MIKELS,
        model={},
        split="all",
        confusion=confusion,
        polarity_correct=polarity_correct,
        refused={},
        placeholders=0,
        seconds=2.0,
    )


def test_recall_and_precision_come_from_rows_and_columns():
    confusion = [[0] * 8 for _ in range(8)]
    confusion[1] = [2, 6, 0, 0, 0, 0, 0, 0]  # awe: 6 of 8 found
    confusion[6] = [0, 2, 0, 0, 0, 0, 2, 0]  # fear: 2 of 4 found, 2 called awe
    result = result_of(confusion)
    assert result.per_class()["awe"] == {"images": 8, "accuracy": 0.75, "precision": 0.75}
    assert result.per_class()["fear"] == {"images": 4, "accuracy": 0.5, "precision": 1.0}
    assert result.accuracy == 8 / 12
    assert math.isnan(result.per_class()["anger"]["accuracy"])
    document = result.to_dict()
    assert document["per_class"]["anger"]["accuracy"] is None
    assert document["images_per_second"] == 6.0


def test_the_interval_holds_the_share_and_shrinks_with_more_images():
    low, high = wilson_interval(0.65, 1093)
    assert low < 0.65 < high
    assert high - low == pytest.approx(2 * 1.96 * math.sqrt(0.65 * 0.35 / 1093), rel=0.01)
    wide = wilson_interval(0.65, 20)
    assert wide[1] - wide[0] > 5 * (high - low)
    assert wilson_interval(1.0, 10)[1] <= 1.0


def test_answers_are_predictions_or_refusals(predictor, photo, encode):
    answers = predictor.predict([encode(photo(1), "PNG"), b""])
    assert isinstance(answers[0], Prediction)
    assert isinstance(answers[1], Refusal)
