"""Who removes rows of a run, where several find that the one before them was killed."""

import json
import os
import socket
from contextlib import ExitStack

import pytest

from jobs.output.erasure_journal import ErasureError, sole_work
from jobs.storage.folders import LocalFolder

RECORD = "_run/erasing.json"
ALIVE = 1  # the first process of the machine
LEFT = json.dumps({"host": socket.gethostname(), "pid": 2**22 + 1, "since": "2999-01-01T00:00:00Z"})


class Slow(LocalFolder):
    """Something happens between the look at a record and what follows from it."""

    meanwhile = None

    def read(self, name):
        data = super().read(name)
        if act := self.meanwhile:
            self.meanwhile = None
            act()
        return data


@pytest.fixture
def folder(tmp_path):
    folder = LocalFolder(str(tmp_path))
    folder.write(RECORD, LEFT.encode())
    return folder


def records(folder):
    return sorted(folder.list("_run/"))


def test_the_place_of_a_process_that_is_gone_is_taken_and_left_tidy(folder):
    with sole_work(folder):
        assert len(records(folder)) == 2
    assert records(folder) == []


def test_of_two_that_find_it_at_the_same_time_one_is_refused(folder, tmp_path, monkeypatch):
    slow = Slow(str(tmp_path))
    with ExitStack() as stack:

        def another_begins():
            with monkeypatch.context() as elsewhere:
                elsewhere.setattr(os, "getpid", lambda: ALIVE)
                stack.enter_context(sole_work(folder))

        slow.meanwhile = another_begins
        with pytest.raises(ErasureError, match=f"process {ALIVE} on"), sole_work(slow):
            pass
    assert records(folder) == []


def test_work_that_has_ended_since_the_look_is_begun_anew(folder, tmp_path):
    slow = Slow(str(tmp_path))

    def another_does_it_all():
        with sole_work(folder):
            pass

    slow.meanwhile = another_does_it_all
    with sole_work(slow):
        assert records(folder) == [RECORD]
        assert json.loads(folder.read(RECORD))["pid"] == os.getpid()
    assert records(folder) == []


def test_a_chain_of_kills_leaves_one_place(folder):
    for _ in range(3):
        with pytest.raises(KeyboardInterrupt), sole_work(folder):
            raise KeyboardInterrupt
    with sole_work(folder):
        assert len(records(folder)) == 5
    assert records(folder) == []
