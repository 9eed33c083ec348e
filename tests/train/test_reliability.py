"""Scores of probabilities against their definitions, and bins that add up."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from train.evaluation.reliability import (
    brier_score,
    expected_calibration_error,
    negative_log_likelihood,
    reliability_bins,
)


def made_up(seed, images=60, classes=8, scale=2.0):
    rng = np.random.default_rng(seed)
    logits = rng.normal(scale=scale, size=(images, classes))
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    return p / p.sum(axis=1, keepdims=True), rng.integers(0, classes, images)


def test_guessing_scores_what_guessing_must():
    p, labels = np.full((10, 8), 1 / 8), np.arange(10) % 8
    assert negative_log_likelihood(p, labels) == pytest.approx(math.log(8))
    assert brier_score(p, labels) == pytest.approx(1 - 1 / 8)


def test_certain_answers_score_the_best_and_the_worst():
    truth = np.eye(8)[[0, 3, 7]]
    right, wrong = np.array([0, 3, 7]), np.array([1, 4, 6])
    assert negative_log_likelihood(truth, right) == 0
    assert brier_score(truth, right) == 0
    assert expected_calibration_error(truth, right) == pytest.approx(0)
    assert brier_score(truth, wrong) == 2
    assert expected_calibration_error(truth, wrong) == pytest.approx(1)
    assert 100 < negative_log_likelihood(truth, wrong) < math.inf


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), images=st.integers(1, 80), scale=st.floats(0.1, 6))
def test_scores_are_those_of_the_definitions(seed, images, scale):
    p, labels = made_up(seed, images, scale=scale)
    likelihood = sum(-math.log(row[label]) for row, label in zip(p, labels, strict=True)) / images
    brier = 0.0
    for row, label in zip(p, labels, strict=True):
        brier += sum((row[c] - (c == label)) ** 2 for c in range(8)) / images
    assert negative_log_likelihood(p, labels) == pytest.approx(likelihood)
    assert brier_score(p, labels) == pytest.approx(brier)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), images=st.integers(1, 80), scale=st.floats(0.1, 6))
def test_the_calibration_error_is_the_weighted_gap_of_the_bins_of_the_diagram(seed, images, scale):
    p, labels = made_up(seed, images, scale=scale)
    bins = reliability_bins(p, labels)
    assert sum(b.images for b in bins) == images
    gap = sum(b.images * abs(b.accuracy - b.confidence) for b in bins if b.images) / images
    assert expected_calibration_error(p, labels) == pytest.approx(gap, abs=1e-5)
    for b in bins:
        assert not b.images or b.low <= b.confidence <= b.high
        assert not b.images or b.interval[0] <= b.accuracy <= b.interval[1]


def test_rounding_above_one_does_not_turn_probabilities_into_logits():
    p = np.array([[1 + 2e-16, 0.0], [0.3, 0.7]])
    assert expected_calibration_error(p, np.array([0, 1])) == pytest.approx(0.15)


def test_being_too_sure_shows_as_accuracy_below_confidence():
    p = np.tile([0.9, 0.1], (100, 1))
    labels = (np.arange(100) >= 60).astype(int)  # 90 % sure, 60 % right
    (found,) = [b for b in reliability_bins(p, labels) if b.images]
    assert found.confidence == pytest.approx(0.9)
    assert found.accuracy == pytest.approx(0.6)
    assert expected_calibration_error(p, labels) == pytest.approx(0.3, abs=1e-5)


def test_without_images_nothing_is_known():
    p, labels = np.zeros((0, 8)), np.zeros(0, dtype=np.int64)
    for score in (negative_log_likelihood, brier_score, expected_calibration_error):
        assert math.isnan(score(p, labels))
    assert sum(b.images for b in reliability_bins(p, labels)) == 0
