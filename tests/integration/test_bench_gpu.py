"""The benchmark of a GPU: it says where there is none, and tells what nvidia-smi says."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.bench import gpu
from tests.bench.gpu_meter import Gpu, GpuMeter

CARD = Gpu("A card", "GPU-1234", 1000)
# Busy in every second sample; a line that knows nothing, as on a partitioned GPU, does not count.
NVIDIA_SMI = """#!/bin/sh
echo "$@" > "$(dirname "$0")/arguments"
echo "[N/A], [N/A]"
while :; do echo "100, 700"; echo "0, 300"; sleep 0.02; done
"""


def test_without_a_gpu_it_says_so_and_measures_nothing(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "tests.bench.gpu", "--output", str(tmp_path / "gpu.json")],
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 1
    assert ended.stderr.startswith("there is no GPU that torch can use on this machine")
    assert list(tmp_path.iterdir()) == []


def test_a_gpu_is_as_busy_as_nvidia_smi_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text(NVIDIA_SMI)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    with GpuMeter(CARD) as meter:
        time.sleep(0.5)
    assert meter.busy == pytest.approx(0.5, abs=0.05)
    assert meter.busy_seconds == pytest.approx(0.25, abs=0.1)
    assert meter.peak_mib == 700
    assert f"--id={CARD.uuid}" in (tmp_path / "arguments").read_text()


def test_of_no_gpu_nothing_is_told() -> None:
    with GpuMeter(None) as meter:
        pass
    assert (meter.busy, meter.busy_seconds, meter.peak_mib) == (None, None, None)


def test_figures_are_those_of_the_seconds_that_were_measured() -> None:
    one = gpu.Throughput(gpu.SCORE, "a", "torch", workers=2, photos=100)
    for seconds, busy in ((2.0, 1.0), (4.0, 1.0), (5.0, 4.0)):
        one.add(seconds, cpu=1.0, busy=busy, peak=busy * 100)
    assert (one.per_second, one.busy, one.cpu_ms, one.peak_mib) == (25.0, 0.5, 10.0, 400.0)


@pytest.mark.integration
@pytest.mark.long
def test_the_program_runs_on_a_cpu_and_knows_that_no_gpu_was_busy(tmp_path: Path) -> None:
    output = tmp_path / "gpu.json"
    gpu.main(["--device", "cpu", "--quick", "--workers", "1", "--output", str(output)])
    document = json.loads(output.read_text())
    assert document["about"]["gpu"] is None
    found = {one["way"]: one for one in document["measurements"]}
    assert set(found) == {gpu.SCORE, gpu.TORCHSERVE}
    for one in found.values():
        assert (one["busy"], one["peak_mib"], one["runtime"]) == (None, None, "onnx")
        assert one["per_second"] > 0
