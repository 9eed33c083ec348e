"""Whether a model answers alike on older processors, which QEMU emulates.

    python -m tests.trials.older_processors --photos FOLDER --count 12
    python -m tests.trials.older_processors --model INT8.mar --processors Haswell

The same program scores the same photos here and under `qemu-x86_64 -cpu NAME` (Debian's package
qemu-user, version 7.2 or later). Haswell has AVX2 and no AVX-512, hence no VNNI; SandyBridge has
AVX, without which dlib does not start. Each process tells which instructions it found, from the
processor itself and not from `/proc/cpuinfo`, which is the host's. One thread, batches as always.
An emulated photo takes ten seconds of CPU time. QEMU 7.2 crashes where PyTorch cuts out a face with
AVX2; with VEA_FACES=off no face is looked for. The result is one JSON document; exit code 1 if an
emotion differs or an emulated process found AVX-512.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from handler.values.configs import FACES_VARIABLE
from handler.values.runtimes import ONNX, RUNTIMES, VARIABLE
from tests.bench.photos import BUNDLED, photos_of
from tests.shipped import ARCHIVE

_EMULATOR = "qemu-x86_64"
PROCESSORS = ("Haswell", "SandyBridge")
Answers = dict[str, Any]


def compare(here: Answers, there: Answers) -> dict[str, Any]:
    """How the answers of two processes differ; both are of the same photos.

    Args:
        here: Answers of this processor, as `answer` gives them.
        there: Answers of another processor.
    """
    pairs = list(zip(here["probabilities"], there["probabilities"], strict=True))
    moved = [max(abs(a[name] - b[name]) for name in a) for a, b in pairs]
    tops = [(max(a, key=a.__getitem__), max(b, key=b.__getitem__)) for a, b in pairs]
    return {
        "photos": len(pairs),
        "same_emotion": sum(a == b for a, b in tops),
        "same_digits": sum(a == b for a, b in pairs),
        "largest_difference": max(moved, default=0.0),
        "mean_largest_difference": sum(moved) / max(len(moved), 1),
        "instructions": " ".join(there["instructions"]),
    }


def answer(model: Path, folder: Path) -> Answers:
    """The answers of this process, and the instructions that its processor has.

    Args:
        model: Archive to score with.
        folder: Folder of the photos, all of which are scored.
    """
    import torch  # noqa: PLC0415 - in the measured process alone

    from handler.predictor import Predictor  # noqa: PLC0415
    from handler.values.prediction import Prediction  # noqa: PLC0415

    torch.set_num_threads(1)
    predictor = Predictor.load(
        model,
        threads=1,
        runtime=os.environ[VARIABLE],
        faces=os.environ.get(FACES_VARIABLE) != "off",
    )
    photos = [file.read_bytes() for file in sorted(folder.iterdir())]
    known = torch.cpu.get_capabilities()
    answers = [one for one in predictor.predict(photos) if isinstance(one, Prediction)]
    assert len(answers) == len(photos)
    return {
        "runtime": predictor.model.runtime,
        "instructions": sorted(name for name, value in known.items() if value is True),
        "probabilities": [one.probabilities for one in answers],
    }


def answer_in_a_process(
    model: Path, folder: Path, emulator: Sequence[str], environment: Mapping[str, str]
) -> Answers:
    """`answer` in a process of its own.

    Args:
        model: Archive to score with.
        folder: Folder of the photos.
        emulator: Words before the command; none for this processor.
        environment: Variables that are set in addition to those of this process.
    """
    command = [
        *(*emulator, sys.executable, "-m", "tests.trials.older_processors"),
        *("--model", str(model), "--photos", str(folder), "--one"),
    ]
    done = subprocess.run(
        command, env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr}")
    found: Answers = json.loads(done.stdout.splitlines()[-1])
    return found


def trial(
    model: Path, photos: Sequence[bytes], processors: Sequence[str], runtime: str
) -> dict[str, Any]:
    """The answers of every processor beside those of this one."""
    emulator = shutil.which(_EMULATOR)
    if emulator is None:
        raise SystemExit(f"{_EMULATOR} is not installed: apt-get install qemu-user")
    environment = {VARIABLE: runtime, "OMP_NUM_THREADS": "1"}
    with tempfile.TemporaryDirectory(prefix="vea-older-") as scratch:
        for number, photo in enumerate(photos):
            Path(scratch, f"{number:04d}.jpg").write_bytes(photo)
        here = answer_in_a_process(model, Path(scratch), (), environment)
        report = {
            "model": model.name,
            "runtime": here["runtime"],
            "here": {"instructions": " ".join(here["instructions"])},
        }
        for processor in processors:
            print(f"{processor} ...", file=sys.stderr)
            words = (emulator, "-cpu", processor)
            there = answer_in_a_process(model, Path(scratch), words, environment)
            report[processor] = compare(here, there)
    return report


def main() -> int:
    """Read the options and try."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, default=ARCHIVE)
    parser.add_argument("--photos", type=Path, default=BUNDLED, help="folder of photos")
    parser.add_argument("--count", type=int, default=8, help="number of photos")
    parser.add_argument("--processors", nargs="+", default=PROCESSORS, metavar="NAME")
    parser.add_argument("--runtime", choices=RUNTIMES, default=ONNX)
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        print(json.dumps(answer(given.model, given.photos)))
        return 0
    report = trial(
        given.model, photos_of(given.photos, given.count), given.processors, given.runtime
    )
    print(json.dumps(report, indent=2))
    emulated = [report[name] for name in given.processors]
    same = all(one["same_emotion"] == one["photos"] for one in emulated)
    return 0 if same and not any("avx512" in one["instructions"] for one in emulated) else 1


if __name__ == "__main__":
    sys.exit(main())
