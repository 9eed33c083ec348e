"""A list scored through a real TorchServe: the rows of a model in this process, or a clear end."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas
import pytest
import typer
from marked_service import PAUSE, RAISE
from torchserve_server import drawn_images
from typer.testing import CliRunner

from handler.values.errors import VeaError
from jobs.engines.base import Engine, InThisProcess
from jobs.engines.processes import Processes
from jobs.run.driver import score_list
from jobs.scoring.endpoint import ModelChanged
from jobs.values.job import EndpointSettings, ScoreJob
from train.package import package
from vea.commands import score
from vea.serving.server import TorchServe

pytest_plugins = ["s3_server"]
pytestmark = pytest.mark.integration

SAME = 1e-4  # the order of additions depends on the batch
IMAGES = drawn_images(12)


@pytest.fixture
def archive(marked_archive: Path) -> Path:
    return marked_archive


@pytest.fixture
def server(marked_server: TorchServe) -> TorchServe:
    return marked_server


@pytest.fixture
def vea() -> Any:
    """Runs `vea score`; errors come out as exceptions, which `vea.main` prints."""
    app = typer.Typer()
    app.callback()(lambda: None)
    score.register(app)

    def run(*arguments: Any, environment: dict[str, str] | None = None) -> Any:
        words = ["score", *map(str, arguments), "--chunk-size", "8", "--json"]
        return CliRunner().invoke(app, words, env=environment, catch_exceptions=False)

    return run


@pytest.fixture
def listed(tmp_path: Path) -> Path:
    for number, image in enumerate(IMAGES):
        (tmp_path / f"{number}.img").write_bytes(image)
    lines = "".join(f"{number}.img\n" for number in range(len(IMAGES)))
    (tmp_path / "list.txt").write_text(lines)
    return tmp_path / "list.txt"


def endpoint_of(server: TorchServe, **other: Any) -> EndpointSettings:
    keys = server.directory.keys
    url = f"http://127.0.0.1:{server.ports.inference}"
    return EndpointSettings(url, "tiny", key_file=keys, **other)


def rows(out: Path) -> pandas.DataFrame:
    return pandas.read_parquet(out).sort_values("position").reset_index(drop=True)


def test_rows_are_those_of_the_archive_and_so_is_the_run(
    s3: Any, vea: Any, server: TorchServe, archive: Path, tmp_path: Path
) -> None:
    hostile = {"text": b"no image", "none": b"", "cut": IMAGES[0][:300]}
    bodies = {**{str(n): image for n, image in enumerate(IMAGES)}, **hostile}
    for name, body in bodies.items():
        s3.put_object(Bucket="photos", Key=f"endpoint/{name}", Body=body)
    listed = tmp_path / "list.txt"
    names = [*bodies, "missing"]
    listed.write_text("".join(f"s3://photos/endpoint/{name}\n" for name in names))
    here = vea(listed, "--out", tmp_path / "here", "--model", archive, "--workers", 0, "--boxes")
    url = f"http://127.0.0.1:{server.ports.inference}"
    service = ("--endpoint", url, "--endpoint-model", "tiny", "--boxes")
    there = vea(
        *(listed, "--out", tmp_path / "there", *service),
        *("--endpoint-key-file", server.directory.keys),
    )
    assert (here.exit_code, there.exit_code) == (0, 0), there.output
    ours, theirs = rows(tmp_path / "here"), rows(tmp_path / "there")
    assert len(ours) == len(names)
    boxes = [frame.pop("boxes") for frame in (ours, theirs)]
    pandas.testing.assert_frame_equal(ours, theirs, rtol=0, atol=SAME)
    assert set(ours["stage"].dropna()) == {"fetch", "decode"}
    for one, other in zip(*boxes, strict=True):
        assert (one is None) == (other is None)
        for mine, its in zip(one, other, strict=True) if one is not None else ():
            assert mine == pytest.approx(its, abs=0.01)


def test_the_key_may_come_from_the_environment(
    vea: Any, server: TorchServe, listed: Path, tmp_path: Path
) -> None:
    url = f"http://127.0.0.1:{server.ports.inference}"
    ended = vea(
        *(listed, "--out", tmp_path / "out", "--endpoint", url, "--endpoint-model", "tiny"),
        environment={"VEA_ENDPOINT_KEY": server.client.token()},
    )
    assert ended.exit_code == 0
    assert rows(tmp_path / "out")["status"].eq("ok").all()


def test_an_image_that_breaks_the_service_is_found_and_its_neighbours_are_scored(
    server: TorchServe, listed: Path, tmp_path: Path
) -> None:
    (tmp_path / "5.img").write_bytes(IMAGES[5] + RAISE)
    job = ScoreJob(str(listed), str(tmp_path / "out"), endpoint=endpoint_of(server))
    summary = score_list(job)
    assert summary.reasons == {"predict/killed": 1}
    failed = rows(tmp_path / "out").query("status == 'failed'")
    assert failed["image"].tolist() == ["5.img"]
    assert "alone" in failed["reason"].item()


@pytest.mark.long
@pytest.mark.parametrize("engine", [InThisProcess(), Processes(1)])
def test_a_service_that_goes_away_ends_the_job_and_blames_no_image(
    archive: Path, listed: Path, tmp_path: Path, engine: Engine
) -> None:
    for number in range(2, len(IMAGES)):  # slowly, so that the end comes in the middle
        (tmp_path / f"{number}.img").write_bytes(IMAGES[number] + PAUSE)
    with TorchServe.running(archive, tmp_path / "state", workers=1) as server:
        job = ScoreJob(
            str(listed),
            str(tmp_path / "out"),
            endpoint=endpoint_of(server, patience=1.0, concurrency=2),
            chunk_size=2,
            fetch_threads=1,
        )

        def stop(now: Any) -> None:
            if now.done >= 2:
                server.stop()

        with pytest.raises(VeaError, match="no answer from http"):
            score_list(job, engine=engine, on_progress=stop)
    with pytest.raises(VeaError, match=r"key|answer"):
        score_list(job)  # nor can it begin
    # The same run, so its parts count, whoever finishes it.
    summary = score_list(replace(job, endpoint=None, model=archive))
    assert (summary.ok, summary.failed) == (12, 0)
    assert summary.parts_skipped > 0


@pytest.mark.long
def test_another_model_behind_the_endpoint_stops_the_job(
    archive: Path, tiny_model: Path, listed: Path, tmp_path: Path
) -> None:
    newer = package(tiny_model, tmp_path, name="tiny", version="0.2", card={})
    servers = [TorchServe.start(archive, tmp_path / "state")]
    changed = threading.Event()

    def promote(now: Any) -> None:
        if now.done >= 2 and not changed.is_set():
            changed.set()
            servers[0].stop()
            servers[0] = TorchServe.start(newer, tmp_path / "state", ports=servers[0].ports)

    job = ScoreJob(
        str(listed),
        str(tmp_path / "out"),
        endpoint=endpoint_of(servers[0], concurrency=2),
        chunk_size=2,
        fetch_threads=1,
    )
    try:
        with pytest.raises(ModelChanged, match=r"tiny 0\.2 .* of tiny 0\.1 .*not mixed"):
            score_list(job, on_progress=promote)
    finally:
        servers[0].stop()
    assert changed.is_set()
