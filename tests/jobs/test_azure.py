"""Images in Azure Blob Storage: settings, reasons, and Content-MD5. Writes need an emulator."""

import base64
import hashlib

import pytest
from flaky_s3 import flaky_s3

from jobs.fetching.fetcher import Fetcher
from jobs.storage.errors import ObjectUnavailable, StorageError
from jobs.storage.obstore_connection import connect, parse_connection_string
from jobs.storage.stores import Stores
from jobs.values.job import RetrySettings

pytestmark = pytest.mark.integration

QUICK = RetrySettings(attempts=4, base=0.01, cap=0.05)
PHOTO = bytes(range(256)) * 40
MD5 = base64.b64encode(hashlib.md5(PHOTO).digest()).decode()
KEY = base64.b64encode(b"a key of the account").decode()
LOCATION = "az://photos/photo.jpg"


@pytest.fixture
def server(monkeypatch):
    for name in (
        "AZURE_STORAGE_ACCOUNT",
        "AZURE_STORAGE_ACCESS_KEY",
        "AZURE_STORAGE_CONNECTION_STRING",
        "AZURE_STORAGE_KEY",
        "AZURE_STORAGE_SAS_TOKEN",
        "AZURE_STORAGE_USE_EMULATOR",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "account")
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", KEY)
    with flaky_s3() as running:
        running.prompt = True
        monkeypatch.setenv("AZURE_STORAGE_ENDPOINT", running.endpoint)
        yield running


@pytest.fixture
def fetcher(server):
    return Fetcher(Stores(retry=QUICK), max_bytes=10**6)


def answer(status, *headers, body=b""):
    # The end of the connection is announced, so that no client asks again on it.
    lines = [f"HTTP/1.1 {status} X", f"Content-Length: {len(body)}", "Connection: close"]
    lines += [*headers, "", ""]
    return "\r\n".join(lines).encode() + body


def blob(*headers, body=PHOTO):
    return answer(200, 'ETag: "0x8DCAFE"', *headers, body=body)


@pytest.mark.parametrize("headers", [(), (f"Content-MD5: {MD5}",)])
def test_an_image_has_its_bytes_and_its_etag(server, fetcher, headers):
    server.answers["photo.jpg"] = blob(*headers)
    fetched = fetcher.fetch(LOCATION)
    assert (fetched.data, fetched.etag) == (PHOTO, "0x8DCAFE")


def test_a_body_that_was_corrupt_once_is_fetched_again(server, fetcher):
    good, bad = blob(f"Content-MD5: {MD5}"), blob(f"Content-MD5: {MD5}", body=PHOTO[::-1])
    server.answers["photo.jpg"] = [bad, good]
    assert fetcher.fetch(LOCATION).data == PHOTO
    server.answers["photo.jpg"] = bad
    with pytest.raises(ObjectUnavailable, match="does not match the MD5") as caught:
        fetcher.fetch(LOCATION)
    assert caught.value.kind == "unreachable"


@pytest.mark.parametrize("fault", ["503", "500", "reset", "cut"])
def test_what_fails_once_is_fetched_again(server, fetcher, fault):
    server.objects["photo.jpg"] = PHOTO
    server.faults["photo.jpg"] = [fault]
    assert fetcher.fetch(LOCATION).data == PHOTO
    assert server.requests["photo.jpg"] == 2


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (404, "BlobNotFound", "missing"),
        (404, "ContainerNotFound", "no-bucket"),
        (403, "AuthorizationPermissionMismatch", "forbidden"),
        (409, "PublicAccessNotPermitted", "forbidden"),
        (409, "BlobArchived", "archived"),
        (400, "InvalidUri", "refused"),
        (503, "ServerBusy", "unreachable"),
        (409, "OperationTimedOut", "unreachable"),
    ],
)
@pytest.mark.parametrize("place", ["header", "body"])
def test_failures_have_the_same_kinds_as_on_s3(server, fetcher, status, code, kind, place):
    body = f"<?xml?><Error><Code>{code}</Code><Message>as told\nby it</Message></Error>".encode()
    headers = [f"x-ms-error-code: {code}"] if place == "header" else []
    server.answers["photo.jpg"] = answer(status, *headers, body=b"" if headers else body)
    with pytest.raises(ObjectUnavailable) as caught:
        fetcher.fetch(LOCATION)
    assert caught.value.kind == kind
    assert "\n" not in caught.value.reason
    attempts = QUICK.attempts if kind == "unreachable" else 1
    assert server.requests["photo.jpg"] == attempts


