"""What a program costs before it does anything, or when there is next to nothing to do."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from tests.bench.meter import measured
from tests.bench.results import Measurement


def measure_starts(model: Path, photo: Path, repeat: int) -> list[Measurement]:
    """CPU seconds, wall-clock seconds and peak memory of short commands, in turns.

    Args:
        model: Archive of the commands that need one.
        photo: Photo that they score.
        repeat: Number of repetitions.
    """
    with tempfile.TemporaryDirectory(prefix="vea-bench-") as scratch:
        image_list, out = Path(scratch, "list.txt"), Path(scratch, "out")
        image_list.write_text(f"{photo}\n")
        vea = [sys.executable, "-m", "vea"]
        score = [*vea, "score", str(image_list), "--out", str(out), "--model", str(model)]
        measured([*score, "--workers", "1"])
        load = "from vea import Predictor; Predictor.load(__import__('sys').argv[1])"
        commands = {
            "vea --help": [*vea, "--help"],
            "vea predict, one photo": [*vea, "predict", str(photo), "--model", str(model)],
            "Predictor.load": [sys.executable, "-c", load, str(model)],
            "vea score, a finished run": [*score, "--workers", "1"],
        }
        found = {name: Measurement("start", name, 1, 1) for name in commands}
        for _ in range(repeat):
            for name, command in commands.items():
                usage = measured(command, {"OMP_NUM_THREADS": "1"})
                one = found[name]
                one.cpu.append(usage.cpu)
                one.wall.append(usage.wall)
                one.peak_mib = max(one.peak_mib or 0.0, usage.peak_mib)
    return list(found.values())
