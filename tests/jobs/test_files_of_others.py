"""Files as `datasets` 5.2, `webdataset` 1.0 and `img2dataset` 1.47 write them, recorded from these.

The programs themselves are too large to be installed for these tests; each function writes what
one of them was seen to write: schemas with their metadata, options of the parquet writer, names,
order and attributes of members, and the files that lie beside the pictures.
"""

import gzip
import io
import json
import tarfile

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fetched_pictures import fetched

from jobs.lists.columns import ListError
from jobs.lists.image_list import open_list

PHOTOS = [b"\xff\xd8\xff\xe0\x00\x10" + bytes([n]) * (n * 90) for n in range(6)]
NOT_FOLLOWED = (
    "missing",
    "this row holds no picture: its bytes are null, and a path is not followed",
)


def read(location, **options):
    with open_list(str(location), **options) as images:
        return images, list(images)


def write_as_datasets(path, pictures):
    """`Dataset.to_parquet` with a column of `Image`, one of `ClassLabel` and one of text."""
    features = {
        "image": {"_type": "Image"},
        "label": {"names": ["a", "b"], "_type": "ClassLabel"},
        "caption": {"dtype": "string", "_type": "Value"},
    }
    schema = pa.schema(
        {
            "image": pa.struct({"bytes": pa.binary(), "path": pa.string()}),
            "label": pa.int64(),
            "caption": pa.string(),
        },
        metadata={"huggingface": json.dumps({"info": {"features": features}})},
    )
    count = len(pictures)
    columns = [pictures, [n % 2 for n in range(count)], [f"caption {n}" for n in range(count)]]
    table = pa.table([pa.array(c, f.type) for c, f in zip(columns, schema, strict=True)], schema)
    with pq.ParquetWriter(
        path,
        schema,
        use_content_defined_chunking={
            "min_chunk_size": 262144,
            "max_chunk_size": 1048576,
            "norm_level": 0,
        },
        write_page_index=True,
        compression={
            **{"image.bytes": "none", "image.path": "none"},
            **{"label": "snappy", "caption": "snappy"},
        },
        use_dictionary=["label", "caption"],
        column_encoding={"image.bytes": "PLAIN", "image.path": "PLAIN"},
    ) as writer:
        writer.write_table(table)


def test_shards_of_a_data_set_that_was_pushed(tmp_path):
    for shard, some in enumerate((PHOTOS[:3], PHOTOS[3:])):
        write_as_datasets(
            tmp_path / f"train-{shard:05d}-of-00002.parquet",
            [{"bytes": photo, "path": f"{n}.jpg"} for n, photo in enumerate(some)],
        )
    images, entries = read(f"{tmp_path}/")
    assert images.column == "image"
    assert images.extra == pa.schema(
        [("label", pa.int64()), ("caption", pa.string()), ("image_path", pa.string())]
    )
    assert entries[4].extra == (1, "caption 1", "1.jpg")
    assert fetched(entries) == PHOTOS


def test_pictures_that_were_given_as_bytes_have_no_paths(tmp_path):
    write_as_datasets(tmp_path / "a.parquet", [{"bytes": p, "path": None} for p in PHOTOS])
    _, entries = read(tmp_path / "a.parquet")
    assert entries[1].extra == (1, "caption 1", None)
    assert fetched(entries) == PHOTOS


def test_a_data_set_of_local_files_is_saved_without_them_and_is_refused(tmp_path):
    paths = [{"bytes": None, "path": f"/photos/{n}.jpg"} for n in range(3)]
    write_as_datasets(tmp_path / "a.parquet", [*paths, None])
    with pytest.raises(ListError, match=r"only their paths: .*embed_table_storage") as refused:
        read(tmp_path / "a.parquet")
    assert "\n" not in str(refused.value)
    # One shard of several may have no picture: its rows say so.
    write_as_datasets(tmp_path / "b.parquet", [{"bytes": PHOTOS[1], "path": "1.jpg"}, None])
    _, entries = read(f"{tmp_path}/")
    assert fetched(entries) == [*[NOT_FOLLOWED] * 4, PHOTOS[1], NOT_FOLLOWED]


