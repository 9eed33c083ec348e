"""The ledger in a bucket of a real S3 server."""

import io
import uuid

import pandas
import pyarrow as pa
import pytest
from botocore.awsrequest import AWSResponse

from handler.values.emotions import MIKELS
from handler.values.prediction import ModelIdentity
from jobs.output import parquet
from jobs.output.ledger import Ledger, LedgerError
from jobs.storage.folders import ObjectMissing, StoreFolder
from jobs.storage.stores import Stores
from jobs.values.chunks import Chunk, RunIdentity
from jobs.values.layout import part_name

pytest_plugins = ["s3_server"]
pytestmark = pytest.mark.integration

IDENTITY = RunIdentity(
    list_sha256="a",
    list_folder=None,
    column=None,
    keep=(),
    model_digest="d",
    chunk_size=2,
    max_bytes=1,
    max_pixels=1,
    boxes=False,
    hosts=(),
)
COLUMNS = parquet.schema(MIKELS.labels, extra=pa.schema([]), boxes=False)
CHUNKS = [Chunk(index, index * 2, ()) for index in range(3)]
NAMES = [part_name(chunk) for chunk in CHUNKS]


@pytest.fixture
def folder(s3):
    return StoreFolder(f"s3://results/{uuid.uuid4().hex}", Stores())


def write_part(folder, chunk):
    origin = {"model_name": "m", "model_version": "1", "model_digest": "d"}
    origin["run_id"] = IDENTITY.run_id
    rows = [
        {"position": position, "image": f"{position}", "status": "ok", "emotion": "awe", **origin}
        for position in range(chunk.start, chunk.start + 2)
    ]
    folder.write(part_name(chunk), parquet.encode(rows, COLUMNS))


def refusing(operations, status, code):
    """A client whose requests of these kinds the server answers with an error."""
    store = Stores()
    body = f"<Error><Code>{code}</Code><Message>as told</Message></Error>".encode()

    def answer(request, **_):
        return AWSResponse(request.url, status, {}, RawBody(body))

    for operation in operations:
        store.s3.connection().client.meta.events.register(f"before-send.s3.{operation}", answer)
    return store


class RawBody(io.BytesIO):
    def stream(self, *_, **__):
        yield self.read()


def finish(book):
    model = ModelIdentity("m", "1", "d")
    return book.finish(NAMES, model=model, list_location="list", facts={}, rows_per_file=4)


def test_a_run_in_a_bucket_is_claimed_continued_and_finished(folder, s3, tmp_path):
    book = Ledger(folder, IDENTITY)
    assert book.claim().parts == {}
    write_part(folder, CHUNKS[1])
    book.quarantine(CHUNKS[0], [1])

    book = Ledger(folder, IDENTITY)
    standing = book.claim()
    assert list(standing.parts) == [NAMES[1]]
    assert standing.poison == {0: frozenset({1})}
    assert book.load_part_stats([NAMES[1]])[0].rows == 2
    write_part(folder, CHUNKS[0])
    write_part(folder, CHUNKS[2])
    manifest = finish(book)

    assert Ledger(folder, IDENTITY).claim().manifest == manifest
    assert sorted(folder.list()) == [
        "_SUCCESS",
        "_manifest.json",
        "images-00000.parquet",
        "images-00001.parquet",
    ]
    assert list(folder.list("_run/")) == ["_run/identity.json"]
    frames = []
    for file in manifest["files"]:
        (tmp_path / file["name"]).write_bytes(folder.read(file["name"]))
        frames.append(pandas.read_parquet(tmp_path / file["name"]))
    assert pandas.concat(frames)["position"].tolist() == list(range(6))


def test_a_missing_part_is_told_from_other_troubles(folder):
    book = Ledger(folder, IDENTITY)
    book.claim()
    write_part(folder, CHUNKS[0])
    with pytest.raises(ObjectMissing, match="part-00001"):
        book.load_part_stats(NAMES)
    with pytest.raises(LedgerError, match="start again"):
        finish(book)


def test_more_objects_than_one_request_takes_are_deleted(folder):
    names = [f"_run/part-{index:05d}.parquet" for index in range(3)]
    for name in names:
        folder.write(name, b"")
    many = [f"_run/part-{index:05d}.parquet" for index in range(2_500)]
    folder.delete(many)
    assert folder.list("_run/") == {}


@pytest.mark.parametrize(
    ("status", "code"), [(403, "AccessDenied"), (400, "MissingContentMD5"), (501, "NotImplemented")]
)
def test_parts_that_may_not_be_deleted_are_a_warning_after_a_complete_run(folder, s3, status, code):
    store = refusing(["DeleteObjects", "DeleteObject"], status, code)
    warned = []
    for _ in range(2):
        book = Ledger(StoreFolder(folder.location, store), IDENTITY, warn=warned.append)
        if not book.claim().manifest:
            for chunk in CHUNKS:
                write_part(folder, chunk)
            finish(book)
    assert "_SUCCESS" in folder.list()
    assert len(pandas.read_parquet(folder.location)) == 6
    assert len(warned) == 2
    for line in warned:
        assert line.startswith("the run is complete, but the parts in s3://results/")
        assert code in line
        assert "\n" not in line


def test_where_many_objects_cannot_be_deleted_at_once_each_one_is(folder, s3):
    store = refusing(["DeleteObjects"], 400, "MissingContentMD5")
    warned = []
    book = Ledger(StoreFolder(folder.location, store), IDENTITY, warn=warned.append)
    book.claim()
    for chunk in CHUNKS:
        write_part(folder, chunk)
    finish(book)
    assert sorted(folder.list("_run/")) == ["_run/identity.json"]
    assert warned == []
