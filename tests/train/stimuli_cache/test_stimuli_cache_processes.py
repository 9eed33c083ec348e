"""A cache that several processes fill, and processes that are killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from caches import Build, alike

from train.stimuli.shards import CacheError

pytestmark = pytest.mark.integration

# Builds a cache as a program of its own: model folder, photos, cache root, workers.
_PROGRAM = """
import sys, hashlib
from pathlib import Path
import pandas as pd
from handler.archive.files import LANDMARKS
from handler.archive.loading import load_archive
from train.stimuli.cache import SelectorFiles, build_cache

if __name__ == "__main__":
    model, photos, root, workers = sys.argv[1:]
    paths = sorted(Path(photos).glob("*.jpg"))
    keys = [hashlib.sha256(path.read_bytes()).hexdigest() for path in paths]
    table = pd.DataFrame({"path": [str(path) for path in paths], "sha256": keys})
    cache = build_cache(
        table, load_archive(Path(model)).selector, Path(root),
        files=SelectorFiles(Path(model, LANDMARKS)), workers=int(workers), shard_size=4,
        on_progress=lambda done, total: print(done, flush=True),
    )
    print("ended", cache.selected, flush=True)
"""


def start(tmp_path: Path, model: Path, photos: Path, root: Path, workers: int) -> subprocess.Popen:
    program = tmp_path / "program.py"
    program.write_text(_PROGRAM)
    return subprocess.Popen(
        [sys.executable, program, model, photos, root, str(workers)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
    )


def children(pid: int) -> list[int]:
    listed = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in listed if "spawn_main" in command(int(child))]


def command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""


def wait_until(condition: Callable[[], bool], process: subprocess.Popen) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert process.poll() is None or condition(), process.communicate()[1]
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory, photo, encode) -> Path:
    """Photos large enough that selecting them all takes a while."""
    folder = tmp_path_factory.mktemp("many")
    for i in range(48):
        (folder / f"{i:02}.jpg").write_bytes(encode(photo(i, (600, 500)), "JPEG"))
    return folder


def test_a_killed_worker_ends_the_build_with_a_word_and_costs_its_shard_only(
    many: Path, build: Build, tmp_path: Path
) -> None:
    paths = sorted(many.iterdir())

    def kill(done: int, total: int) -> None:
        if done > 8:
            os.kill(children(os.getpid())[0], signal.SIGKILL)

    with pytest.raises(CacheError, match="what was selected is kept"):
        build(paths, tmp_path / "cache", workers=2, shard_size=8, on_progress=kill)
    resumed = build(paths, tmp_path / "cache")
    assert resumed.selected < 48
    assert resumed.refused == {}
    assert alike(resumed, build(paths, tmp_path / "alone"))


def test_a_killed_build_leaves_no_workers_and_goes_on_where_it_was(
    many: Path, tiny_model: Path, build: Build, tmp_path: Path
) -> None:
    root = tmp_path / "cache"

    def found() -> list[Path]:
        return list(root.glob("*/shards/*.safetensors"))

    program = start(tmp_path, tiny_model, many, root, 2)
    wait_until(lambda: bool(found()), program)
    workers = children(program.pid)
    assert len(workers) == 2
    program.kill()
    program.communicate()
    end = time.monotonic() + 60
    while any("spawn_main" in command(worker) for worker in workers):
        assert time.monotonic() < end, "workers end with the process that started them"
        time.sleep(0.05)
    before = len(found())
    resumed = build(sorted(many.iterdir()), root)
    assert resumed.selected == 48 - 4 * before > 0, "what was there was not selected again"
    assert resumed.refused == {}


def test_two_programs_may_fill_the_same_cache_at_once(
    photos: list[Path], tiny_model: Path, build: Build, selections, tmp_path: Path
) -> None:
    root = tmp_path / "cache"
    other = start(tmp_path, tiny_model, photos[0].parent, root, 1)
    assert other.stdout.readline(), "it is at work"
    build(photos, root)
    said, complaints = other.communicate(timeout=120)
    assert other.returncode == 0, complaints
    assert "ended" in said
    del selections[:]
    filled = build(photos, root)
    assert (filled.selected, selections) == (0, [])
    # Bits depend on how many threads each of them had.
    assert alike(filled, build(photos, tmp_path / "alone"))
