"""Versions on one real TorchServe: promoted, rolled back and removed while it is being asked."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import zipfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psutil
import pytest
from other_versions import other_version
from torchserve_server import drawn_images
from typer.testing import CliRunner, Result

from handler.predictor import Predictor
from handler.values.errors import ArchiveError
from handler.values.prediction import Prediction
from train.package import package
from vea.main import build_app
from vea.serving.errors import ServingError
from vea.serving.history import History
from vea.serving.ports import Ports
from vea.serving.server import TorchServe
from vea.serving.verification import digest_of
from vea.serving.versions import Versions

pytestmark = [pytest.mark.integration, pytest.mark.long]

SAME = 1e-4
REFUSED = range(400, 500)


@pytest.fixture(scope="module")
def store(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Archives 1.0 and 2.0 of one model, which answer differently."""
    folder = tmp_path_factory.mktemp("store")
    first = package(tiny_model, folder, name="tiny", version="1.0", card={})
    other_version(first, folder / "tiny-2.0.mar", version="2.0", shift=1.0)
    return folder


@pytest.fixture(scope="module")
def one_server(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TorchServe]:
    state = tmp_path_factory.mktemp("serve")
    with TorchServe.running(store / "tiny-1.0.mar", state, workers=1) as running:
        yield running


@pytest.fixture
def server(one_server: TorchServe, store: Path) -> Iterator[TorchServe]:
    """The server with 1.0 alone, before and after each test."""
    yield one_server
    versions = Versions(one_server)
    versions.promote(store / "tiny-1.0.mar")
    for item in versions.served():
        if not item.served.default:
            versions.remove(item.served.version)


@pytest.fixture(scope="module")
def images() -> list[bytes]:
    return drawn_images(6)


def vea(server: TorchServe, *arguments: object) -> Result:
    options = ["--state", str(server.directory.state)]
    result = CliRunner().invoke(build_app(), ["models", *map(str, arguments), *options])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def listed(server: TorchServe) -> dict[str, dict[str, Any]]:
    rows = json.loads(vea(server, "list", "--json").stdout)["versions"]
    return {row["version"]: row for row in rows}


def default_of(server: TorchServe) -> str:
    (default,) = [version for version, row in listed(server).items() if row["default"]]
    return default


def manage(server: TorchServe, method: str, path: str, **options: Any) -> tuple[int, Any]:
    return server.client.ask(method, path, service="management", **options)


def unpacked(server: TorchServe) -> list[str | None]:
    folder = server.directory.scratch / "models"
    return sorted(digest_of(path) or "none" for path in folder.iterdir())


@contextmanager
def hammered(server: TorchServe, images: list[bytes], threads: int = 4) -> Iterator[list[Any]]:
    """Ask without a pause in several threads; the list gets (status, version), as they come."""
    answers: list[Any] = []
    stop = threading.Event()

    def ask() -> None:
        position = 0
        while not stop.is_set():
            position += 1
            try:
                status, answer = server.predict(images[position % len(images)])
                answers.append((status, answer.get("model", {}).get("version")))
            except OSError as error:
                answers.append((0, repr(error)))

    workers = [threading.Thread(target=ask) for _ in range(threads)]
    for worker in workers:
        worker.start()
    try:
        yield answers
    finally:
        stop.set()
        for worker in workers:
            worker.join()


def test_a_switch_under_load_fails_no_request_and_leaves_no_doubt_who_answers(
    server: TorchServe, store: Path, images: list[bytes]
) -> None:
    after: dict[str, list[Any]] = {}
    with hammered(server, images) as answers:
        vea(server, "promote", store / "tiny-2.0.mar")
        before = len(answers)
        after["2.0"] = [server.predict(image) for image in images]
        vea(server, "rollback")
        after["1.0"] = [server.predict(image) for image in images]
        vea(server, "remove", "2.0")
    assert len(answers) > before > 0
    counts = Counter(answers)
    assert set(counts) == {(200, "1.0"), (200, "2.0")}, counts
    # What is asked after the command has returned is answered by the new default alone.
    for version, told in after.items():
        assert {(status, answer["model"]["version"]) for status, answer in told} == {(200, version)}


