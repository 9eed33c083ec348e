"""`make bench` runs, and its ratios are those of the seconds that it measured."""

from __future__ import annotations

import json
import statistics
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.bench import __main__ as bench
from tests.bench.meter import ProgramFailed, measured
from tests.bench.results import Measurement, ratio, ratios

BURN = "import time\nwhile time.process_time() < 0.5: pass"


def test_a_ratio_compares_each_repetition_with_the_one_beside_it() -> None:
    slow = Measurement("jobs", "slow", 1, photos=10, cpu=[10.0, 30.0, 20.0])
    fast = Measurement("jobs", "fast", 1, photos=20, cpu=[10.0, 10.0, 10.0])
    found = ratio(fast, slow)
    assert found is not None
    assert (found.value, found.low, found.high) == (4.0, 2.0, 6.0)


def test_repetitions_that_cost_no_more_than_their_start_have_no_ratio() -> None:
    nothing = Measurement("jobs", "fast", 1, photos=4, cpu=[0.0])
    some = Measurement("jobs", "slow", 1, photos=4, cpu=[1.0])
    assert ratio(nothing, some) is None
    assert ratio(some, nothing) is None


def test_ways_are_compared_within_their_section_with_as_many_threads_or_with_one() -> None:
    def way(section: str, name: str, threads: int, seconds: float) -> Measurement:
        return Measurement(section, name, threads, photos=1, cpu=[seconds])

    known = [
        way("jobs", "fast", 1, 1.0),
        way("jobs", "fast", 2, 1.0),
        way("jobs", "slow", 2, 3.0),
        way("jobs", "loop", 1, 4.0),
        way("serving", "slow", 1, 5.0),
    ]
    found = ratios(known, [("jobs", "fast", "slow"), ("jobs", "fast", "loop")])
    assert [(one.reference, one.threads, one.value) for one in found] == [
        ("slow", 2, 3.0),
        ("loop", 1, 4.0),
        ("loop", 2, 4.0),
    ]


def test_cpu_seconds_are_those_of_child_processes_too() -> None:
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {BURN!r}], check=True)"
    usage = measured([sys.executable, "-c", parent])
    assert usage.cpu >= 0.5
    assert usage.peak_mib > 0


def test_a_program_that_fails_fails_the_measurement_and_says_why() -> None:
    with pytest.raises(ProgramFailed, match="broken on purpose"):
        measured([sys.executable, "-c", "raise SystemExit('broken on purpose')"])


def test_a_program_that_does_not_end_is_killed_with_its_children() -> None:
    with pytest.raises(ProgramFailed, match=r"did not end in 0\.5 s"):
        measured([sys.executable, "-c", "import time; time.sleep(60)"], timeout=0.5)


def check(file: Path) -> dict[str, Any]:
    """The document of a run, whose medians and ratios must be those of its seconds."""
    document: dict[str, Any] = json.loads(file.read_text())
    known = {}
    for one in document["measurements"]:
        if "x" not in one:
            known[one["section"], one["name"], one["threads"]] = one
        expected = statistics.median(one["cpu"]) / one["photos"] * 1e3
        assert one["cpu_ms"] == pytest.approx(expected, rel=0.05, abs=0.1)
    for one in document["ratios"]:
        for section in ("predictor", "jobs", "serving"):
            way = known.get((section, one["way"], one["threads"]))
            same = known.get((section, one["reference"], one["threads"]))
            other = same or known.get((section, one["reference"], 1))
            if way and other:
                assert one["value"] == pytest.approx(other["cpu_ms"] / way["cpu_ms"], rel=0.05)
    return document


@pytest.mark.integration
@pytest.mark.long
def test_a_quick_run_measures_every_stage_and_the_naive_script(tmp_path: Path) -> None:
    output = tmp_path / "bench.json"
    only = ["--only", "stages", "predictor", "--threads", "1"]
    bench.main(["--quick", *only, "--output", str(output)])
    document = check(output)
    stages = {one["name"] for one in document["measurements"] if one["section"] == "stages"}
    assert {"fetch (boto3)", "decode", "resize", "objects", "faces", "network", "write"} <= stages
    pairs = {(one["way"], one["reference"].partition(":")[0]) for one in document["ratios"]}
    assert pairs == {("Predictor", "naive script"), ("Predictor", "floor")}
    assert str(tmp_path) not in output.read_text()
    before = output.read_text()
    bench.main(["--quick", *only, "--resume", "--output", str(output)])
    assert output.read_text() == before, "sections that are done are measured once"


@pytest.mark.integration
@pytest.mark.long
def test_a_quick_run_measures_programs_from_end_to_end(tmp_path: Path) -> None:
    output = tmp_path / "bench.json"
    only = ["--only", "jobs", "serving", "start", "growth", "--threads", "1"]
    bench.main(["--quick", *only, "--output", str(output)])
    document = check(output)
    found = {(one["section"], one["name"]) for one in document["measurements"]}
    ways = {name for section, name in found if section == "jobs"}
    assert {"naive job", "plain loop", "Ray Data", "vea score", "Predictor"} == ways
    assert ("serving", "TorchServe") in found
    assert {"megapixels", "batch", "threads", "list"} <= {section for section, _ in found}
