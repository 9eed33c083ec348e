"""`vea demo`: the whole path on a dozen photos, in a minute or two, on this machine alone.

A real S3 server gets the photos; a batch job scores them from there into parquet; a real TorchServe
is asked about the same photos; both must agree; a page shows what came out. Everything that was
started is stopped again, and what it made stays in one folder.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from handler.values.errors import VeaError
from vea.face_option import Faces, FacesChoice
from vea.terminal import out

if TYPE_CHECKING:
    from vea.demo.embedded_s3 import S3Server

_BUCKET = "demo"
_NEEDED = ("boto3", "pyarrow", "jinja2", "httpx2", "ts", "psutil")
_TOLERANCE = 1e-4  # between the two ways of scoring, on each probability


class DemoError(VeaError):
    """The demo found what must not be; the message is one line for people."""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("demo")(demo)


def demo(
    to: Annotated[
        Path, typer.Option("--to", help="Folder for what the demo makes; emptied first.")
    ] = Path("demo-output"),
    model: Annotated[
        Path | None,
        typer.Option(help="A .mar file. [default: newest in ./model_store, else the shipped one]"),
    ] = None,
    faces: Faces = FacesChoice.ON,
) -> None:
    """See everything work: photos in S3 -> parquet, TorchServe, and a page with the reasons.

    vea demo
    """
    _require_parts()
    from handler.predictor import Predictor
    from vea.demo.page import make_card, write_page
    from vea.store import newest_archive
    from vea.tables import show

    archive = model or newest_archive()
    console = out()
    began = time.monotonic()
    if to.exists() and any(to.iterdir()) and not (to / "index.html").exists():
        raise DemoError(f"{to} holds other files: name an empty folder with --to")
    shutil.rmtree(to, ignore_errors=True)
    to.mkdir(parents=True)
    photos = _photos()
    with tempfile.TemporaryDirectory(prefix="vea-demo-") as scratch:
        rows = _score_from_s3(
            photos, archive, to / "predictions", Path(scratch, "s3"), console, faces=faces.on
        )
        served = _ask_torchserve(
            photos, archive, Path(scratch, "torchserve"), console, faces=faces.on
        )
    difference = _compare(rows, served)
    console.print(f"parquet and TorchServe agree: largest difference {difference:.1e}")

    predictor = Predictor.load(archive, faces=faces.on)
    answers = predictor.predict(list(photos.values()), explain=True)
    cards = [
        make_card(name, encoded, answer, served[name][0])
        for (name, encoded), answer in zip(photos.items(), answers, strict=True)
    ]
    cards.sort(key=lambda card: card.prediction is None)  # what was refused comes last
    page = to / "index.html"
    write_page(
        page,
        cards=cards,
        model=predictor.model,
        positives=predictor.wheel.positives,
        difference=difference,
    )
    show(console, dict(zip(photos, answers, strict=True)))
    console.print(f"page:    {page.resolve()}")
    console.print(f"parquet: {(to / 'predictions').resolve()}")
    console.print(f"everything that was started is stopped; {time.monotonic() - began:.0f} s")


def _require_parts() -> None:
    """See that nothing is missing, before the first minute of work.

    Raises:
        DemoError: A package is not installed.
        EmbeddedS3Error: The program of the S3 server is not installed.
    """
    if missing := [name for name in _NEEDED if importlib.util.find_spec(name) is None]:
        raise DemoError(f"not installed: {', '.join(missing)}: pip install 'vea[demo]'")
    from vea.demo.embedded_s3 import find_program

    find_program()


def _photos() -> dict[str, bytes]:
    """The photos that come with the program, by file name."""
    from handler.values.limits import SUFFIXES

    folder = resources.files("vea") / "photos"
    files = sorted(folder.iterdir(), key=lambda file: file.name)
    return {f.name: f.read_bytes() for f in files if Path(f.name).suffix in SUFFIXES}


def _score_from_s3(
    photos: Mapping[str, bytes],
    archive: Path,
    to: Path,
    state: Path,
    console: Console,
    *,
    faces: bool,
) -> list[dict[str, Any]]:
    """Score the photos as a batch job on a real S3 server; returns the rows of its parquet."""
    import pyarrow.dataset

    from jobs.run.driver import score_list
    from jobs.scoring.sources import OnDevice
    from jobs.values.job import ScoreJob
    from vea.demo.embedded_s3 import embedded_s3

    console.print("starting an S3 server (SeaweedFS) ...")
    with embedded_s3(state, buckets=[_BUCKET]) as server, _environment(server.environment):
        client = server.client()
        for name, data in photos.items():
            client.put_object(Bucket=_BUCKET, Key=f"photos/{name}", Body=data)
        listed = "".join(f"s3://{_BUCKET}/photos/{name}\n" for name in photos)
        client.put_object(Bucket=_BUCKET, Key="photos.txt", Body=listed.encode())
        console.print(f"{len(photos)} photos and their list are in s3://{_BUCKET}; scoring ...")
        summary = score_list(
            ScoreJob(
                image_list=f"s3://{_BUCKET}/photos.txt",
                out=f"s3://{_BUCKET}/predictions",
                model=archive,
            ),
            load=OnDevice(faces=faces),
        )
        _download(server, "predictions/", to)
    rows: list[dict[str, Any]] = pyarrow.dataset.dataset(to).to_table().to_pylist()
    console.print(f"{summary.rows} rows: {summary.ok} ok, {summary.failed} failed")
    if len(rows) != len(photos):
        raise DemoError(f"{len(photos)} photos were listed, but there are {len(rows)} rows")
    return rows


def _ask_torchserve(
    photos: Mapping[str, bytes], archive: Path, state: Path, console: Console, *, faces: bool
) -> dict[str, tuple[int, dict[str, Any]]]:
    """Ask a real TorchServe about each photo: status and answer by file name."""
    from vea.serving.server import TorchServe

    console.print("starting TorchServe ...")
    with TorchServe.running(archive, state, faces=faces) as server:
        console.print(f"{server.url} answers; asking about the same photos ...")
        return {name: server.predict(data) for name, data in photos.items()}


def _compare(rows: list[dict[str, Any]], served: Mapping[str, tuple[int, dict[str, Any]]]) -> float:
    """The largest difference of a probability; both must refuse the same images."""
    largest = 0.0
    for row in rows:
        name = row["image"].rsplit("/", 1)[-1]
        status, answer = served[name]
        if (status == 200) != (row["status"] == "ok"):
            raise DemoError(f"{name} is {row['status']} in parquet, but TorchServe says {status}")
        for emotion, probability in answer.get("probabilities", {}).items():
            largest = max(largest, abs(probability - row[f"p_{emotion}"]))
    if largest > _TOLERANCE:
        raise DemoError(f"parquet and TorchServe differ by {largest:.1e}, over {_TOLERANCE:.0e}")
    return largest


def _download(server: S3Server, prefix: str, to: Path) -> None:
    to.mkdir(parents=True)
    client = server.client()
    for item in client.list_objects_v2(Bucket=_BUCKET, Prefix=prefix)["Contents"]:
        body = client.get_object(Bucket=_BUCKET, Key=item["Key"])["Body"].read()
        place = to / item["Key"].removeprefix(prefix)
        place.parent.mkdir(exist_ok=True)
        place.write_bytes(body)


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    """Environment variables for a while: jobs find their S3 server as every AWS program does."""
    # A profile or a session token of the user's would be sent to the demo's server.
    hidden = ("AWS_PROFILE", "AWS_SESSION_TOKEN")
    before = dict(os.environ)
    for name in hidden:
        os.environ.pop(name, None)
    os.environ.update(values)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
