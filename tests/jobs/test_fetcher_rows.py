"""Whatever an S3 server answers, both fetchers make the same row of it.

Each answer is sent byte for byte by a server of the test, and asked for through boto3 and obstore.
"""

import base64
import gzip
import hashlib
import zlib

import pytest
from flaky_s3 import flaky_s3

from jobs.fetching.fetcher import Fetcher
from jobs.storage.errors import ObjectUnavailable, StorageError
from jobs.storage.stores import Stores
from jobs.values.job import RetrySettings

pytestmark = pytest.mark.integration

pytest.importorskip("obstore")

QUICK = RetrySettings(attempts=3, base=0.001)
PHOTO = bytes(range(256)) * 4
MAX_BYTES = 10_000
LENGTH = f"Content-Length: {len(PHOTO)}"
ETAG = f'ETag: "{hashlib.md5(PHOTO).hexdigest()}"'
DATE = "Last-Modified: Wed, 21 Oct 2026 07:28:00 GMT"
CHUNKED = "Transfer-Encoding: chunked"


def answer(status, *headers, body=b""):
    # Announced, so that no client asks again on the connection that ends here.
    return (
        "\r\n".join([f"HTTP/1.1 {status}", "Connection: close", *headers, "", ""]).encode() + body
    )


def photo(*headers, body=PHOTO):
    return answer("200 OK", *headers, body=body)


def error(status, body, *headers):
    return answer(status, f"Content-Length: {len(body)}", *headers, body=body)


def xml(code, message="as told"):
    return f"<Error><Code>{code}</Code><Message>{message}</Message></Error>".encode()


def in_chunks(body, end=b"0\r\n\r\n"):
    return b"%x\r\n%b\r\n" % (len(body), body) + end


def crc32(body):
    return base64.b64encode(zlib.crc32(body).to_bytes(4, "big")).decode()


