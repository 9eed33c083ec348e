"""Figures that follow from labels and probabilities."""

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from handler.values.emotions import EKMAN, MIKELS, POLARITY
from train.evaluation.metrics import Scores


def said(wheel, pairs):
    """Scores of (true emotion, called emotion) pairs, each answer 60 % sure."""
    labels = np.array([wheel.index(true) for true, _ in pairs], dtype=np.int64)
    rest = 0.4 / (len(wheel) - 1)
    p = np.full((len(pairs), len(wheel)), rest)
    p[np.arange(len(pairs)), [wheel.index(called) for _, called in pairs]] = 0.6
    return Scores(wheel, labels, p, p[:, : wheel.positives].sum(axis=1))


def random_scores(seed, images, wheel=MIKELS):
    rng = np.random.default_rng(seed)
    p = rng.dirichlet(np.ones(len(wheel)), size=images)
    labels = rng.integers(0, len(wheel), images)
    return Scores(wheel, labels, p, p[:, : wheel.positives].sum(axis=1))


def test_recall_and_precision_come_from_rows_and_columns():
    pairs = [("awe", "amusement")] * 2 + [("awe", "awe")] * 6
    pairs += [("fear", "awe")] * 2 + [("fear", "fear")] * 2
    scores = said(MIKELS, pairs)
    awe, fear = (scores.per_class()[emotion] for emotion in ("awe", "fear"))
    assert awe == {"images": 8, "accuracy": 0.75, "precision": 0.75, "f1": 0.75}
    assert fear == {"images": 4, "accuracy": 0.5, "precision": 1.0, "f1": pytest.approx(2 / 3)}
    assert scores.accuracy == 8 / 12
    assert scores.macro_accuracy == pytest.approx((0.75 + 0.5) / 2), "absent emotions do not count"
    # Amusement was called, though it is nobody's label: its F1 is 0.
    assert scores.macro_f1 == pytest.approx((0.75 + 2 / 3 + 0) / 3)
    assert math.isnan(scores.per_class()["anger"]["accuracy"])


def test_errors_of_the_right_polarity_are_easy_and_of_the_wrong_one_hard():
    pairs = [("awe", "awe")] * 5 + [("awe", "amusement")] * 3 + [("fear", "sadness")]
    pairs += [("fear", "excitement")] * 1
    kinds = said(MIKELS, pairs).to_dict()["false_examples"]
    assert kinds["easy"] == {"images": 4, "share_of_images": 0.4, "share_of_errors": 0.8}
    assert kinds["hard"] == {"images": 1, "share_of_images": 0.1, "share_of_errors": 0.2}


def test_an_emotion_may_have_the_wrong_polarity_while_the_sum_has_the_right_one():
    p = np.array([[0.3, 0.2, 0.1, 0.0, 0.4, 0.0, 0.0, 0.0]])  # anger leads, yet 60 % is positive
    scores = Scores(MIKELS, np.array([0]), p, np.array([0.6]))
    assert scores.polarity_accuracy == 1.0
    assert scores.hard_errors == 1


def test_two_guesses_find_the_second_most_probable_emotion_but_not_the_third():
    p = np.array([[0.5, 0.3, 0.2, 0, 0, 0, 0, 0]] * 3)
    scores = Scores(MIKELS, np.array([0, 1, 2]), p, np.ones(3))
    assert scores.top2_accuracy == pytest.approx(2 / 3)


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    images=st.integers(1, 60),
    wheel=st.sampled_from([MIKELS, EKMAN, POLARITY]),
)
def test_every_image_is_right_or_easy_or_hard_and_intervals_hold_their_figures(seed, images, wheel):
    scores = random_scores(seed, images, wheel)
    right = round(scores.accuracy * images)
    assert right + scores.easy_errors + scores.hard_errors == images
    assert sum(map(sum, scores.confusion)) == images
    document = scores.to_dict()
    for name in ("accuracy", "polarity_accuracy"):
        low, high = document[f"{name}_interval_95"]
        assert 0 <= low <= document[name] <= high <= 1
    for row in document["per_class"].values():
        if row["accuracy"] is None:
            assert row["accuracy_interval_95"] == [None, None]
        else:
            low, high = row["accuracy_interval_95"]
            assert low <= row["accuracy"] <= high


def test_between_two_classes_there_is_no_second_guess_and_every_error_is_hard():
    scores = said(POLARITY, [("positive", "positive"), ("negative", "positive")])
    document = scores.to_dict()
    assert document["top2_accuracy"] is None
    assert document["top2_accuracy_interval_95"] is None
    assert document["false_examples"]["hard"]["images"] == 1
    assert document["accuracy"] == document["polarity_accuracy"] == 0.5


def test_the_keys_that_model_cards_are_made_of_stay():
    document = random_scores(0, 30).to_dict()
    assert {
        "images",
        "accuracy",
        "accuracy_interval_95",
        "polarity_accuracy",
        "per_class",
        "confusion_matrix",
    } <= set(document)
    assert {"images", "accuracy", "precision"} <= set(document["per_class"]["awe"])
    assert set(document["confusion_matrix"]) == {"labels", "rows_true_columns_predicted"}


def test_without_images_the_document_is_still_json():
    scores = Scores(MIKELS, np.zeros(0, dtype=np.int64), np.zeros((0, 8)), np.zeros(0))
    document = json.loads(json.dumps(scores.to_dict(), allow_nan=False))
    assert document["images"] == 0
    assert document["accuracy"] is None
    assert document["macro_f1"] is None
