"""Parquet files that hold the pictures themselves: which column, which others, what is refused."""

import pyarrow as pa
import pyarrow.parquet
import pytest
from containers import hugging_face_table, parquet_of, plain_table
from fetched_pictures import fetched

from jobs.lists.columns import ListError
from jobs.lists.image_list import open_list

PHOTOS = [b"\xff\xd8\xff" + bytes([n]) * (n * 100) for n in range(20)]
IDS = list(range(20))


@pytest.fixture
def write(tmp_path):
    def write(table, name="photos.parquet", rows=7):
        data = table if isinstance(table, bytes) else parquet_of(table, rows)
        (tmp_path / name).write_bytes(data)
        return str(tmp_path / name)

    return write


def read(location, **options):
    with open_list(location, **options) as images:
        return images, list(images)


def refusal(location, **options):
    with pytest.raises(ListError) as caught:
        read(location, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary(), pa.binary_view()])
def test_each_row_of_a_binary_column_is_a_picture(write, kind):
    table = pa.table({"image": pa.array(PHOTOS, pa.binary()).cast(kind), "id": IDS})
    location = write(table)
    images, entries = read(location)
    assert (images.column, images.rows) == ("image", 20)
    assert images.extra == pa.schema([("id", pa.int64())])
    assert [entry.image for entry in entries] == [f"{location}#row={n}" for n in IDS]
    assert [entry.extra for entry in entries] == [(n,) for n in IDS]
    assert fetched(entries) == PHOTOS
    assert fetched(reversed(entries)) == PHOTOS[::-1]
    assert fetched([entries[n] for n in (3, 12, 4, 19, 0)]) == [
        PHOTOS[n] for n in (3, 12, 4, 19, 0)
    ]


def test_a_data_set_of_hugging_face_gives_its_paths_too(write):
    images, entries = read(write(hugging_face_table(PHOTOS, label=IDS)))
    assert images.column == "image"
    assert images.extra == pa.schema([("label", pa.int64()), ("image_path", pa.string())])
    assert entries[4].extra == (4, "4.jpg")
    assert fetched(entries) == PHOTOS
    _, entries = read(write(hugging_face_table(PHOTOS, label=IDS)), keep=["image_path"])
    assert entries[4].extra == ("4.jpg",)
    images, _ = read(write(hugging_face_table(PHOTOS, image_path=IDS)))
    assert images.extra == pa.schema([("image_path", pa.int64())])


def test_what_img2dataset_writes_has_its_pictures_in_a_column_of_their_format(write):
    table = pa.table(
        {
            "url": ["https://example.org/1.jpg"] * 20,
            "caption": ["words"] * 20,
            "jpg": pa.array([None, *PHOTOS[1:]], pa.binary()),
        }
    )
    images, entries = read(write(table))
    assert (images.column, images.extra.names) == ("jpg", ["url", "caption"])
    assert fetched(entries)[:2] == [("missing", "this row holds no picture"), PHOTOS[1]]
    images, entries = read(write(table), column="url")
    assert (images.column, images.extra.names) == ("url", ["caption"])
    assert entries[0].inside is None


@pytest.mark.parametrize("kept", [None, ["id"], ["id", "content"]])
def test_pictures_pass_through_only_if_they_are_asked_for(write, kept):
    table = pa.table({"path": ["a.jpg"], "content": pa.array([PHOTOS[1]]), "id": [1]})
    images, _ = read(write(table), keep=kept)
    assert images.column == "path"
    assert images.extra.names == (kept or ["id"])
    images, _ = read(write(table), column="content", keep=kept)
    assert images.column == "content"
    assert images.extra.names == (kept or ["path", "id"])


def test_a_text_column_named_image_stays_a_list_of_names(write):
    table = pa.table(
        {"image": ["a.jpg"], "thumbnail": pa.array([PHOTOS[1]]), "hash": [b"\x00\xff"]}
    )
    images, entries = read(write(table))
    assert images.column == "image"
    # Bytes that are no picture pass through as before.
    assert images.extra.names == ["hash"]
    assert entries[0].inside is None


def test_the_only_column_of_pictures_needs_no_known_name(write):
    images, entries = read(write(pa.table({"id": IDS, "photo": pa.array(PHOTOS)})))
    assert images.column == "photo"
    assert fetched(entries) == PHOTOS
    two = pa.table({"left": pa.array(PHOTOS), "right": pa.array(PHOTOS)})
    assert "more than one column of pictures: left, right; name one" in refusal(write(two))
    images, _ = read(write(two), column="right")
    assert (images.column, images.extra.names) == ("right", [])


def test_several_files_are_one_list(write, tmp_path):
    write(hugging_face_table(PHOTOS[:10]), "train-00000-of-00002.parquet")
    write(hugging_face_table(PHOTOS[10:]), "train-00001-of-00002.parquet")
    for place in (f"{tmp_path}/", f"{tmp_path}/train-*.parquet"):
        images, entries = read(place)
        assert images.rows == 20
        assert fetched(entries) == PHOTOS
        assert entries[12].image == f"{tmp_path}/train-00001-of-00002.parquet#row=2"
    write(pa.table({"image": ["a.jpg"]}), "train-00002-of-00002.parquet")
    assert "has no pictures in the column 'image', as the files" in refusal(f"{tmp_path}/")


def test_a_row_without_a_picture_or_with_too_large_a_one_says_so(write):
    _, entries = read(write(hugging_face_table([None, b"", b"x" * 50, b"y"])))
    got = fetched(entries, max_bytes=49)
    assert got[0] == (
        "missing",
        "this row holds no picture: its bytes are null, and a path is not followed",
    )
    assert got[1:] == [
        b"",
        ("too-large", "the picture has 50 bytes; at most 49 are accepted"),
        b"y",
    ]


def test_a_damaged_page_costs_its_rows_whatever_is_asked_first(write):
    table = plain_table([bytes([n]) * 3000 for n in range(40)])
    location = write(table, rows=20)
    with pyarrow.parquet.ParquetFile(location) as file:
        place = file.metadata.row_group(1).column(0).data_page_offset
    with open(location, "r+b") as file:
        file.seek(place)
        file.write(b"\xff" * 16)
    _, entries = read(location)
    got = fetched(entries)
    assert got[:20] == [bytes([n]) * 3000 for n in range(20)]
    assert {kind for kind, _ in got[20:]} == {"unreadable"}
    assert fetched(reversed(entries)) == got[::-1]


def test_lists_of_pictures_in_a_row_are_refused(write):
    table = pa.table({"image": pa.array([[PHOTOS[1], PHOTOS[2]]])})
    assert "one picture in each row" in refusal(write(table))
    table = pa.table({"image": [7]})
    assert "holds int64: expected names of images as text, or one picture" in refusal(write(table))


def test_a_column_that_is_asked_for_and_is_not_there_is_refused(write):
    assert "no column 'photo'" in refusal(write(plain_table(PHOTOS)), column="photo")
    assert "no column 'x' to keep" in refusal(write(plain_table(PHOTOS)), keep=["x"])


def test_the_digest_is_that_of_the_version(write):
    location = write(plain_table(PHOTOS))
    first, _ = read(location)
    again, _ = read(location)
    assert first.sha256 == again.sha256
    write(plain_table(PHOTOS[::-1], id=IDS))
    changed, _ = read(location)
    assert changed.sha256 != first.sha256
