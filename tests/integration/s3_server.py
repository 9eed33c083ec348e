"""One real S3 server for a whole test run: import the fixture where it is needed."""

import pytest

from vea.demo.embedded_s3 import embedded_s3


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory):
    with embedded_s3(tmp_path_factory.mktemp("seaweedfs"), buckets=["photos", "results"]) as server:
        yield server


@pytest.fixture
def s3(s3_server, monkeypatch):
    """A client of the server, with the environment set so that programs find it too."""
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    return s3_server.client()
