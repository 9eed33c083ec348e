"""Published files come whole or not at all, over connections that break."""

from __future__ import annotations

import hashlib
import json
import random
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest
from file_server import FileServer, serving

from train.weights import WeightsError
from train.weights.fetching import RECORD, Fetched, discard, fetch
from train.weights.home import find_weights
from train.weights.sources import SOURCES, Published

pytestmark = pytest.mark.integration

CONTENT = random.Random(1).randbytes(3_000_000)
DIGEST = hashlib.sha256(CONTENT).hexdigest()
FILE = "tiny.bin"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    """Serves the published file `tiny`."""
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with serving() as server:
        server.files[f"/models/{FILE}"] = CONTENT
        url = f"{server.url}/models/{FILE}"
        published = Published(FILE, "https://page.example", "", url, DIGEST[:8])
        monkeypatch.setitem(SOURCES, "tiny", published)
        monkeypatch.setitem(SOURCES, "unpinned", Published(FILE, "https://page.example", "", url))
        yield server


def get(home: Path, name: str = "tiny", place: str | None = None) -> Fetched:
    return fetch(name, home=home, place=place, pause=lambda seconds: None)


def test_a_file_comes_whole_and_is_checked(server: FileServer, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    fetched = fetch(
        "tiny", home=tmp_path, on_progress=lambda done, total: told.append((done, total))
    )
    assert fetched.path.read_bytes() == CONTENT
    assert fetched.sha256 == DIGEST
    assert told[-1] == (len(CONTENT), len(CONTENT))
    assert told == sorted(told)
    assert [path.name for path in fetched.path.parent.iterdir()] == [FILE]
    discard(fetched)
    assert not fetched.path.exists()


def test_a_broken_connection_goes_on_where_it_stopped(server: FileServer, tmp_path: Path) -> None:
    server.cuts = [1_200_000, 700_000]
    assert get(tmp_path).path.read_bytes() == CONTENT
    assert [asked for _, asked in server.seen] == ["", "bytes=1200000-", "bytes=1900000-"]


def test_an_interrupted_command_goes_on_where_it_stopped(
    server: FileServer, tmp_path: Path
) -> None:
    class Interrupted(Exception):
        pass

    def interrupt(done: int, total: int) -> None:
        if done >= 1_000_000:
            raise Interrupted

    with pytest.raises(Interrupted):
        fetch("tiny", home=tmp_path, on_progress=interrupt)
    assert get(tmp_path).path.read_bytes() == CONTENT
    (_, first), (_, second) = server.seen
    assert first == ""
    assert int(second.removeprefix("bytes=").removesuffix("-")) >= 1_000_000


def test_a_file_that_changed_meanwhile_is_not_glued(server: FileServer, tmp_path: Path) -> None:
    old = bytes(len(CONTENT))
    server.files[f"/models/{FILE}"], server.tag = old, '"old"'
    server.cuts, server.answers = [1_000_000], []
    with pytest.raises(RuntimeError):
        fetch("tiny", home=tmp_path, pause=_stop, on_progress=_stop_at(1_000_000))
    server.files[f"/models/{FILE}"], server.tag = CONTENT, '"new"'
    assert get(tmp_path).path.read_bytes() == CONTENT


@pytest.mark.parametrize(("tag", "ranges"), [("", True), ('W/"one"', True), ('"one"', False)])
def test_without_proof_that_it_is_the_same_file_it_is_begun_anew(
    tag: str, ranges: bool, server: FileServer, tmp_path: Path
) -> None:
    server.tag, server.ranges, server.cuts = tag, ranges, [1_000_000]
    assert get(tmp_path).path.read_bytes() == CONTENT
    assert len(server.seen) == 2


def test_a_beginning_that_is_longer_than_the_file_is_given_up(
    server: FileServer, tmp_path: Path
) -> None:
    server.cuts = [2_000_000]
    with pytest.raises(RuntimeError):
        fetch("tiny", home=tmp_path, on_progress=_stop_at(2_000_000))
    partial = next(tmp_path.rglob("*.partial"))
    partial.write_bytes(bytes(len(CONTENT) + 5))
    assert get(tmp_path).path.read_bytes() == CONTENT


def test_a_download_that_lacked_only_its_name_is_not_repeated(
    server: FileServer, tmp_path: Path
) -> None:
    server.cuts = [2_000_000]
    with pytest.raises(RuntimeError):
        fetch("tiny", home=tmp_path, on_progress=_stop_at(2_000_000))
    next(tmp_path.rglob("*.partial")).write_bytes(CONTENT)
    assert get(tmp_path).path.read_bytes() == CONTENT
    assert len(server.seen) == 2


def test_a_failed_write_is_no_broken_connection(server: FileServer, tmp_path: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, limits[1]))
    try:
        with pytest.raises(WeightsError, match=r"cannot write to .*: File too large"):
            get(tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_busy_server_is_asked_again(server: FileServer, tmp_path: Path) -> None:
    server.answers = [503, 429]
    assert get(tmp_path).path.read_bytes() == CONTENT
    assert len(server.seen) == 3


@pytest.mark.parametrize("bytes_a_time", [0, 1000])
def test_a_connection_that_never_holds_is_given_up_with_what_to_do(
    bytes_a_time: int, server: FileServer, tmp_path: Path
) -> None:
    server.ranges, server.cuts = False, [bytes_a_time] * 50
    with pytest.raises(WeightsError, match=r"broke .*run the command again.* or download") as one:
        get(tmp_path)
    assert "\n" not in str(one.value)
    assert len(server.seen) < 6


def test_other_bytes_than_published_are_refused_and_not_kept(
    server: FileServer, tmp_path: Path
) -> None:
    server.files[f"/models/{FILE}"] = b"<html>sign in</html>"
    with pytest.raises(WeightsError, match=f"is not {FILE}: .* expected {DIGEST[:8]}"):
        get(tmp_path)
    assert not list(tmp_path.rglob(f"{FILE}*"))
    assert not (tmp_path / RECORD).exists()
    server.files[f"/models/{FILE}"] = CONTENT
    assert get(tmp_path).sha256 == DIGEST


def test_the_first_fetch_is_recorded_and_another_file_refused_from_then_on(
    server: FileServer, tmp_path: Path
) -> None:
    first = get(tmp_path, "unpinned")
    assert "recorded" in first.checked
    discard(first)
    assert json.loads((tmp_path / RECORD).read_text())["unpinned"]["sha256"] == DIGEST
    again = get(tmp_path, "unpinned")
    assert again.checked == "as recorded"
    discard(again)
    server.files[f"/models/{FILE}"] = CONTENT[::-1]
    with pytest.raises(WeightsError, match=r"not the tiny.bin fetched before.*delete 'unpinned'"):
        get(tmp_path, "unpinned")


@pytest.mark.parametrize("status", [403, 404, 410])
def test_an_absent_file_is_one_line_with_what_to_do(
    status: int, server: FileServer, tmp_path: Path
) -> None:
    server.answers = [status] * 9
    expected = f"answers {status} .*: give another place with --from, or download tiny.bin by hand"
    with pytest.raises(WeightsError, match=f"{expected} from https://page.example") as one:
        get(tmp_path)
    assert "\n" not in str(one.value)
    assert len(server.seen) == 1, "what is not there now is not asked for again"


def test_an_unreachable_server_is_one_line_with_what_to_do(
    server: FileServer, tmp_path: Path
) -> None:
    with pytest.raises(WeightsError, match=r"broke .*refused.*download tiny.bin by hand") as one:
        get(tmp_path, place="http://127.0.0.1:1/models")
    assert "\n" not in str(one.value)


def test_redirects_are_followed_to_http_only(server: FileServer, tmp_path: Path) -> None:
    server.redirects["/moved"] = f"{server.url}/models/{FILE}"
    server.redirects[f"/here/{FILE}"] = "/moved"
    assert get(tmp_path / "a", place=f"{server.url}/here").sha256 == DIGEST
    for place in ("ftp://127.0.0.1/tiny.bin", "file:///etc/passwd", "data:,x"):
        server.redirects[f"/models/{FILE}"] = place
        with pytest.raises(WeightsError, match=r"redirects to|answers 302"):
            get(tmp_path / "b")
    assert not list((tmp_path / "b").rglob(FILE))


def test_a_redirect_goes_on_where_it_stopped_too(server: FileServer, tmp_path: Path) -> None:
    server.redirects[f"/here/{FILE}"] = f"/models/{FILE}"
    server.cuts = [1_000_000]
    assert get(tmp_path, place=f"{server.url}/here/").path.read_bytes() == CONTENT
    assert server.seen[-1] == (f"/models/{FILE}", "bytes=1000000-")


def test_a_mirror_may_be_the_file_itself_or_a_folder(server: FileServer, tmp_path: Path) -> None:
    for place in (f"{server.url}/models", f"{server.url}/models/", f"{server.url}/models/{FILE}"):
        fetched = get(tmp_path, place=place)
        assert fetched.path.read_bytes() == CONTENT
        discard(fetched)
    mirror = tmp_path / "mirror"
    mirror.mkdir()
    (mirror / FILE).write_bytes(CONTENT)
    for local in (mirror, mirror / FILE):
        fetched = get(tmp_path, place=str(local))
        discard(fetched)
        assert (mirror / FILE).exists(), "a mirror's files are not ours to delete"
    with pytest.raises(WeightsError, match=r"there is no .*a folder that holds tiny.bin"):
        get(tmp_path, place=str(tmp_path / "nowhere"))


@pytest.mark.parametrize("place", ["ftp://x.example/y", "file:///tmp", "gopher://x"])
def test_other_schemes_are_refused(place: str, server: FileServer, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"not an http\(s\) address"):
        get(tmp_path, place=place)


def test_what_has_no_address_says_how_to_get_it_by_hand(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"PrivateTest_model_resnet18.t7 by hand from https"):
        fetch("fer2013-resnet18", home=tmp_path)
    with pytest.raises(WeightsError, match=r"unknown weights 'resnet': expected one of imagenet"):
        fetch("resnet", home=tmp_path)


def test_torchvision_files_are_checked_by_the_digits_in_their_names() -> None:
    for published in SOURCES.values():
        if "download.pytorch.org" in published.url:
            assert published.file.endswith(f"-{published.sha256}.pth")
            assert len(published.sha256) == 8


def test_absent_weights_are_named_with_the_command_that_gets_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VEA_WEIGHTS", str(tmp_path))
    with pytest.raises(WeightsError, match="vea fetch-weights imagenet-resnet50"):
        find_weights("imagenet-resnet50")
    with pytest.raises(WeightsError, match=r"no weights 'mine' in .*vea import-weights FILE"):
        find_weights("mine")


def _stop(seconds: float) -> None:
    raise RuntimeError


def _stop_at(size: int):  # type: ignore[no-untyped-def]
    def stop(done: int, total: int) -> None:
        if done >= size:
            raise RuntimeError

    return stop