def test_two_versions_at_once_each_answer_in_their_own_name(
    server: TorchServe, store: Path, images: list[bytes]
) -> None:
    vea(server, "promote", store / "tiny-2.0.mar")
    predictors = {v: Predictor.load(store / f"tiny-{v}.mar") for v in ("1.0", "2.0")}
    management = Versions(server).management
    for image in images:
        told = {v: management.predict(v, image)[1] for v in predictors}
        told["default"] = server.predict(image)[1]
        for version, answer in told.items():
            predictor = predictors["2.0" if version == "default" else version]
            (expected,) = predictor.predict([image])
            assert isinstance(expected, Prediction)
            assert answer["model"] == predictor.model.to_dict()
            assert answer["probabilities"] == pytest.approx(expected.probabilities, abs=SAME)
        assert told["1.0"]["probabilities"] != pytest.approx(
            told["2.0"]["probabilities"], abs=10 * SAME
        )


def test_the_list_says_what_is_served_and_a_removed_version_leaves_nothing(
    server: TorchServe, store: Path
) -> None:
    promoted = vea(server, "promote", store / "tiny-2.0.mar").stdout
    digests = {v: digest_of(store / f"tiny-{v}.mar") for v in ("1.0", "2.0")}
    rows = listed(server)
    assert {v: row["digest"] for v, row in rows.items()} == digests
    assert {v: row["default"] for v, row in rows.items()} == {"1.0": False, "2.0": True}
    assert all(row["workers"]["ready"] for row in rows.values())
    assert rows["2.0"]["made_default"] > rows["1.0"]["made_default"]
    shown = vea(server, "list").stdout
    for digest in digests.values():
        assert digest is not None
        assert digest[:12] in shown
    assert "vea models rollback" in promoted
    assert json.loads(vea(server, "show", "2.0", "--json").stdout)["digest"] == digests["2.0"]
    attached = TorchServe.attach(server.directory.state)
    assert attached is not None
    assert attached.version == "2.0"

    with pytest.raises(ServingError, match=r"2\.0 is the default"):
        vea(server, "remove", "2.0")
    with pytest.raises(ServingError, match=r"no version 7 here; there are: 1\.0, 2\.0"):
        vea(server, "remove", "7")
    vea(server, "rollback")
    vea(server, "remove", "2.0")
    assert set(listed(server)) == {"1.0"}
    assert [file.name for file in server.directory.models.iterdir()] == ["tiny-1.0.mar"]
    assert unpacked(server) == [digests["1.0"]]
    with pytest.raises(ServingError, match="nothing to roll back to"):
        vea(server, "rollback")


def test_what_is_not_the_wanted_archive_never_reaches_torchserve(
    server: TorchServe, store: Path, tmp_path: Path
) -> None:
    second = store / "tiny-2.0.mar"
    tampered = other_version(
        second, tmp_path / "t.mar", version="2.0", files={"evil.py": "1"}, sealed=False
    )
    garbage = tmp_path / "g.mar"
    garbage.write_bytes(b"PK no archive")
    renamed = package(
        unzip(second, tmp_path / "unzipped"), tmp_path, name="other", version="2.0", card={}
    )
    reused = other_version(second, tmp_path / "r.mar", version="1.0")
    for archive, options, error, said in (
        (tampered, (), ArchiveError, "does not match|does not list"),
        (garbage, (), ArchiveError, "not a model archive"),
        (second, ("--digest", "0" * 64), ArchiveError, "another archive"),
        (renamed, (), ServingError, "is the model other; this server serves tiny"),
        (reused, (), ServingError, r"1\.0 is served already, from another archive"),
    ):
        with pytest.raises(error, match=said):
            vea(server, "promote", archive, *options)
    assert set(listed(server)) == {"1.0"}
    assert len(list(server.directory.models.iterdir())) == 1


def unzip(archive: Path, folder: Path) -> Path:
    with zipfile.ZipFile(archive) as packed:
        packed.extractall(folder)
    return folder


