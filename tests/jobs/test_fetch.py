import errno
import os
import sys
from pathlib import Path

import numpy
import pytest

from handler.values.errors import VeaError
from jobs.fetching.fetcher import Fetcher
from jobs.fetching.verdict import Controls, Streak
from jobs.lists.image_list import EvenSample
from jobs.storage.errors import ObjectUnavailable
from jobs.storage.stores import Stores


@pytest.fixture
def fetcher():
    return Fetcher(Stores(), max_bytes=100)


def refusal(fetcher, location):
    with pytest.raises(ObjectUnavailable) as caught:
        fetcher.fetch(str(location))
    assert "\n" not in caught.value.reason
    return caught.value.kind


def test_a_local_image_has_bytes_and_no_etag(fetcher, tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"photo")
    fetched = fetcher.fetch(str(tmp_path / "a.jpg"))
    assert (fetched.data, fetched.etag) == (b"photo", None)


def test_what_is_wrong_with_a_local_image_is_named(fetcher, tmp_path):
    (tmp_path / "large.jpg").write_bytes(bytes(101))
    os.mkfifo(tmp_path / "pipe.jpg")
    assert refusal(fetcher, tmp_path / "none.jpg") == "missing"
    assert refusal(fetcher, tmp_path / "large.jpg" / "below") == "missing"
    assert refusal(fetcher, tmp_path / "large.jpg") == "too-large"
    assert refusal(fetcher, tmp_path / "pipe.jpg") == "bad-location"
    assert refusal(fetcher, tmp_path / ("long" * 999)) == "unreadable"
    assert refusal(fetcher, "nul\0.jpg") == "unreadable"


def test_what_the_machine_lacks_is_no_fault_of_an_image(fetcher, tmp_path, monkeypatch):
    (tmp_path / "a.jpg").write_bytes(b"photo")

    def fail(path):
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(Path, "read_bytes", fail)
    with pytest.raises(OSError, match="Too many open files"):
        fetcher.fetch(str(tmp_path / "a.jpg"))


@pytest.mark.parametrize(
    "location",
    ["", "s3://", "s3:///key", "s3://bucket/", "ftp://host/a.jpg", "s3://bucket/half-\ud800.jpg"],
)
def test_a_location_that_means_nothing_is_a_row_of_its_own(fetcher, location, monkeypatch):
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    assert refusal(fetcher, location) == "bad-location"


def test_hosts_are_closed_unless_named(fetcher):
    with pytest.raises(ObjectUnavailable, match=r"--allow-host images\.example\.org") as caught:
        fetcher.fetch("https://images.example.org/a.jpg")
    assert caught.value.kind == "bad-location"


def test_without_obstore_the_error_says_how_to_get_it(monkeypatch):
    monkeypatch.delitem(sys.modules, "jobs.fetching.obstore", raising=False)
    monkeypatch.setitem(sys.modules, "obstore", None)
    with pytest.raises(VeaError, match=r"pip install 'vea\[jobs\]'"):
        Fetcher(Stores(), max_bytes=1, client="obstore")


def test_an_unknown_client_is_refused():
    with pytest.raises(VeaError, match=r"'curl' .* expected obstore or boto3"):
        Fetcher(Stores(), max_bytes=1, client="curl")


def test_a_streak_is_broken_by_anything_else_and_not_by_what_it_passes_over():
    streak = Streak({"unreachable"}, 3, passing_over={"bad-location"})
    kinds = ["unreachable", "unreachable", "missing", "unreachable", "bad-location", "unreachable"]
    assert not any(streak.is_too_long(kind) for kind in kinds)
    assert streak.is_too_long("unreachable")
    assert streak.is_too_long("unreachable")
    assert not streak.is_too_long(None)
    assert not streak.is_too_long("unreachable")


def test_a_streak_from_the_start_never_begins_again():
    streak = Streak({"forbidden"}, 2, passing_over=(), from_the_start=True)
    assert not streak.is_too_long("forbidden")
    assert not streak.is_too_long(None)
    assert not any(streak.is_too_long("forbidden") for _ in range(10))


def test_a_streak_that_is_refuted_begins_again():
    streak = Streak({"unreachable"}, 2, passing_over=())
    assert [streak.is_too_long("unreachable") for _ in range(2)] == [False, True]
    streak.refute()
    assert [streak.is_too_long("unreachable") for _ in range(2)] == [False, True]


def controls(kinds, *, closing=False, patience=60.0):
    asked = []

    def ask(location):
        asked.append(location)
        return kinds[location]

    found = Controls(list(kinds), ask, is_closing=lambda: closing, patience=patience)
    return found, asked


def test_what_has_refuted_a_suspicion_is_asked_first_the_next_time():
    found, asked = controls({f"{i}": None if i == 7 else "forbidden" for i in range(100)})
    assert found.refute(lambda _, kind: kind is None)
    asked.clear()
    assert found.refute(lambda _, kind: kind is None)
    assert asked == ["7"]


def test_a_suspicion_that_nothing_refutes_is_examined_once():
    found, asked = controls({f"{i}": "forbidden" for i in range(100)})
    assert not found.refute(lambda _, kind: kind is None)
    assert sorted(asked, key=int) == [f"{i}" for i in range(100)]
    # Not from the start of the list, where the images lie that raised it.
    assert asked != sorted(asked, key=int)
    assert not found.refute(lambda _, kind: kind is None)
    assert len(asked) == 100


@pytest.mark.parametrize("end", [{"closing": True}, {"patience": -1.0}])
def test_controls_keep_no_job_from_ending(end):
    found, asked = controls({"a": None}, **end)
    assert not found.refute(lambda _, kind: kind is None)
    assert asked == []


@pytest.mark.parametrize("length", [0, 1, 7, 8, 9, 1_000])
def test_a_sample_is_spread_evenly_over_a_sequence_of_any_length(length):
    sample = EvenSample(8)
    for i in range(length):
        sample.add(f"{i}")
    numbers = [int(item) for item in sample.items]
    assert min(length, 4) <= len(numbers) <= 8
    assert len(set(numpy.diff(numbers))) <= 1
    if length <= 8:
        assert numbers == list(range(length))
    elif length:
        assert numbers[0] == 0
        assert length - numbers[-1] <= 2 * (numbers[1] - numbers[0])