def written_by_webdataset(packed):
    """What `ShardWriter` writes: endings in the order of the alphabet, the text before the photo.

    Args:
        packed: whether it was given a name that ends in ``.gz``.
    """
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w|") as archive:
        for number, photo in enumerate(PHOTOS):
            about = json.dumps({"n": number, "of": "caf\u00e9"}).encode()
            for ending, data in (
                *(("cls", b"%d" % (number % 3)), ("input.json", about), ("jpg", photo)),
                *(("npy", b"\x93NUMPY"), ("txt", b"text %d" % number)),
            ):
                info = tarfile.TarInfo(f"train/n01/sample{number:06d}.{ending}")
                info.size, info.mode, info.mtime = len(data), 0o444, 1764412800.25
                info.uname = info.gname = "bigdata"
                archive.addfile(info, io.BytesIO(data))
    return gzip.compress(file.getvalue()) if packed else file.getvalue()


@pytest.mark.parametrize("packed", [False, True])
def test_shards_of_webdataset(tmp_path, packed):
    path = tmp_path / ("shard-000000.tar" + ".gz" * packed)
    path.write_bytes(written_by_webdataset(packed))
    images, entries = read(path)
    assert images.extra.names == ["cls", "input.json", "txt"]
    assert entries[2].image == f"{path}#train/n01/sample000002.jpg"
    assert entries[2].extra == ("2", '{"n": 2, "of": "caf\\u00e9"}', "text 2")
    assert images.left_out == {"not-an-image": 6}
    assert fetched(entries) == PHOTOS


IMG2DATASET = pa.schema(
    [
        *[(name, pa.string()) for name in ("uid", "caption", "url", "key", "status")],
        ("error_message", pa.string()),
        *[(name, pa.int32()) for name in ("width", "height", "original_width", "original_height")],
        *[(name, pa.string()) for name in ("exif", "sha256")],
    ]
)


def rows_of_img2dataset():
    """Two photos, a download that failed and a file that is no photo; in the order of arrival."""
    failed = dict.fromkeys(IMG2DATASET.names)
    fine = {"status": "success", "width": 320, "height": 256, "exif": "{}"}
    several = []
    for number, result in (
        (0, fine),
        (3, fine),
        (1, {"status": "failed_to_download", "error_message": "HTTP Error 404: Not Found"}),
        (2, {"status": "failed_to_resize", "error_message": "Image decoding error"}),
    ):
        where = f"https://example.org/{number}.jpg"
        key = {"uid": f"u{number}", "url": where, "key": f"00000{number}", "caption": "words"}
        several.append(failed | key | result)
    return several


def test_what_img2dataset_downloads_into_parquet(tmp_path):
    rows = [
        row | {"jpg": PHOTOS[1] if row["status"] == "success" else None}
        for row in rows_of_img2dataset()
    ]
    schema = IMG2DATASET.append(pa.field("jpg", pa.binary()))
    pq.write_table(pa.Table.from_pylist(rows, schema), tmp_path / "00000.parquet")
    (tmp_path / "00000_stats.json").write_text('{"count": 4, "successes": 2}')
    images, entries = read(f"{tmp_path}/", keep=["url", "error_message"])
    assert (images.column, images.extra.names) == ("jpg", ["url", "error_message"])
    missing = ("missing", "this row holds no picture")
    assert fetched(entries) == [PHOTOS[1], PHOTOS[1], missing, missing]
    assert entries[2].extra == ("https://example.org/1.jpg", "HTTP Error 404: Not Found")


def test_what_img2dataset_downloads_into_archives(tmp_path):
    rows = rows_of_img2dataset()
    with tarfile.open(tmp_path / "00000.tar", "w") as archive:
        for row in rows[:2]:
            for ending, data in (
                ("jpg", PHOTOS[2]),
                ("json", json.dumps(row, indent=4).encode()),
                ("txt", row["caption"].encode()),
            ):
                info = tarfile.TarInfo(f"{row['key']}.{ending}")
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
    pq.write_table(pa.Table.from_pylist(rows, IMG2DATASET), tmp_path / "00000.parquet")
    (tmp_path / "00000_stats.json").write_text('{"count": 4, "successes": 2}')
    images, entries = read(f"{tmp_path}/")
    assert [entry.image for entry in entries] == [
        f"{tmp_path}/00000.tar#000000.jpg",
        f"{tmp_path}/00000.tar#000003.jpg",
    ]
    assert images.extra.names == ["json", "txt"]
    assert json.loads(entries[1].extra[0])["uid"] == "u3"
    assert fetched(entries) == [PHOTOS[2], PHOTOS[2]]
