"""The same photos in files of their own and inside archives and tables: rows, kills, memory.

    python -m tests.trials.pictures_inside --photos 1000 --folder /big/enough
    python -m tests.trials.pictures_inside --photos 120 --chunk-size 10 --only .gz --only .zst ...
    python -m tests.trials.pictures_inside --memory --folder /big/enough

The first scores a list of photos with the shipped model as a user types it, then every file that
holds the same photos, in a run that is killed with `kill -9` and started again; rows must be equal
but for location, and the files of a killed run the same bytes as of one that was left alone. The
second scores 300 and 3,000 pictures of 100 kB with a stub of a model, in processes of their own,
and prints the peak of each process's memory: flat means that ten times as many need no more.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from tests.jobs.containers import forms_of
from tests.shipped import ARCHIVE
from tests.trials.many_photos import many_photos

_OURS = ["image", "run_id", "image_path", "json", "txt"]


def start(listed: Path, out: Path, chunk_size: int) -> subprocess.Popen[bytes]:
    """Start `vea score`."""
    command = [sys.executable, "-m", "vea.main", "score", str(listed), "--out", str(out)]
    options = ["--model", str(ARCHIVE), "--workers", "2", "--chunk-size", str(chunk_size)]
    return subprocess.Popen([*command, *options], stderr=subprocess.DEVNULL, stdout=subprocess.PIPE)


def finish(listed: Path, out: Path, chunk_size: int) -> float:
    """Score to the end; gives the seconds."""
    began = time.monotonic()
    process = start(listed, out, chunk_size)
    said, _ = process.communicate()
    if process.returncode:
        raise SystemExit(f"{listed}: exit code {process.returncode}: {said.decode()}")
    return time.monotonic() - began


def killed(listed: Path, out: Path, dice: random.Random, wanted: int, chunk_size: int) -> int:
    """Kill a run in its middle, again and again, and let it end; gives the number of kills."""
    kills = 0
    while kills < wanted:
        process = start(listed, out, chunk_size)
        before = parts(out)
        while process.poll() is None and parts(out) < before + dice.randint(2, 5):
            time.sleep(0.1)
        if process.poll() is not None:
            return kills
        process.send_signal(signal.SIGKILL)
        process.communicate()
        kills += 1
    finish(listed, out, chunk_size)
    return kills


def parts(out: Path) -> int:
    """Number of parts that are written."""
    return len(list(out.glob("_run/part-*")))


def files(out: Path) -> dict[str, bytes]:
    """The result's files."""
    return {path.name: path.read_bytes() for path in out.glob("*.parquet")}


def compare_rows(
    folder: Path, count: int, wanted: int, *, chunk_size: int, only: Sequence[str] | None
) -> int:
    """Score the photos in every form, or in those with these endings; gives the exit code."""
    photos = list(many_photos(count))
    for number in range(7, count, 50):
        photos[number] = photos[number][: len(photos[number]) // 2]
    single = folder / "photos"
    single.mkdir(parents=True)
    for number, photo in enumerate(photos):
        (single / f"{number:06d}.jpg").write_bytes(photo)
    listed = single / "list.txt"
    listed.write_text("".join(f"{n:06d}.jpg\n" for n in range(count)))
    seconds = {"list": round(finish(listed, folder / "out-list", chunk_size), 1)}
    expected = pd.read_parquet(folder / "out-list").drop(columns=["image", "run_id"])
    dice, wrong, kills = random.Random(1), [], {}
    for name, data in forms_of(photos).items():
        if not name.endswith(tuple(only or ("",))):
            continue
        (folder / name).write_bytes(data)
        seconds[name] = round(finish(folder / name, folder / f"out-{name}", chunk_size), 1)
        found = pd.read_parquet(folder / f"out-{name}")
        rest = found.drop(columns=[column for column in _OURS if column in found])
        if not rest.equals(expected):
            wrong.append(f"rows of {name}")
        if not wanted:
            continue
        out = folder / f"killed-{name}"
        kills[name] = killed(folder / name, out, dice, wanted, chunk_size)
        if files(out) != files(folder / f"out-{name}"):
            wrong.append(f"bytes of {name} after kills")
    status = expected["status"].value_counts().to_dict()
    print(json.dumps({"photos": count, "status": status, "seconds": seconds, "kills": kills}))
    print(json.dumps({"wrong": wrong}))
    return 1 if wrong else 0


def measure(listed: Path, out: Path) -> None:
    """Score with a stub in this process, and print the peak of its memory in MB."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "integration"))
    import stub_job  # noqa: PLC0415
    import stub_model  # noqa: PLC0415

    from jobs.run.driver import score_list  # noqa: PLC0415

    score_list(stub_job.job(listed, out, 200), load=stub_model.load)
    # `getrusage` would tell of the process that started this one.
    status = Path("/proc/self/status").read_text().splitlines()
    peak = next(line for line in status if line.startswith("VmHWM"))
    print(int(peak.split()[1]) // 1024)


def compare_memory(folder: Path) -> int:
    """Peak memory of 300 and of 3,000 pictures in every form."""
    folder.mkdir(parents=True)
    dice = random.Random(1)
    found: dict[str, dict[int, int]] = {}
    for count in (300, 3000):
        # Digits that do not compress: the stub takes the last word for the picture's number.
        pictures = [dice.randbytes(50_000).hex().encode() + b" %d" % n for n in range(count)]
        for name, data in forms_of(pictures).items():
            path = folder / f"{count}-{name}"
            if name == "bytes.parquet":
                continue  # text in a binary column is a list of names
            path.write_bytes(data)
            command = [sys.executable, "-m", __spec__.name, "--measure", str(path)]
            said = subprocess.run(
                [*command, "--folder", str(folder / "out" / path.name)],
                check=True,
                stdout=subprocess.PIPE,
            )
            found.setdefault(name, {})[count] = int(said.stdout)
            path.unlink()
    print(json.dumps(found))
    return 0


def main() -> int:
    """Run the trial."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=int, default=1000)
    parser.add_argument("--kills", type=int, default=2, help="of each run; 0: only compare rows")
    parser.add_argument("--chunk-size", type=int, default=50)
    parser.add_argument("--only", action="append", metavar="ENDING", help="such as .gz; repeatable")
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--measure", type=Path)
    given = parser.parse_args()
    if given.measure:
        measure(given.measure, given.folder)
        return 0
    if given.memory:
        return compare_memory(given.folder)
    return compare_rows(
        given.folder, given.photos, given.kills, chunk_size=given.chunk_size, only=given.only
    )


if __name__ == "__main__":
    sys.exit(main())
