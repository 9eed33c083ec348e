import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from handler.values.errors import VeaError
from tests.shipped import ARCHIVE
from vea.main import build_app

TEMPLATES = ["lists/{date}.txt", "--out", "out/dt={date}", "--model", str(ARCHIVE)]

# Stands in for the Python that runs `vea score`: notes how it was called, then does as it is told
# for the day.
STAND_IN = """#!{python}
import json, os, signal, sys, time
arguments = sys.argv[1:]
with open("calls.jsonl", "a") as file:
    file.write(json.dumps(arguments) + "\\n")
day = arguments[arguments.index("--date") + 1]
what = json.load(open("plan.json")).get(day, "score")
if what == "wait":
    heard = []
    signal.signal(signal.SIGTERM, lambda number, frame: heard.append(number))
    signal.signal(signal.SIGINT, lambda number, frame: heard.append(number))
    print(os.getpid(), file=open("waiting.tmp", "w"), flush=True)
    os.rename("waiting.tmp", "waiting")
    end = time.monotonic() + 30
    while not heard and time.monotonic() < end:
        time.sleep(0.02)
    time.sleep(0.3)
    print(heard, file=open("heard", "w"))
    sys.exit(128 + heard[0])
if what == "die":
    os.kill(os.getpid(), signal.SIGKILL)
if isinstance(what, int):
    sys.exit(what)
scored = 0 if what == "skip" else 5
print(json.dumps(dict(rows=5, failed=1, complete=True, scored=scored, seconds=2.0,
                      images_per_second=2.5)))
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working folder where `vea score` is the stand-in; ``plan.json`` tells it what to do."""
    stand_in = tmp_path / "python"
    stand_in.write_text(STAND_IN.replace("{python}", sys.executable))
    stand_in.chmod(0o755)
    (tmp_path / "plan.json").write_text("{}")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "executable", str(stand_in))
    return tmp_path


def plan(folder, **days):
    named = {f"2026-11-{day[1:]}": what for day, what in days.items()}
    (folder / "plan.json").write_text(json.dumps(named))


def calls(folder):
    return [json.loads(line) for line in (folder / "calls.jsonl").read_text().splitlines()]


def days_called(folder):
    return [call[call.index("--date") + 1] for call in calls(folder)]


def backfill(*arguments, templates=TEMPLATES):
    result = CliRunner().invoke(build_app(), ["backfill", *templates, *map(str, arguments)])
    if isinstance(result.exception, VeaError):
        raise result.exception
    return result


@pytest.mark.integration
def test_every_day_from_the_first_to_the_last_is_scored_once(folder):
    ended = backfill("--from", "2026-02-27", "--to", "2026-03-02")
    assert ended.exit_code == 0
    assert days_called(folder) == ["2026-02-27", "2026-02-28", "2026-03-01", "2026-03-02"]
    lines = ended.output.splitlines()
    assert lines[0] == "2026-02-27  5 images, 1 of them failed; 2 s, 2.5/s"
    assert len(lines) == 4


@pytest.mark.integration
def test_score_gets_the_templates_and_what_stands_after_the_dashes(folder):
    backfill("--from", "2026-11-20", "--to", "2026-11-20", "--", "--workers", 4, "--boxes")
    assert calls(folder) == [
        [
            *("-P", "-m", "vea", "score", "lists/{date}.txt"),
            *("--out", "out/dt={date}", "--model", str(ARCHIVE)),
            *("--date", "2026-11-20", "--json", "--workers", "4", "--boxes"),
        ]
    ]


@pytest.mark.integration
def test_a_day_that_is_finished_is_said_to_be_so(folder):
    plan(folder, d20="skip")
    ended = backfill("--from", "2026-11-20", "--to", "2026-11-21")
    first, second = ended.output.splitlines()
    assert first.endswith("finished before")
    assert second.endswith("2.5/s")


@pytest.mark.integration
def test_it_ends_at_the_first_day_that_fails(folder):
    plan(folder, d21=3)
    ended = backfill("--from", "2026-11-20", "--to", "2026-11-23")
    assert ended.exit_code == 3
    assert days_called(folder) == ["2026-11-20", "2026-11-21"]
    assert ended.output.splitlines()[-1] == "2026-11-21  failed with exit code 3"


