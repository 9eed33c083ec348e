import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from handler.values.emotions import MIKELS
from jobs.report.drift import measure_drift

SHARES = np.array([0.18, 0.14, 0.22, 0.16, 0.05, 0.07, 0.08, 0.10])

counts = st.dictionaries(st.sampled_from(MIKELS.labels), st.integers(1, 1000), min_size=1)


def sample(images, seed, shares=SHARES):
    drawn = np.random.default_rng(seed).multinomial(images, shares)
    return dict(zip(MIKELS.labels, drawn.tolist(), strict=True))


def test_the_distance_is_that_of_the_definition():
    found = measure_drift({"awe": 3, "fear": 1}, {"awe": 10, "fear": 30})
    # p = (3/4, 1/4), q = (1/4, 3/4), m = (1/2, 1/2): both relative entropies to m are 1 - H(1/4).
    entropy = -(0.75 * math.log2(0.75) + 0.25 * math.log2(0.25))
    assert found.distance == pytest.approx(math.sqrt(1 - entropy))
    assert (found.images, found.reference_images) == (4, 40)


@settings(deadline=None, max_examples=25)
@given(counts, counts)
def test_the_distance_is_symmetric_and_from_0_to_1(one, other):
    distance = measure_drift(one, other).distance
    assert 0 <= distance <= 1
    assert distance == pytest.approx(measure_drift(other, one).distance)


def test_equal_shares_have_no_distance_and_disjoint_ones_have_all():
    assert measure_drift({"awe": 1, "fear": 2}, {"awe": 50, "fear": 100}).distance == 0
    assert measure_drift({"awe": 7}, {"fear": 9}).distance == 1


def test_a_run_without_images_or_without_others_is_not_measured():
    assert measure_drift({}, {"awe": 3}) is None
    assert measure_drift({"awe": 0}, {"awe": 3}) is None
    assert measure_drift({"awe": 3}, {}) is None


@pytest.mark.parametrize("images", [5, 50, 5000])
def test_runs_that_differ_by_chance_do_not_alarm_however_small(images):
    reference = sample(14 * images, seed=1)
    runs = [measure_drift(sample(images, 10 + n), reference, threshold=0.0) for n in range(100)]
    assert sum(run.alert for run in runs) <= 2


def test_the_same_difference_alarms_in_a_large_run_and_not_in_a_small_one():
    reference = {"awe": 50_000, "fear": 50_000}
    small = measure_drift({"awe": 6, "fear": 14}, reference)
    large = measure_drift({"awe": 6_000, "fear": 14_000}, reference)
    assert small.distance == pytest.approx(large.distance)
    assert small.distance > 0.1
    assert not small.alert
    assert large.alert


def test_a_small_difference_of_large_runs_is_no_alarm_below_the_threshold():
    run, reference = {"awe": 505_000, "fear": 495_000}, {"awe": 500_000, "fear": 500_000}
    found = measure_drift(run, reference)
    assert found.distance > found.chance
    assert not found.alert
    assert measure_drift(run, reference, threshold=0.001).alert


def test_an_emotion_that_never_occurred_alarms_when_it_is_common():
    reference = {"awe": 1000, "fear": 0}
    assert measure_drift({"awe": 400, "fear": 100}, reference).alert
    assert not measure_drift({"awe": 9, "fear": 1}, {"awe": 10}, threshold=0.0).alert


def test_the_same_figures_give_the_same_report():
    run, reference = sample(300, 1), sample(3000, 2)
    assert measure_drift(run, reference) == measure_drift(run, reference)
