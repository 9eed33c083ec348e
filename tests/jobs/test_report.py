import json
from dataclasses import replace

import pytest
from finished_runs import emotions, failed, scored, write_run
from part_rows import MODEL

from jobs.report.build import Price, RunMetrics, make_report
from jobs.report.finished_run import ReportError
from jobs.report.reading import read_run
from jobs.storage.stores import Stores


@pytest.fixture
def run(tmp_path):
    """Writes a run and reads it."""

    def make(day, rows, **options):
        location = tmp_path / f"dt=2026-11-{day:02d}"
        write_run(location, rows, **options)
        return read_run(str(location), Stores(), examples=2)

    return make


def test_earlier_runs_count_by_their_images(run):
    latest = run(23, emotions(awe=5, fear=5))
    small = run(22, [*emotions(awe=9), failed("fetch", "missing")])
    large = run(21, [scored("fear", 0.8, faces=1)] * 90)
    report = make_report(latest, [small, large])
    assert report.reference.images == 100
    assert report.reference.emotion_fraction("fear") == pytest.approx(90 / 99)
    assert report.reference.reason_fraction("fetch/missing") == pytest.approx(0.01)
    assert report.reference.with_face_fraction == pytest.approx(90 / 99)
    assert report.reference.confidence == pytest.approx((9 * 0.6 + 90 * 0.8) / 99)
    assert report.reference.positive_fraction == pytest.approx(9 / 99)


def test_other_emotions_than_before_alarm_and_the_same_do_not(run):
    before = [run(day, emotions(awe=60, fear=40)) for day in (22, 21)]
    assert make_report(run(23, emotions(awe=10, fear=90)), before).drift.alert
    assert not make_report(run(24, emotions(awe=61, fear=39)), before).drift.alert
    assert not make_report(run(25, emotions(awe=10, fear=90)), before, threshold=0.9).drift.alert


def test_runs_of_another_model_are_left_out_unless_they_are_asked_for(run):
    other = replace(MODEL, version="2.0", digest="e" * 64)
    latest = run(23, emotions(awe=50))
    before = [run(22, emotions(awe=50)), run(21, emotions(fear=50), model=other)]
    report = make_report(latest, before)
    assert [item.title for item in report.earlier] == ["2026-11-22"]
    assert [item.title for item in report.left_out] == ["2026-11-21"]
    assert report.drift.distance == 0
    assert not report.other_models
    asked = make_report(latest, before, any_model=True)
    assert len(asked.earlier) == 2
    assert asked.other_models
    assert asked.drift.distance > 0


def test_an_earlier_run_is_compared_with_the_others_of_them(run):
    same = [run(day, emotions(awe=50, fear=50)) for day in (22, 21, 20)]
    odd = run(19, emotions(fear=100))
    report = make_report(run(23, emotions(awe=50, fear=50)), [*same, odd])
    assert report.distances[3] > 0.4
    assert max(report.distances[:3]) < 0.2
    assert make_report(same[0], [odd]).distances == (None,)


def test_the_first_run_has_nothing_to_compare_with(run):
    report = make_report(run(23, emotions(awe=5)), [])
    assert (report.drift, report.reference, report.distances) == (None, None, ())


def test_nothing_is_divided_by_nothing(run):
    figures = RunMetrics.of([run(23, [])])
    assert (figures.failure_rate, figures.emotion_fraction("awe"), figures.confidence) == (
        None,
        None,
        None,
    )
    assert figures.reason_fraction("fetch/missing") is None


def test_cost_follows_from_the_price_and_the_speed(run):
    # 20 images a second: a thousand take 50 seconds.
    report = make_report(run(23, emotions(awe=5)), [], price=Price.parse("0.36 USD"))
    assert report.cost_per_thousand == pytest.approx(0.005)
    assert report.cost == pytest.approx(0.005 * 5 / 1000)
    idle = run(22, emotions(awe=5), facts={"seconds": 1.0, "images_per_second": 0.0})
    assert make_report(idle, [], price=Price.parse("1")).cost_per_thousand is None
    assert make_report(idle, []).cost_per_thousand is None


@pytest.mark.parametrize("text", ["", "cheap", "-1 USD", "1,5 EUR", "1 usd", "nan"])
def test_what_is_no_price_is_an_error(text):
    with pytest.raises(ReportError, match="expected an amount such as"):
        Price.parse(text)


def test_json_has_all_of_it(run):
    latest = run(23, [*emotions(awe=8, fear=2), failed("decode", "damaged")])
    before = run(22, emotions(awe=10))
    report = make_report(latest, [before], price=Price.parse("0.36 USD"))
    values = json.loads(json.dumps(report.to_dict()))
    assert values["night"]["date"] == "2026-11-23"
    assert values["night"]["emotion_shares"]["awe"] == pytest.approx(0.8)
    assert values["night"]["reasons"] == {"decode/damaged": 1}
    assert values["night"]["failed_share"] == pytest.approx(1 / 11)
    assert values["reference"]["emotions"]["awe"] == 10
    assert [item["date"] for item in values["earlier"]] == ["2026-11-22"]
    assert set(values["drift"]) >= {"distance", "chance", "threshold", "alert"}
    assert (values["cost_per_thousand"], values["currency"]) == (pytest.approx(0.005), "USD")
    assert values["cost"] == pytest.approx(0.005 * 11 / 1000)
    assert values["most_confident"][0]["image"] == "0.jpg"
