"""Intervals hold what they promise, and the bootstrap is that of the textbooks."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from train.evaluation.intervals import percentile_interval, resampled_means, wilson_interval


def test_wilsons_interval_holds_the_share_and_shrinks_with_more_images():
    low, high = wilson_interval(0.65, 1093)
    assert low < 0.65 < high
    assert high - low == pytest.approx(2 * 1.96 * math.sqrt(0.65 * 0.35 / 1093), rel=0.01)
    wide = wilson_interval(0.65, 20)
    assert wide[1] - wide[0] > 5 * (high - low)


def test_wilsons_interval_has_width_where_all_are_right_and_none_without_images():
    assert wilson_interval(1.0, 10)[1] <= 1.0
    assert wilson_interval(1.0, 10)[0] == pytest.approx(0.7225, abs=0.0005)
    assert all(math.isnan(bound) for bound in wilson_interval(math.nan, 0))


def test_the_bootstrap_agrees_with_the_normal_interval_where_that_one_is_right():
    hits = (np.arange(1093) < 710).astype(float)[:, None]
    low, high = percentile_interval(resampled_means(hits)[:, 0])
    share, half = 710 / 1093, 1.96 * math.sqrt(710 * 383 / 1093**3)
    assert low == pytest.approx(share - half, abs=0.004)
    assert high == pytest.approx(share + half, abs=0.004)


def test_the_interval_holds_the_true_share_about_95_times_in_100():
    rng = np.random.default_rng(3)
    hits = 0
    for sample in range(200):
        values = (rng.random(150) < 0.7).astype(float)[:, None]
        low, high = percentile_interval(resampled_means(values, resamples=300, seed=sample)[:, 0])
        hits += low <= 0.7 <= high
    assert 180 <= hits <= 198


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), images=st.integers(1, 40))
def test_resampled_means_are_those_of_images_drawn_one_by_one(seed, images):
    rng = np.random.default_rng(seed)
    values = rng.random((images, 3))
    values[rng.random((images, 3)) < 0.3] = math.nan
    drawn = np.random.default_rng(seed).integers(images, size=(7, images))
    means = resampled_means(values, resamples=7, seed=seed)
    for row, resample in zip(means, drawn, strict=True):
        picked = values[resample]
        for column in range(3):
            known = picked[:, column][~np.isnan(picked[:, column])]
            if len(known):
                assert row[column] == pytest.approx(known.mean())
            else:
                assert math.isnan(row[column])


def test_large_data_sets_are_drawn_in_parts_and_repeat_themselves():
    values = np.random.default_rng(0).random((50, 2))
    whole = resampled_means(values, resamples=20)
    assert (whole == resampled_means(values, resamples=20)).all()
    three_at_a_time = resampled_means(values, resamples=20, draws=150)
    assert three_at_a_time == pytest.approx(whole)


def test_without_images_there_is_no_interval():
    means = resampled_means(np.zeros((0, 2)), resamples=5)
    assert means.shape == (5, 2)
    assert all(math.isnan(bound) for bound in percentile_interval(means[:, 0]))