BROKEN = {
    "import": ("import a_package_that_nobody_has\n", "could not load"),
    "wrong": (
        # It answers, in the right form, but not with probabilities.
        "import handler.values.prediction as known\n"
        "from handler.serving.service import *\n"
        "import handler.serving.service\n"
        "first = known.Prediction.to_dict\n"
        "def to_dict(self, model, **options):\n"
        "    answer = first(self, model, **options)\n"
        "    answer['probabilities']['awe'] += 0.5\n"
        "    return answer\n"
        "known.Prediction.to_dict = to_dict\n"
        "class Service(handler.serving.service.VisualEmotionService):\n"
        "    pass\n",
        "answered wrongly for astronaut.jpg: .*(sum to|outside)",
    ),
    "stranger": (
        "import dataclasses\n"
        "import handler.serving.service\n"
        "class Service(handler.serving.service.VisualEmotionService):\n"
        "    def initialize(self, context):\n"
        "        super().initialize(context)\n"
        "        model = self.responder.predictor.model\n"
        "        self.responder.predictor.model = dataclasses.replace(model, digest='0' * 64)\n",
        "with the digest 000",
    ),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_version_that_fails_its_smoke_test_is_removed_and_the_old_one_answers_on(
    server: TorchServe, store: Path, images: list[bytes], tmp_path: Path, kind: str
) -> None:
    code, said = BROKEN[kind]
    broken = other_version(
        store / "tiny-2.0.mar", tmp_path / "b.mar", version="2.1", files={"service.py": code}
    )
    with (
        hammered(server, images, threads=2) as answers,
        pytest.raises(ServingError, match=rf"(?s){said}.*version 1\.0 answers as before"),
    ):
        vea(server, "promote", broken)
    assert set(answers) == {(200, "1.0")}
    assert set(listed(server)) == {"1.0"}
    assert len(list(server.directory.models.iterdir())) == 1
    assert unpacked(server) == [digest_of(store / "tiny-1.0.mar")]


PROMOTE = """
import os, signal, sys
from pathlib import Path
from vea.serving import versions
from vea.serving.history import History
from vea.serving.management import Management
from vea.serving.server import TorchServe

state, archive, when = sys.argv[1:]
def die(*args, **options):
    os.kill(os.getpid(), signal.SIGKILL)
if when == "copied":
    Management.register = die
elif when == "loaded":
    versions.smoke_test = die
elif when == "switched":
    History.record = die
versions.Versions(TorchServe.attach(Path(state))).promote(Path(archive))
"""


@pytest.mark.parametrize("when", ["copied", "loaded", "switched"])
def test_after_a_kill_in_the_middle_the_same_command_goes_on(
    server: TorchServe, store: Path, images: list[bytes], when: str
) -> None:
    state = server.directory.state
    killed = subprocess.run(
        [sys.executable, "-c", PROMOTE, str(state), str(store / "tiny-2.0.mar"), when],
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL
    expected = "2.0" if when == "switched" else "1.0"
    assert server.predict(images[0])[1]["model"]["version"] == expected
    vea(server, "promote", store / "tiny-2.0.mar")
    assert default_of(server) == "2.0"
    current = History(state).current()
    assert current is not None
    assert (current.action, current.version) == ("promote", "2.0")
    vea(server, "rollback")
    assert default_of(server) == "1.0"


def test_a_worker_that_is_killed_does_not_stop_a_promotion(
    server: TorchServe, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    versions = Versions(server)
    asked = versions.management.predict
    killed: list[int] = []

    def predict(version: str, image: bytes) -> tuple[int, dict[str, Any]]:
        if not killed:
            (pid,) = versions.management.versions()[version].pids[:1]
            os.kill(pid, signal.SIGKILL)
            psutil.wait_procs([psutil.Process(pid)] if psutil.pid_exists(pid) else [], timeout=10)
            killed.append(pid)
        return asked(version, image)

    monkeypatch.setattr(versions.management, "predict", predict)
    versions.promote(store / "tiny-2.0.mar")
    assert killed
    assert default_of(server) == "2.0"


def test_only_one_command_at_a_time_changes_versions(server: TorchServe, store: Path) -> None:
    steps = []

    def meanwhile(step: str) -> None:
        steps.append(step)
        with pytest.raises(ServingError, match="another command is changing"):
            vea(server, "promote", store / "tiny-2.0.mar")

    with pytest.raises(ArchiveError):
        Versions(server, on_step=meanwhile).promote(store / "tiny-2.0.mar", digest="0" * 64)
    assert steps
    assert set(listed(server)) == {"1.0"}


def test_nothing_is_registered_without_the_management_key(server: TorchServe, store: Path) -> None:
    shutil.copy(store / "tiny-2.0.mar", server.directory.models / "planted.mar")
    try:
        inference = server.client.token("inference")
        for key in ("", "Bearer wrong", f"Bearer {inference}"):
            for method, path in (
                ("POST", "/models?url=planted.mar&initial_workers=1"),
                ("POST", "/workflows?url=planted.war"),
                ("PUT", "/models/tiny/1.0/set-default"),
                ("DELETE", "/models/tiny/1.0"),
            ):
                status, _ = manage(server, method, path, headers={"Authorization": key})
                assert status in REFUSED, (method, path, key)
        assert set(listed(server)) == {"1.0"}
    finally:
        (server.directory.models / "planted.mar").unlink()


def test_archives_elsewhere_cannot_be_registered_even_with_the_key(
    server: TorchServe, store: Path
) -> None:
    models = server.directory.models
    planted = models.parent / "planted.mar"
    shutil.copy(store / "tiny-2.0.mar", planted)
    try:
        up = "%2e%2e"  # TorchServe refuses "..", and decodes this after it has looked
        for url in (
            "file:///etc/passwd",
            "http://127.0.0.1:9/planted.mar",
            "https://example.org/planted.mar",
            "s3://bucket/planted.mar",
            str(planted),
            f"file://{planted}",
            "../planted.mar",
            f"file://{models}/../planted.mar",
            f"{up}/planted.mar",
            f"file://{models}/{up}/planted.mar",
            f"file://{models}/{up}%2fplanted.mar",
        ):
            query = f"url={quote(url, safe='')}&model_name=planted&initial_workers=1"
            status, answer = manage(server, "POST", f"/models?{query}")
            assert status in REFUSED, (url, answer)
            assert re.search("Relative path|allowed URL|not found", answer["message"]), url
            status, _ = manage(server, "POST", f"/workflows?url={quote(url, safe='')}")
            assert status in REFUSED, url
        assert manage(server, "GET", "/models/planted")[0] == 404
        assert [file.name for file in models.iterdir()] == ["tiny-1.0.mar"]
    finally:
        planted.unlink()


def test_a_new_start_goes_on_with_what_was_promoted_and_can_still_roll_back(
    store: Path, tmp_path: Path, images: list[bytes]
) -> None:
    state, ports = tmp_path / "state", Ports.choose()
    options = [
        *("--detach", "--workers", "1", "--state", str(state), "--port", str(ports.inference)),
        *("--management-port", str(ports.management), "--metrics-port", str(ports.metrics)),
    ]

    def serve(*arguments: str) -> Result:
        return CliRunner().invoke(build_app(), ["serve", *arguments, *options])

    first = store / "tiny-1.0.mar"
    assert serve(str(first)).exit_code == 0
    server = TorchServe.attach(state)
    assert server is not None
    try:
        vea(server, "promote", store / "tiny-2.0.mar")
        server.stop()
        started = serve()
        assert started.exit_code == 0, started.output
        digest = digest_of(store / "tiny-2.0.mar")
        assert digest is not None
        assert f"going on with tiny 2.0 ({digest[:12]})" in started.stderr
        server = TorchServe.attach(state)
        assert server is not None
        assert server.predict(images[0])[1]["model"]["digest"] == digest
        vea(server, "rollback")
        assert server.predict(images[0])[1]["model"]["digest"] == digest_of(first)
        server.stop()
        kept = state / "models" / first.name
        kept.unlink()
        kept.write_bytes((store / "tiny-2.0.mar").read_bytes())
        refused = serve()
        assert isinstance(refused.exception, ServingError)
        assert "cannot be used any more" in str(refused.exception)
    finally:
        server.stop()
