"""`vea report` where the nights, their images and the page are on S3, scored by `vea score`."""

import json

import pytest
from typer.testing import CliRunner

from jobs.run.driver import score_list
from jobs.values.job import ScoreJob
from vea.main import build_app

pytest_plugins = ["s3_server"]
pytestmark = pytest.mark.integration

LAYOUT = "s3://results/report/dt={date}/model_version={model_version}"


def score(client, date, images, model):
    listed = "".join(f"{image}\n" for image in images).encode()
    client.put_object(Bucket="photos", Key=f"report/{date}.txt", Body=listed)
    out = LAYOUT.format(date=date, model_version="0.1")
    score_list(ScoreJob(image_list=f"s3://photos/report/{date}.txt", out=out, model=model))


def test_a_report_needs_no_disk(s3, photo, encode, tiny_model):
    names = [f"report/a b#{n}.jpg" for n in range(3)]
    for n, name in enumerate(names):
        s3.put_object(Bucket="photos", Key=name, Body=encode(photo(n), "JPEG"))
    images = [f"s3://photos/{name}" for name in names]
    score(s3, "2026-11-21", images, tiny_model)
    score(s3, "2026-11-23", [*images, "s3://photos/report/none.jpg"], tiny_model)
    s3.put_object(Bucket="photos", Key=names[1], Body=encode(photo(9), "JPEG"))
    s3.delete_object(Bucket="photos", Key=names[2])

    files = ["--html", "s3://results/pages/{date}.html", "--json", "s3://results/pages/{date}.json"]
    day = ["--date", "2026-11-23", "--model", str(tiny_model)]
    ended = CliRunner().invoke(
        build_app(), ["report", LAYOUT, *day, *files, "--examples", "3", "--thumbnails"]
    )
    assert ended.exit_code == 0, ended.output

    def get(name):
        return s3.get_object(Bucket="results", Key=f"pages/2026-11-23.{name}")["Body"].read()

    figures, page = json.loads(get("json")), get("html").decode()
    assert [night["date"] for night in figures["earlier"]] == ["2026-11-21"]
    assert (figures["night"]["images"], figures["night"]["failed"]) == (4, 1)
    assert figures["night"]["reasons"] == {"fetch/missing": 1}
    assert {item["image"] for item in figures["most_confident"]} == set(images)
    # Two photos that are still there, each under its objects and under its heat map, and both among
    # the most confident and among the least.
    assert page.count("data:image/jpeg;base64,") == 8
    assert page.count("has changed since it was scored") == 2
    assert page.count("no picture: there is no such object") == 2
