"""Local folders; those on S3 are tested with a real server."""

import os
import subprocess
import sys
import threading
import time

import pytest

from jobs.storage.folders import FolderError, LocalFolder, ObjectMissing


@pytest.fixture
def folder(tmp_path):
    return LocalFolder(str(tmp_path / "out"))


def test_names_with_a_slash_lie_in_a_subfolder_that_is_made(folder):
    folder.write("_run/part-00001.parquet", b"one")
    folder.write("_run/part-00002.parquet", b"four")
    folder.write("_run/poison-00001.json", b"{}")
    folder.write("images-00000.parquet", b"all")
    assert folder.list() == {"images-00000.parquet": 3}
    assert folder.list("_run/part-") == {"_run/part-00001.parquet": 3, "_run/part-00002.parquet": 4}
    assert len(folder.list("_run/")) == 3
    assert folder.list("images-") == {"images-00000.parquet": 3}
    assert folder.read("_run/part-00002.parquet") == b"four"


def test_a_subfolder_that_is_not_there_yet_is_empty(folder):
    assert folder.list("_run/") == {}


def test_a_folder_that_is_gone_is_not_empty(folder, tmp_path):
    (tmp_path / "out").rmdir()
    with pytest.raises(FolderError, match="no longer exists"):
        folder.list("_run/")


def test_deleting_what_is_not_there_is_fine(folder):
    folder.write("_run/a", b"")
    folder.write("_run/b", b"")
    folder.delete(["_run/a", "_run/none", "none/either"])
    assert list(folder.list("_run/")) == ["_run/b"]


def test_a_missing_object_is_told_from_other_troubles(folder, tmp_path):
    with pytest.raises(ObjectMissing, match=r"there is no _run/a in .*out"):
        folder.read("_run/a")
    (tmp_path / "out" / "sub").mkdir()
    with pytest.raises(FolderError) as caught:
        folder.read("sub")
    assert not isinstance(caught.value, ObjectMissing)


def test_of_many_creators_one_wins_and_all_find_its_content_whole(folder):
    barrier, won = threading.Barrier(8), []

    def create(number):
        barrier.wait()
        if folder.create("_run/identity.json", b"%d" % number * 50_000):
            won.append(number)
        assert len(folder.read("_run/identity.json")) == 50_000

    threads = [threading.Thread(target=create, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert folder.read("_run/identity.json") == b"%d" % won[0] * 50_000
    assert len(os.listdir(os.path.join(folder.location, "_run"))) == 1


def test_where_files_have_one_name_only_creating_still_works(folder, monkeypatch):
    def link(source, place):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", link)
    assert folder.create("a", b"first")
    assert not folder.create("a", b"second")
    assert folder.read("a") == b"first"


def test_a_write_is_on_the_disk_before_its_name_appears(folder, monkeypatch):
    calls = []
    for name in ("fsync", "replace"):
        real = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *a, n=name, f=real: (calls.append(n), f(*a)))
    folder.write("a", b"data")
    # The content, then the move, then the folder that has the name.
    assert calls == ["fsync", "replace", "fsync"]


@pytest.mark.integration
def test_a_writer_that_is_killed_leaves_nothing_that_is_listed(folder):
    code = (
        "import os, sys\n"
        "from jobs.storage.folders import LocalFolder\n"
        "os.replace = lambda *_: os.kill(os.getpid(), 9)\n"
        "LocalFolder(sys.argv[1]).write('_run/part-00000.parquet', b'half of it')\n"
    )
    result = subprocess.run([sys.executable, "-c", code, folder.location], check=False)
    assert result.returncode == -9
    left = os.listdir(os.path.join(folder.location, "_run"))
    assert len(left) == 1
    assert folder.list("_run/") == {}

    # It may belong to a writer that is just slow, until it is a day old.
    folder.sweep()
    assert os.listdir(os.path.join(folder.location, "_run")) == left
    before = time.time() - 25 * 3600
    os.utime(os.path.join(folder.location, "_run", left[0]), (before, before))
    folder.sweep()
    assert os.listdir(os.path.join(folder.location, "_run")) == []


def test_sweeping_keeps_files_of_others(folder, tmp_path):
    for name in (".hidden", ".a.b-c", "old.parquet", ".part.12-notahexa"):
        path = tmp_path / "out" / name
        path.touch()
        os.utime(path, (0, 0))
    folder.sweep()
    assert len(os.listdir(tmp_path / "out")) == 4


def test_a_failed_write_leaves_nothing_and_is_one_line(folder, tmp_path):
    (tmp_path / "out" / "taken").mkdir()
    with pytest.raises(FolderError, match="cannot write taken in ") as caught:
        folder.write("taken", b"data")
    assert "\n" not in str(caught.value)
    assert os.listdir(tmp_path / "out") == ["taken"]
