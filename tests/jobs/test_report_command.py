import datetime
import json

import pytest
from finished_runs import emotions, failed, scored, write_run
from typer.testing import CliRunner

from handler.values.errors import VeaError
from vea.main import build_app

LAYOUT = "dt={}/model_version=1.1"


@pytest.fixture
def vea(monkeypatch, tmp_path):
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(tmp_path)
    app = build_app()

    def run(*arguments):
        result = CliRunner().invoke(app, ["report", *map(str, arguments)])
        if isinstance(result.exception, VeaError):
            raise result.exception
        return result

    return run


@pytest.fixture
def runs(tmp_path):
    """Three calm runs and one that is not; the run of the 20th was not scored."""
    for day in (18, 19, 21, 22):
        write_run(tmp_path / LAYOUT.format(f"2026-11-{day}"), emotions(awe=60, fear=40))
    write_run(tmp_path / LAYOUT.format("2026-11-23"), emotions(awe=10, fear=90))
    return tmp_path


def test_earlier_runs_are_found_by_the_date_in_the_folder(vea, runs):
    ended = vea(LAYOUT.format("2026-11-23"), "--json", "figures.json")
    assert ended.exit_code == 0
    assert "drift" in ended.output
    assert "to 4 earlier" in ended.output
    figures = json.loads((runs / "figures.json").read_text())
    days = [run["date"] for run in figures["earlier"]]
    assert days == ["2026-11-22", "2026-11-21", "2026-11-19", "2026-11-18"]
    assert figures["drift"]["alert"]
    assert not (runs / "dt=2026-11-20").exists()


def test_as_many_runs_as_are_asked_for_are_looked_for(vea, runs):
    vea(LAYOUT.format("2026-11-23"), "--last", 4, "--json", "figures.json")
    assert len(json.loads((runs / "figures.json").read_text())["earlier"]) == 3
    vea(LAYOUT.format("2026-11-23"), "--last", 0, "--json", "figures.json")
    assert json.loads((runs / "figures.json").read_text())["drift"] is None


def test_runs_can_be_named(vea, runs):
    other = runs / LAYOUT.format("2026-11-22")
    assert "to 1 earlier" in vea(LAYOUT.format("2026-11-23"), "--against", other).output


def test_drift_fails_only_if_it_is_asked_to(vea, runs):
    drifted, calm = LAYOUT.format("2026-11-23"), LAYOUT.format("2026-11-22")
    assert vea(drifted).exit_code == 0
    assert vea(drifted, "--fail-on-drift").exit_code == 4
    assert vea(drifted, "--fail-on-drift", "--threshold", 0.9).exit_code == 0
    assert vea(calm, "--fail-on-drift").exit_code == 0


def test_a_run_of_which_nothing_was_scored_is_no_calm_one(vea, runs):
    empty = LAYOUT.format("2026-11-24")
    write_run(runs / empty, [failed("fetch", "missing")] * 3)
    assert "not one image was scored" in vea(empty).output
    assert vea(empty).exit_code == 0
    assert vea(empty, "--fail-on-drift", "--json", "figures.json").exit_code == 4
    assert json.loads((runs / "figures.json").read_text())["nothing_scored"]
    # A run without images is no failure.
    write_run(runs / LAYOUT.format("2026-11-25"), [])
    assert vea(LAYOUT.format("2026-11-25"), "--fail-on-drift").exit_code == 0


def test_the_page_is_written_before_drift_fails(vea, runs):
    vea(LAYOUT.format("2026-11-23"), "--fail-on-drift", "--html", "pages/run.html", "--thumbnails")
    page = (runs / "pages" / "run.html").read_text()
    assert "Emotions of 2026-11-23" in page
    assert "no picture: there is no such file" in page


def test_images_are_fetched_only_for_thumbnails_that_are_asked_for(vea, tmp_path, jpeg):
    (tmp_path / "a.jpg").write_bytes(jpeg(1))
    write_run(tmp_path / "run", [scored("awe", image="a.jpg")], list_folder=str(tmp_path))
    vea("run", "--html", "with.html", "--thumbnails")
    vea("run", "--html", "without.html")
    vea("run", "--html", "none.html", "--examples", 0)
    with_images, without, none = (
        (tmp_path / f"{name}.html").read_text() for name in ("with", "without", "none")
    )
    assert "data:image/jpeg" in with_images
    assert "data:image/jpeg" not in without
    assert "a.jpg" in without
    assert "a.jpg" not in none


def test_day_and_model_can_stand_in_the_names(vea, runs, tiny_model):
    yesterday = datetime.date.today() - datetime.timedelta(days=1)
    write_run(runs / f"dt={yesterday}" / "model_version=0.1", emotions(awe=3))
    arguments = ["dt={date}/model_version={model_version}", "--date", "yesterday"]
    arguments += ["--model", tiny_model, "--json", "{yyyy}-{mm}-{dd}.json"]
    assert vea(*arguments).exit_code == 0
    figures = json.loads((runs / f"{yesterday}.json").read_text())
    assert figures["night"]["date"] == str(yesterday)


def test_what_cannot_be_is_said_in_a_line(vea, runs):
    write_run(runs / "latest", emotions(awe=3))
    assert vea("latest").exit_code == 0
    with pytest.raises(VeaError, match="there is no date"):
        vea("latest", "--last", 3)
    with pytest.raises(VeaError, match="no finished run"):
        vea("latest", "--against", "nowhere")
    assert vea("latest", "--against", "latest", "--last", 3).exit_code == 2
    with pytest.raises(VeaError, match=r"\{date\}: say which one with --date"):
        vea("dt={date}")