@pytest.mark.parametrize(
    ("status", "code"), [(403, "AuthenticationFailed"), (401, "InvalidAuthenticationInfo")]
)
def test_refused_credentials_stop_the_job(server, fetcher, status, code):
    server.answers["photo.jpg"] = answer(status, f"x-ms-error-code: {code}")
    with pytest.raises(StorageError, match="Azure Blob Storage refuses the credentials"):
        fetcher.fetch(LOCATION)


def test_a_large_image_is_refused_by_its_length(server):
    server.objects["photo.jpg"] = PHOTO
    with pytest.raises(ObjectUnavailable, match=f"{len(PHOTO)} bytes; at most 10") as caught:
        Fetcher(Stores(), max_bytes=10).fetch(LOCATION)
    assert caught.value.kind == "too-large"


def test_without_an_account_the_error_says_what_to_set(server, monkeypatch):
    monkeypatch.delenv("AZURE_STORAGE_ACCOUNT_NAME")
    with pytest.raises(StorageError, match="set AZURE_STORAGE_ACCOUNT_NAME") as caught:
        Fetcher(Stores(), max_bytes=10).fetch(LOCATION)
    assert "\n" not in str(caught.value)


def test_a_token_that_cannot_be_had_is_the_end_of_the_job(server, monkeypatch):
    # A managed identity is asked of this address; the server there knows nothing of tokens.
    monkeypatch.delenv("AZURE_STORAGE_ACCOUNT_KEY")
    monkeypatch.setenv("AZURE_CREDENTIAL_TYPE", "managed_identity")
    monkeypatch.setenv("AZURE_MSI_ENDPOINT", f"{server.endpoint}/identity/token")
    fetcher = Fetcher(Stores(retry=QUICK), max_bytes=10)
    with pytest.raises(StorageError, match="no usable credentials for Azure Blob Storage") as error:
        fetcher.fetch(LOCATION)
    assert "\n" not in str(error.value)

    # One that is busy is asked again.
    server.answers["token"] = answer(503)
    server.requests.clear()
    with pytest.raises(ObjectUnavailable) as caught:
        fetcher.fetch(LOCATION)
    assert caught.value.kind == "unreachable"
    assert server.requests["token"] == QUICK.attempts


def test_blobs_of_a_public_container_need_no_key(server, fetcher, monkeypatch):
    monkeypatch.delenv("AZURE_STORAGE_ACCOUNT_KEY")
    monkeypatch.setenv("AZURE_SKIP_SIGNATURE", "true")
    server.answers["photo.jpg"] = blob(f"Content-MD5: {MD5}")
    assert Fetcher(Stores(), max_bytes=10**6).fetch(LOCATION).data == PHOTO


@pytest.mark.parametrize(
    ("text", "settings"),
    [
        (
            "DefaultEndpointsProtocol=https;AccountName=me;AccountKey=a==;"
            "EndpointSuffix=core.windows.net",
            {
                "account_name": "me",
                "account_key": "a==",
                "endpoint": "https://me.blob.core.windows.net",
            },
        ),
        (
            "BlobEndpoint=https://me.blob.core.windows.net/;SharedAccessSignature=sv=1&sig=x%3D",
            {
                "account_name": "me",
                "sas_key": "sv=1&sig=x%3D",
                "endpoint": "https://me.blob.core.windows.net",
            },
        ),
        ("AccountName=me;AccountKey=a==", {"account_name": "me", "account_key": "a=="}),
    ],
)
def test_connection_strings_are_read(text, settings):
    assert parse_connection_string(text) == settings


def test_a_connection_string_without_account_is_refused(monkeypatch):
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", "AccountKey=a==")
    with pytest.raises(StorageError, match="neither AccountName nor BlobEndpoint"):
        connect("az", "photos", QUICK)


def test_settings_of_the_command_line_of_azure_and_of_the_emulator(server, monkeypatch):
    for name in ("AZURE_STORAGE_ACCOUNT_NAME", "AZURE_STORAGE_ENDPOINT"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT", "mine")
    assert connect("az", "photos", QUICK).endpoint == "https://mine.blob.core.windows.net"
    monkeypatch.setenv("AZURE_STORAGE_USE_EMULATOR", "true")
    assert connect("az", "photos", QUICK).endpoint == "http://127.0.0.1:10000/devstoreaccount1"
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", "UseDevelopmentStorage=true")
    monkeypatch.delenv("AZURE_STORAGE_USE_EMULATOR")
    assert connect("az", "photos", QUICK).endpoint == "http://127.0.0.1:10000/devstoreaccount1"
