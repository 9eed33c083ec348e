"""What a photo costs, beside the naive script, Ray Data and the slowest stage alone.

    python -m tests.bench                      # everything; `make bench` is the same
    python -m tests.bench --quick              # whether it runs: the figures mean nothing
    python -m tests.bench --only stages predictor --photos FOLDER

CPU seconds are compared, not wall-clock time, so that another load on the machine disturbs little.
Ways that are compared run in turns within one run. A figure is the median of the repetitions, a
ratio the median of the ratios of each repetition.
"""

from __future__ import annotations

import argparse
import os
import shlex
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from handler.archive.files import read_card
from handler.values.prediction import ModelIdentity
from handler.values.runtimes import AUTO, RUNTIMES, TORCH, VARIABLE, choose_runtime
from model_store import shipped_archive
from tests.bench import table
from tests.bench.jobs import NAIVE_JOB, PLAIN, RAY, SCORE
from tests.bench.machine import describe_machine
from tests.bench.photos import BUNDLED, write_enlarged
from tests.bench.plan import FULL, NAIVE, PREDICTOR, QUICK, Archives
from tests.bench.results import Measurement, Ratio, Report, ratio, ratios
from tests.bench.sections import SECTIONS, Bench
from tests.bench.serving import TORCHSERVE

_PAIRS = (
    ("predictor", PREDICTOR, NAIVE),
    ("jobs", SCORE, NAIVE_JOB),
    ("jobs", SCORE, PLAIN),
    ("jobs", SCORE, RAY),
    ("jobs", SCORE, PREDICTOR),
    ("serving", TORCHSERVE, PREDICTOR),
)


def main(arguments: Sequence[str] | None = None) -> Report:
    """Read the options, measure, print tables, write the JSON document."""
    arguments = sys.argv[1:] if arguments is None else arguments
    given = _options().parse_args(arguments)
    plan = QUICK if given.quick else FULL
    if given.repeat:
        plan = replace(plan, repeat=given.repeat)
    model = (given.model or shipped_archive()).resolve()
    os.environ[VARIABLE] = given.runtime  # the measured programs inherit it
    archives = Archives(model, (given.baseline or model).resolve())
    folder = given.photos.resolve()
    if given.enlarge:
        scratch = tempfile.TemporaryDirectory(prefix="vea-bench-")
        write_enlarged(folder, Path(scratch.name), given.enlarge)
        folder = Path(scratch.name)
    bench = Bench(plan, archives, folder, given.threads)
    given.output.parent.mkdir(parents=True, exist_ok=True)
    console = Console()
    about = {
        **describe_machine(),
        "note": given.note,
        "model": _model(archives.model, given.runtime),
        "baseline": _model(archives.baseline, TORCH),
        "photos": _photos(given),
    }
    report = Report(about, [], [])
    if given.resume and given.output.is_file():
        report = _earlier(given.output, about)
    done: dict[str, str] = report.about.setdefault("commands", {})
    for section in given.only:
        if section in done:
            continue
        began = time.monotonic()
        report.measurements += bench.measure(section)
        done[section] = _command(arguments)
        report.ratios = _compare(report.measurements)
        report.write(given.output)  # what comes next may fail, and this took long
        console.print(f"{section}: {time.monotonic() - began:.0f} s", style="dim")
    table.show(report, console)
    console.print(f"written to {given.output}")
    return report


def _earlier(file: Path, about: dict[str, Any]) -> Report:
    """What an earlier run wrote; it must be of the same machine, program and models."""
    report = Report.read(file)
    same = ("processor", "cores", "python", "versions", "model", "baseline", "photos")
    other = [key for key in same if report.about[key] != about[key]]
    if other:
        raise SystemExit(f"{file} is of another run ({', '.join(other)} differ): remove it")
    return report


def _photos(given: argparse.Namespace) -> str:
    """Which photos are scored, in words."""
    words = "those of the demo" if given.photos == BUNDLED else "a folder of the user's"
    return words + (f", enlarged to 1 to 12 megapixels ({given.enlarge})" if given.enlarge else "")


def _command(arguments: Sequence[str]) -> str:
    """What repeats the run; of files and folders elsewhere only their names."""
    names = [Path(word).name if Path(word).is_absolute() else word for word in arguments]
    return shlex.join(["python", "-m", "tests.bench", *names])


def _options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--photos", type=Path, default=BUNDLED, help="folder of photos")
    parser.add_argument(
        "--enlarge",
        type=int,
        metavar="N",
        help="score N photos of 1 to 12 megapixels that are made from those of the folder",
    )
    parser.add_argument("--model", type=Path, help="archive; the shipped one if not given")
    parser.add_argument(
        "--baseline", type=Path, help="archive of the naive script and of the plain loop"
    )
    parser.add_argument(
        "--runtime", choices=RUNTIMES, default=AUTO, help="what computes the backbones"
    )
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=SECTIONS)
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--repeat", type=int, help="repetitions of each measurement")
    parser.add_argument("--quick", action="store_true", help="few photos, once each")
    parser.add_argument("--note", default="", help="what readers of the figures should know")
    parser.add_argument(
        "--resume", action="store_true", help="keep the sections that the output file holds"
    )
    parser.add_argument("--output", type=Path, default=Path("bench.json"))
    return parser


def _compare(measurements: Sequence[Measurement]) -> list[Ratio]:
    """The ratios of the report.

    `Predictor` is also compared with the slowest of its stages alone: below that, no arrangement of
    the others can get.
    """
    found = ratios(measurements, _PAIRS)
    stages = {one.name: one for one in measurements if one.section == "stages"}
    whole = stages.pop(PREDICTOR, None)
    if whole is not None:
        slowest = max(stages.values(), key=lambda one: one.cpu_ms)
        floor = ratio(whole, replace(slowest, name=f"floor: {slowest.name} alone"))
        found += [floor] if floor else []
    return found


def _model(path: Path, runtime: str) -> dict[str, str]:
    config, _, digest = read_card(path)
    chosen = choose_runtime(runtime, compiled=config.compiled, device="cpu")
    return ModelIdentity(config.name, config.version, digest, chosen).to_dict()


if __name__ == "__main__":
    # As Ctrl-C does, so that servers and their folders do not stay behind.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    main()