PACKED = gzip.compress(PHOTO, mtime=0)
# What is answered -> kind of the row ("ok" if there is an image), and a part of its reason.
ANSWERS = {
    "plain": (photo(LENGTH, ETAG, DATE), "ok", ""),
    "chunks": (photo(CHUNKED, ETAG, DATE, body=in_chunks(PHOTO)), "ok", ""),
    "chunks cut": (photo(CHUNKED, ETAG, DATE, body=in_chunks(PHOTO)[:500]), "unreachable", ""),
    "chunks without end": (photo(CHUNKED, ETAG, body=in_chunks(PHOTO, b"")), "unreachable", ""),
    "no length": (photo("Connection: close", ETAG, DATE), "ok", ""),
    "HTTP/1.0": (photo(ETAG, DATE).replace(b"HTTP/1.1", b"HTTP/1.0"), "ok", ""),
    "large": (photo("Content-Length: 99999", ETAG, DATE), "too-large", "99999 bytes; at most"),
    "large chunks": (photo(CHUNKED, ETAG, body=in_chunks(PHOTO * 20)), "too-large", "at most"),
    "shorter than its length": (photo(LENGTH, ETAG, DATE, body=PHOTO[:-9]), "unreachable", ""),
    "length no number": (photo("Content-Length: many", ETAG), "unreachable", "cannot be read"),
    "two lengths": (photo(LENGTH, "Content-Length: 5", ETAG), "unreachable", "Content-Length"),
    "nothing in it": (photo("Content-Length: 0", ETAG, DATE, body=b""), "ok", ""),
    "no etag": (photo(LENGTH, DATE), "ok", ""),
    "weak etag": (photo(LENGTH, 'ETag: W/"abc"', DATE), "ok", ""),
    "bare etag": (photo(LENGTH, "ETag: abc", DATE), "ok", ""),
    "etag not ASCII": (photo(LENGTH, 'ETag: "\u00e9"', DATE), "ok", ""),
    "no date": (photo(LENGTH, ETAG), "ok", ""),
    "date of ISO": (photo(LENGTH, ETAG, "Last-Modified: 2026-10-21T07:28:00Z"), "ok", ""),
    "date no date": (photo(LENGTH, ETAG, "Last-Modified: once"), "unreachable", "cannot be read"),
    "metadata not ASCII": (photo(LENGTH, ETAG, DATE, "x-amz-meta-by: M\u00fcller"), "ok", ""),
    "checksum": (photo(LENGTH, ETAG, DATE, f"x-amz-checksum-crc32: {crc32(PHOTO)}"), "ok", ""),
    "checksum of parts": (
        photo(LENGTH, ETAG, f"x-amz-checksum-crc32: {crc32(b'')}-3"),
        "ok",
        "",
    ),
    "gzip": (
        photo(f"Content-Length: {len(PACKED)}", "Content-Encoding: gzip", ETAG, body=PACKED),
        "ok",
        "",
    ),
    "header folded": (photo(LENGTH, ETAG, DATE, "x-a: b\r\n c"), "ok", ""),
    "no answer": (b"", "unreachable", ""),
    "no HTTP": (b"hello there\r\n\r\n", "unreachable", ""),
    "204": (answer("204 No Content", ETAG), "ok", ""),
    "moved": (error("301 Moved", xml("PermanentRedirect")), "refused", "PermanentRedirect"),
    "304": (answer("304 Not Modified", ETAG), "refused", "304: Not Modified"),
    "400": (error("400 X", b""), "refused", "400: Bad Request"),
    "400 page": (error("400 X", b"<html>\n</html>"), "refused", "400: Bad Request"),
    "401": (error("401 X", b""), "refused", "401: Unauthorized"),
    "403": (error("403 X", b""), "forbidden", "403: Forbidden"),
    "403 page": (error("403 X", b"<html>\n</html>"), "forbidden", "(403: Forbidden)"),
    "403 JSON": (error("403 X", b'{"code": 1}'), "forbidden", "403: Forbidden"),
    "403 chunks": (answer("403 X", CHUNKED, body=in_chunks(xml("No"))), "forbidden", "No: as told"),
    "403 cut": (answer("403 X", "Content-Length: 500", body=xml("No")), "forbidden", "No: as told"),
    "403 packed": (error("403 X", gzip.compress(xml("No"))), "forbidden", "403: Forbidden"),
    "403 escaped": (error("403 X", xml("No", "a &lt;b&gt; &amp; c")), "forbidden", "No: a <b> & c"),
    "403 CDATA": (error("403 X", xml("No", "<![CDATA[a <b>]]>")), "forbidden", "No: a <b>"),
    "403 no message": (error("403 X", xml("No", "")), "forbidden", "(No)"),
    "403 Latin-1": (
        error("403 X", xml("No", "\u00e9").decode().encode("latin-1")),
        "forbidden",
        "",
    ),
    "403 long": (error("403 X", xml("No", "word " * 200)), "forbidden", "No: word word"),
    "archived": (error("403 X", xml("InvalidObjectState")), "archived", "InvalidObjectState"),
    "404": (error("404 X", b""), "missing", "no such object"),
    "404 version": (error("404 X", xml("NoSuchVersion")), "missing", "no such object"),
    "405": (error("405 X", xml("MethodNotAllowed")), "refused", "MethodNotAllowed"),
    "410": (error("410 X", b""), "refused", "410: Gone"),
    "416": (error("416 X", b""), "refused", "416: "),
    "429": (error("429 X", b""), "unreachable", "429: Too Many Requests"),
    "403 page with a title": (
        error("403 X", b"<!DOCTYPE html><html><head><title>No</title></head></html>"),
        "forbidden",
        "S3 denies access (403: Forbidden)",
    ),
    "403 page of XML": (
        error("403 X", b"<html><body><p>No</p></body></html>"),
        "forbidden",
        "S3 denies access (403: Forbidden)",
    ),
    "403 control characters": (
        error("403 X", xml("No", "a\x9b31m b")),
        "forbidden",
        "No: a 31m b",
    ),
    "500 page": (error("500 X", b"<html>\n</html>"), "unreachable", "500: Internal Server Error"),
    "503": (error("503 X", xml("SlowDown")), "unreachable", "SlowDown: as told"),
    "599": (error("599 X", b""), "refused", "599"),
    "slow": (error("400 X", xml("RequestTimeout")), "unreachable", "RequestTimeout"),
    "expired": (error("400 X", xml("ExpiredToken")), "stop", "refuses the credentials"),
    "no bucket": (error("404 X", xml("NoSuchBucket")), "no-bucket", "'bucket' does not exist"),
}


@pytest.fixture(scope="module")
def server():
    with flaky_s3() as running:
        yield running