@pytest.mark.integration
def test_it_can_go_on_after_days_that_fail(folder):
    plan(folder, d20="die", d22=1)
    ended = backfill("--from", "2026-11-20", "--to", "2026-11-23", "--keep-going")
    assert ended.exit_code == 128 + signal.SIGKILL
    assert len(days_called(folder)) == 4
    assert [line[12:18] for line in ended.output.splitlines()] == [
        "failed",
        "5 imag",
        "failed",
        "5 imag",
    ]


@pytest.mark.integration
def test_wrong_usage_ends_it_at_once(folder):
    plan(folder, d20=2)
    ended = backfill("--from", "2026-11-20", "--to", "2026-11-23", "--keep-going")
    assert ended.exit_code == 2
    assert len(days_called(folder)) == 1


@pytest.mark.integration
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_handed_on_once_and_awaited(folder, number):
    plan(folder, d21="wait")
    code = "import sys; sys.executable = sys.argv.pop(1); from vea.main import main; main()"
    python = str(Path(sys.prefix, "bin", "python"))  # `sys.executable` is the stand-in
    command = [python, "-c", code, sys.executable, "backfill", *TEMPLATES]
    dates = ["--from", "2026-11-20", "--to", "2026-11-23", "--keep-going"]
    with subprocess.Popen([*command, *dates], stdout=subprocess.PIPE, text=True) as process:
        end = time.monotonic() + 60
        while not (folder / "waiting").exists() and time.monotonic() < end:
            time.sleep(0.05)
        process.send_signal(number)
        output, _ = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert (folder / "heard").read_text().strip() == f"[{int(number)}]"
    assert len(days_called(folder)) == 2
    assert output.splitlines()[-1] == "2026-11-21  stopped; the same command goes on from here"


@pytest.mark.parametrize(
    "templates",
    [
        ["list.txt", "--out", "out/{date}", "--model", str(ARCHIVE)],
        ["{date}.txt", "--out", "out/{model_version}", "--model", str(ARCHIVE)],
        ["{date}.txt", "--out", "out/{yyyy}-{mm}", "--model", str(ARCHIVE)],
    ],
)
def test_days_that_would_share_a_list_or_a_folder_are_refused(folder, templates):
    with pytest.raises(VeaError, match="is the same for several days"):
        backfill("--from", "2026-11-20", "--to", "2026-11-21", templates=templates)
    assert not (folder / "calls.jsonl").exists()


def test_options_that_backfill_gives_itself_are_refused(folder):
    for option in ("--date=2026-11-20", "--out", "--json"):
        with pytest.raises(VeaError, match="is an option of backfill itself"):
            backfill("--from", "2026-11-20", "--to", "2026-11-20", "--", option)


def test_an_option_of_score_that_does_not_stand_after_the_dashes_is_wrong_usage(folder):
    ended = backfill("--from", "2026-11-20", "--to", "2026-11-20", "--workers", "4")
    assert ended.exit_code == 2


def test_a_stretch_that_ends_before_it_begins_is_refused(folder):
    with pytest.raises(VeaError, match="--from 2026-11-21 is after --to 2026-11-20"):
        backfill("--from", "2026-11-21", "--to", "2026-11-20")


@pytest.mark.integration
def test_real_days_are_scored_and_passed_over_the_next_time(tmp_path, monkeypatch, jpeg):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    (tmp_path / "lists").mkdir()
    for day in (20, 21):
        (tmp_path / "lists" / f"{day}.jpg").write_bytes(jpeg(day))
        (tmp_path / "lists" / f"2026-11-{day}.txt").write_text(f"{day}.jpg\n")
    dates = ["--from", "2026-11-20", "--to", "2026-11-21"]
    ended = backfill(*dates, "--", "--workers", 0)
    assert ended.exit_code == 0
    for day in (20, 21):
        table = pq.read_table(tmp_path / "out" / f"dt=2026-11-{day}" / "images-00000.parquet")
        assert table["image"].to_pylist() == [f"{day}.jpg"]
    ended = backfill(*dates, "--", "--workers", 0)
    assert [line.endswith("finished before") for line in ended.output.splitlines()] == [True, True]
