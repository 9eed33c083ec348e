"""Workers that are processes, and die; the model is a stub, all else is real."""

import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas
import pytest
import stub_job
import stub_model

from handler.values.errors import VeaError
from jobs.engines.dispatch import WorkerFailed
from jobs.engines.processes import Processes
from jobs.engines.quarantine import WorkersDie
from jobs.run.driver import score_list

pytestmark = [pytest.mark.integration, pytest.mark.long]


@pytest.fixture
def listing(tmp_path):
    """Makes a list of images: ``listing(10, slow=True)``."""

    def make(count, *, slow=False, poison=()):
        folder = tmp_path / "images"
        folder.mkdir(exist_ok=True)
        for i in range(count):
            words = ("poison " if i in poison else "") + ("slow " if slow else "")
            (folder / f"{i}.jpg").write_text(f"{words}{i}")
        listed = folder / "list.txt"
        listed.write_text("".join(f"{i}.jpg\n" for i in range(count)))
        return listed

    return make


def files_of(out):
    """What readers can see; who is killed while it writes leaves a hidden file for the sweep."""
    found = [path for path in Path(out).rglob("*") if path.is_file()]
    return {
        str(path.relative_to(out)): path.read_bytes()
        for path in found
        if path.name != "_manifest.json" and not path.name.startswith(".")
    }


def undisturbed(listed, out):
    """What the run comes to in a single process that nothing happens to."""
    score_list(stub_job.job(listed, out), load=stub_model.load)
    return files_of(out)


def score(listed, out, *, processes=2, load=stub_model.load, chunk_size=4, **options):
    job = stub_job.job(listed, out, chunk_size)
    return score_list(job, engine=Processes(processes), load=load, **options)


def workers():
    found = [p for p in multiprocessing.active_children() if p.name.startswith("vea-worker")]
    return sorted(found, key=lambda process: process.pid)


def is_alive(pid):
    try:
        state = Path("/proc", str(pid), "stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def wait_until(condition, seconds=60.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.05)


def test_images_that_kill_are_found_and_nothing_else_is_lost(listing, tmp_path):
    listed = listing(8, poison={3, 5})
    seen = []
    summary = score(listed, tmp_path / "out", chunk_size=3, on_progress=seen.append)
    assert (summary.complete, summary.rows, summary.poison) == (True, 8, 2)
    assert summary.reasons == {"predict/killed": 2}
    frame = pandas.read_parquet(tmp_path / "out")
    assert frame["position"].tolist() == list(range(8))
    killed = frame[frame["status"] == "failed"]
    assert killed["position"].tolist() == [3, 5]
    assert killed["reason"].unique() == ["the process died while it worked on this image"]
    assert frame[frame["status"] == "ok"]["width"].tolist() == [0, 1, 2, 4, 6, 7]
    assert (seen[-1].done, seen[-1].failed) == (8, 2)
    assert workers() == []


def test_killing_workers_changes_no_byte(listing, tmp_path):
    listed = listing(32, slow=True)
    expected = undisturbed(listed, tmp_path / "calm")
    chooser, kills = random.Random(3), []

    def kill_one(now):
        if now.done >= 8 * (len(kills) + 1) and len(kills) < 2:
            kills.append(chooser.choice(workers()).pid)
            os.kill(kills[-1], signal.SIGKILL)

    seen = []
    summary = score(
        listed, tmp_path / "out", on_progress=lambda now: (seen.append(now.done), kill_one(now))
    )
    assert len(kills) == 2
    assert (summary.rows, summary.failed) == (32, 0)
    assert seen[-1] == 32
    assert files_of(tmp_path / "out") == expected


def test_a_model_that_never_loads_is_told_of_with_its_last_words(listing, tmp_path):
    with pytest.raises(WorkersDie, match=r"3 workers .*code 132: there is no such instruction"):
        score(listing(8), tmp_path / "out", processes=1, load=stub_model.load_in_vain)
    assert workers() == []


def test_an_error_in_a_worker_is_one_line(listing, tmp_path):
    with pytest.raises(WorkerFailed, match=r"^RuntimeError: out of memory$"):
        score(listing(8), tmp_path / "out", load=stub_model.refuse_to_load)


def test_no_process_is_no_number_of_processes():
    with pytest.raises(VeaError, match="expected at least 1"):
        Processes(0)


# The driver as a program


@pytest.fixture
def start():
    """Starts jobs as programs, and leaves none behind."""
    begun = []

    def begin(listed, out, processes=2):
        command = [sys.executable, stub_job.__file__, str(listed), str(out), str(processes)]
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        begun.append(process)
        return process

    yield begin
    for process in begun:
        process.kill()
        process.communicate()


def follow(process, images):
    """Wait until so many images are done; gives the workers' process ids."""
    for line in process.stdout:
        done, *pids = (int(word) for word in line.split())
        if done >= images:
            return pids
    raise AssertionError(process.stderr.read())


def test_when_the_driver_is_killed_its_workers_end_and_the_next_start_goes_on(
    start, listing, tmp_path
):
    listed, out = listing(40, slow=True), tmp_path / "out"
    expected = undisturbed(listed, tmp_path / "calm")
    for i in (20, 24):
        (listed.parent / f"{i}.jpg").write_text(f"stuck {i}")
    driver = start(listed, out)
    pids = follow(driver, 20)
    assert len(pids) == 2
    driver.kill()
    driver.wait()
    wait_until(lambda: not any(is_alive(pid) for pid in pids))
    for i in (20, 24):
        (listed.parent / f"{i}.jpg").write_text(f"slow {i}")
    done = len(list((out / "_run").glob("part-*")))
    assert 0 < done < 10
    summary = score_list(stub_job.job(listed, out), load=stub_model.load)
    assert (summary.parts_skipped, summary.scored) == (done, 40 - 4 * done)
    assert files_of(out) == expected


def test_a_signal_lets_chunks_under_way_end_and_then_the_driver(start, listing, tmp_path):
    listed, out = listing(60, slow=True), tmp_path / "out"
    driver = start(listed, out)
    pids = follow(driver, 6)
    # A terminal sends Ctrl-C to the workers too, and some supervisors do so with SIGTERM.
    for pid in pids:
        os.kill(pid, signal.SIGINT)
        os.kill(pid, signal.SIGTERM)
    driver.terminate()
    _, errors = driver.communicate(timeout=60)
    assert driver.returncode == 143
    done = len(list((out / "_run").glob("part-*")))
    assert errors == (
        f"stopped: {4 * done} of 60 images are done; start the same command again to continue\n"
    )
    assert 2 <= done < 15
    assert not any(is_alive(pid) for pid in pids)
    assert not any(path.name.startswith(".") for path in out.rglob("*"))


def test_two_drivers_at_once_do_each_other_no_harm(start, listing, tmp_path):
    listed, out = listing(24, slow=True), tmp_path / "out"
    expected = undisturbed(listed, tmp_path / "calm")
    drivers = [start(listed, out, processes=1) for _ in range(2)]
    for driver in drivers:
        _, errors = driver.communicate(timeout=120)
        assert (driver.returncode, errors) == (0, "")
    assert files_of(out) == expected