@pytest.fixture
def settings(server, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", server.endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "any")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "any")


@pytest.fixture
def row(server, settings):
    """What comes of an answer with a fetcher: its kind, and content and ETag, or the reason."""

    def fetch(client, sent):
        server.answers["photo.jpg"] = sent
        fetcher = Fetcher(Stores(retry=QUICK), max_bytes=MAX_BYTES, client=client)
        try:
            fetched = fetcher.fetch("s3://bucket/photo.jpg")
        except ObjectUnavailable as unavailable:
            return unavailable.kind, unavailable.reason
        except StorageError as stop:
            return "stop", str(stop)
        return "ok", fetched.data, fetched.etag

    return fetch


@pytest.mark.parametrize("name", ANSWERS)
def test_both_fetchers_make_the_same_row_of_an_answer(row, name):
    sent, kind, reason = ANSWERS[name]
    by_boto3, by_obstore = row("boto3", sent), row("obstore", sent)
    assert by_boto3 == by_obstore
    assert by_boto3[0] == kind
    if kind != "ok":
        assert reason in by_boto3[1]


CORRUPT = bytes([PHOTO[0] ^ 1]) + PHOTO[1:]


@pytest.mark.parametrize("etag", [ETAG, 'ETag: "0123456789abcdef0123456789abcdef-2"', "x: y"])
def test_a_corrupt_body_is_accepted_by_neither_fetcher(row, etag):
    sent = photo(LENGTH, etag, DATE, f"x-amz-checksum-crc32: {crc32(PHOTO)}", body=CORRUPT)
    for client in ("boto3", "obstore"):
        kind, reason = row(client, sent)
        assert kind == "unreachable"
        assert "did not match calculated checksum" in reason


def test_a_body_that_was_corrupt_once_is_fetched_again(server, settings):
    headers = (LENGTH, ETAG, DATE, f"x-amz-checksum-crc32: {crc32(PHOTO)}")
    server.answers["photo.jpg"] = [photo(*headers, body=CORRUPT), photo(*headers)]
    fetcher = Fetcher(Stores(retry=QUICK), max_bytes=MAX_BYTES, client="obstore")
    server.requests.clear()
    assert fetcher.fetch("s3://bucket/photo.jpg").data == PHOTO
    assert server.requests["photo.jpg"] == 2


def test_objects_whose_etag_is_no_digest_are_soon_asked_of_boto3_alone(
    server, settings, monkeypatch
):
    server.answers.clear()
    server.objects |= {"photo.jpg": PHOTO, "other.jpg": PHOTO}
    monkeypatch.setitem(server.etags, "photo.jpg", "0" * 32)
    monkeypatch.setattr(server, "prompt", True)
    fetcher = Fetcher(Stores(retry=QUICK), max_bytes=MAX_BYTES, client="obstore")

    def requests(key, count):
        server.requests.clear()
        for _ in range(count):
            assert fetcher.fetch(f"s3://bucket/{key}").data == PHOTO
        return server.requests[key]

    assert requests("photo.jpg", 99) == 198
    assert requests("other.jpg", 1) == 1, "one that is verified in between starts the count anew"
    assert requests("photo.jpg", 100) == 200
    assert requests("photo.jpg", 50) == 50
    assert requests("other.jpg", 50) == 50


def test_an_outage_does_not_leave_a_bucket_to_boto3(server, settings):
    server.objects["photo.jpg"] = PHOTO
    server.answers.clear()
    fetcher = Fetcher(
        Stores(retry=QUICK), max_bytes=MAX_BYTES, client="obstore", in_succession=1000
    )
    server.faults["photo.jpg"] = ["reset"] * 450
    for _ in range(150):
        with pytest.raises(ObjectUnavailable):
            fetcher.fetch("s3://bucket/photo.jpg")
    assert not server.faults["photo.jpg"]
    server.agents.clear()
    assert fetcher.fetch("s3://bucket/photo.jpg").data == PHOTO
    assert not any("Boto3" in agent for agent in server.agents)


def test_a_checksum_that_is_itself_wrong_is_noticed_by_boto3_alone(row):
    sent = photo(LENGTH, ETAG, DATE, f"x-amz-checksum-crc32: {crc32(b'other')}")
    kind, reason = row("boto3", sent)
    assert kind == "unreachable"
    assert "did not match calculated checksum" in reason
    assert row("obstore", sent) == ("ok", PHOTO, hashlib.md5(PHOTO).hexdigest())


def test_redirects_to_another_host_are_followed_by_neither_fetcher(row):
    with flaky_s3() as elsewhere:
        elsewhere.objects["photo.jpg"] = PHOTO
        there = elsewhere.endpoint.replace("127.0.0.1", "localhost")
        sent = error("302 Found", b"", f"Location: {there}/bucket/photo.jpg")
        for client in ("boto3", "obstore"):
            assert row(client, sent) == ("refused", "S3 answers 302: Found")
        assert not elsewhere.requests


def test_redirects_to_another_port_of_the_same_host_are_followed_by_obstore(row):
    with flaky_s3() as elsewhere:
        elsewhere.objects["photo.jpg"] = PHOTO
        sent = error("302 Found", b"", f"Location: {elsewhere.endpoint}/bucket/photo.jpg")
        assert row("boto3", sent) == ("refused", "S3 answers 302: Found")
        assert row("obstore", sent)[0] == "ok"


@pytest.mark.parametrize("client", ["boto3", "obstore"])
def test_a_server_behind_a_proxy_is_reached_through_it(server, settings, monkeypatch, client):
    server.objects["photo.jpg"] = PHOTO
    server.answers.clear()
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://s3.example.org")
    monkeypatch.setenv("http_proxy", server.endpoint)
    fetcher = Fetcher(Stores(retry=QUICK), max_bytes=MAX_BYTES, client=client)
    assert fetcher.fetch("s3://bucket/photo.jpg").data == PHOTO
    # Where the proxy is not to be used, nothing answers.
    monkeypatch.setenv("no_proxy", "s3.example.org")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://s3.example.org:9")
    with pytest.raises(ObjectUnavailable):
        Fetcher(Stores(retry=QUICK), max_bytes=MAX_BYTES, client=client).fetch(
            "s3://bucket/photo.jpg"
        )


def test_a_server_without_lengths_is_asked_by_boto3_alone_from_then_on(server, settings):
    server.answers["photo.jpg"] = photo(CHUNKED, ETAG, DATE, body=in_chunks(PHOTO))
    fetcher = Fetcher(Stores(retry=QUICK), max_bytes=MAX_BYTES, client="obstore")
    server.requests.clear()
    for requests in (2, 3):
        assert fetcher.fetch("s3://bucket/photo.jpg").data == PHOTO
        assert server.requests["photo.jpg"] == requests
