import errno
import os
import sys
from pathlib import Path

import pytest

from handler.values.errors import VeaError
from jobs.fetching.fetcher import Fetcher, Streak
from jobs.storage.errors import ObjectUnavailable
from jobs.storage.s3 import S3


@pytest.fixture
def fetcher():
    return Fetcher(S3(), max_bytes=100)


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
        Fetcher(S3(), max_bytes=1, client="obstore")


def test_an_unknown_client_is_refused():
    with pytest.raises(VeaError, match=r"'curl' .* expected boto3 or obstore"):
        Fetcher(S3(), max_bytes=1, client="curl")


def test_a_streak_is_broken_by_anything_else_and_not_by_what_it_passes_over():
    streak = Streak("unreachable", 3, passing_over={"bad-location"})
    kinds = ["unreachable", "unreachable", "missing", "unreachable", "bad-location", "unreachable"]
    assert not any(streak.is_too_long(kind) for kind in kinds)
    assert streak.is_too_long("unreachable")
    assert streak.is_too_long("unreachable")
    assert not streak.is_too_long(None)
    assert not streak.is_too_long("unreachable")


def test_a_streak_from_the_start_never_begins_again():
    streak = Streak("forbidden", 2, passing_over=(), from_the_start=True)
    assert not streak.is_too_long("forbidden")
    assert not streak.is_too_long(None)
    assert not any(streak.is_too_long("forbidden") for _ in range(10))
