"""What computes nothing starts quickly: it imports neither torch nor dlib."""

import json
import subprocess
import sys

import pytest

from tests.shipped import ARCHIVE

HEAVY = ("torch", "torchvision", "dlib", "timm", "lightning", "pytorch_lightning")
VALUES = (
    *("handler.values.prediction", "handler.values.limits", "handler.values.emotions"),
    *("handler.values.configs", "handler.archive.files", "handler.client"),
)
JOBS = (
    *("jobs.run.driver", "jobs.run.attempt", "jobs.engines.processes", "jobs.engines.ray"),
    *("jobs.output.ledger", "jobs.output.compaction", "jobs.output.delta"),
    *("jobs.monitoring.metrics", "jobs.monitoring.progress", "jobs.monitoring.summary"),
    *("jobs.lists.image_list", "jobs.lists.prefix", "jobs.fetching.fetcher"),
    *("jobs.scoring.worker", "jobs.scoring.endpoint", "jobs.scoring.sources"),
    *(
        "jobs.report.build",
        "jobs.report.finished_run",
        "jobs.report.reading",
        "jobs.report.drift",
        "jobs.report.page",
    ),
    "jobs.report.gallery",
)
PROGRAM = (
    *("vea.main", "vea.commands.score", "vea.commands.backfill", "vea.commands.report"),
    *("vea.commands.models", "vea.commands.serve", "vea.commands.web"),
    *("vea.web.application", "vea.web.server", "vea.serving.server", "vea.serving.versions"),
)


def heavy_modules(code, *arguments, cwd=None):
    """The heavy packages that a program has imported at its end."""
    ending = f"import atexit, json, sys; atexit.register(lambda: print(json.dumps([m for m in {HEAVY} if m in sys.modules])))"  # noqa: E501
    done = subprocess.run(
        [sys.executable, "-c", f"{ending}\n{code}", *map(str, arguments)],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.integration
def test_modules_that_compute_nothing_import_no_torch():
    # One process for all: the first module that imports torch is named.
    code = f"""
import importlib, sys
for name in {(*VALUES, *JOBS, *PROGRAM)}:
    importlib.import_module(name)
    found = [heavy for heavy in {HEAVY} if heavy in sys.modules]
    assert not found, f"{{name}} imports {{found}}"
"""
    assert heavy_modules(code) == []


@pytest.mark.integration
def test_a_module_that_computes_is_noticed():
    assert "torch" in heavy_modules("import handler.predictor")


@pytest.mark.integration
@pytest.mark.parametrize(
    "arguments", [("--help",), ("score", "--help"), ("models", "list", "--store", ARCHIVE.parent)]
)
def test_commands_that_compute_nothing_import_no_torch(arguments, tmp_path):
    run = "from vea.main import main; main()"
    assert heavy_modules(run, *arguments, cwd=tmp_path) == []


@pytest.mark.integration
def test_a_finished_run_is_looked_at_and_reported_without_torch(tmp_path, photo, encode):
    (tmp_path / "one.jpg").write_bytes(encode(photo(1), "JPEG"))
    (tmp_path / "list.txt").write_text("one.jpg\n")
    run = "from vea.main import main; main()"
    score = ("score", "list.txt", "--out", "out", "--model", ARCHIVE, "--workers", "1")
    assert heavy_modules(run, *score, cwd=tmp_path) == [], "the driver starts workers, no networks"
    assert heavy_modules(run, *score, cwd=tmp_path) == [], "and a finished run needs no workers"
    assert heavy_modules(run, "report", "out", cwd=tmp_path) == []


@pytest.mark.integration
def test_what_starts_and_watches_a_server_for_months_imports_no_torch(tmp_path):
    run = f"""
from pathlib import Path
from vea.serving.server import TorchServe
with TorchServe.running(Path({str(ARCHIVE)!r}), Path("state"), workers=1) as server:
    assert server.client.workers() == ["READY"]
"""
    assert heavy_modules(run, cwd=tmp_path) == []
