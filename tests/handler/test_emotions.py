"""Wheels: the order of the labels, their polarity, and how data sets spell them."""

from __future__ import annotations

import pytest

from handler.values import emotions
from handler.values.emotions import EKMAN, MIKELS, POLARITY, Wheel


def test_mikels_wheel_has_its_four_positive_emotions_first() -> None:
    assert set(MIKELS.labels[:4]) == {"amusement", "awe", "contentment", "excitement"}
    assert set(MIKELS.labels[4:]) == {"anger", "disgust", "fear", "sadness"}
    assert MIKELS.positives == 4


def test_ekmans_wheel_counts_joy_and_surprise_as_positive() -> None:
    assert set(EKMAN.labels[: EKMAN.positives]) == {"joy", "surprise"}
    assert set(EKMAN.labels[EKMAN.positives :]) == {"anger", "disgust", "fear", "sadness"}


@pytest.mark.parametrize("wheel", [MIKELS, EKMAN, POLARITY], ids=lambda wheel: wheel.name)
def test_polarity_follows_the_order_of_the_labels(wheel: Wheel) -> None:
    polarities = [wheel.polarity(i) for i in range(len(wheel))]
    negatives = len(wheel) - wheel.positives
    assert polarities == ["positive"] * wheel.positives + ["negative"] * negatives


@pytest.mark.parametrize(
    ("wheel", "spelling", "label"),
    [
        (MIKELS, "amuse", "amusement"),
        (MIKELS, "content", "contentment"),
        (MIKELS, "excite", "excitement"),
        (MIKELS, "sad", "sadness"),
        (MIKELS, "angry", "anger"),
        (EKMAN, "happy", "joy"),
        (EKMAN, "happiness", "joy"),
        (EKMAN, "sad", "sadness"),
        (POLARITY, "pos", "positive"),
        (POLARITY, "neg", "negative"),
    ],
)
def test_an_alias_names_the_emotion_it_stands_for(wheel: Wheel, spelling: str, label: str) -> None:
    assert wheel.labels[wheel.index(spelling)] == label


@pytest.mark.parametrize("label", MIKELS.labels)
def test_a_label_is_found_in_any_case_and_between_blanks(label: str) -> None:
    position = MIKELS.labels.index(label)
    for spelling in (label, label.upper(), label.title(), f"  {label}\n"):
        assert MIKELS.index(spelling) == position


def test_an_alias_is_found_in_any_case() -> None:
    assert MIKELS.index("SAD") == MIKELS.index("sadness")


@pytest.mark.parametrize("stranger", ["joy", "boredom", "", "sadnes"])
def test_an_unknown_emotion_is_refused_with_the_known_ones(stranger: str) -> None:
    assert not MIKELS.knows(stranger)
    with pytest.raises(ValueError, match="amusement, awe") as refusal:
        MIKELS.index(stranger)
    assert f"'{stranger}'" in str(refusal.value)


def test_an_alias_of_another_wheel_is_unknown() -> None:
    assert EKMAN.knows("happy")
    assert not MIKELS.knows("happy")
    assert not EKMAN.knows("amuse")


def test_wheels_are_found_by_their_names() -> None:
    for wheel in (MIKELS, EKMAN, POLARITY):
        assert emotions.wheel(wheel.name) is wheel


def test_an_unknown_wheel_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"unknown wheel 'plutchik'.*ekman-6, mikels-8"):
        emotions.wheel("plutchik")
