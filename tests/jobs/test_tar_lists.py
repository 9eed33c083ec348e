"""Tar archives in place of a list: what is a row, what is a column, what is refused."""

import gzip
import json
import os
import tarfile

import pyarrow as pa
import pytest
from containers import samples, tar_of, zst

from jobs.fetching.fetcher import Fetcher
from jobs.lists.columns import ListError
from jobs.lists.image_list import open_list
from jobs.storage.errors import ObjectUnavailable, StorageError
from jobs.storage.stores import Stores

LIMIT = 20 * 1024 * 1024


@pytest.fixture
def write(tmp_path):
    def write(data, name="photos.tar"):
        (tmp_path / name).write_bytes(data)
        return str(tmp_path / name)

    return write


@pytest.fixture
def fetcher():
    return Fetcher(Stores(), max_bytes=LIMIT)


def read(location, **options):
    with open_list(location, **options) as images:
        return images, list(images)


def names(entries):
    return [entry.image.partition("#")[2] for entry in entries]


def refusal(location, **options):
    with pytest.raises(ListError) as caught:
        read(location, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def fetched(fetcher, entry):
    """The bytes of an entry, or the kind and reason of its failure."""
    try:
        return fetcher.fetch(entry.image, entry.inside).data
    except ObjectUnavailable as refused:
        return refused.kind, refused.reason


@pytest.mark.parametrize(
    ("name", "pack"),
    [
        ("p.tar", bytes),
        ("p.tar.gz", gzip.compress),
        ("p.tgz", gzip.compress),
        ("p.tar.zst", zst),
        ("misnamed.tar", zst),
    ],
)
@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
def test_each_picture_is_a_row_and_the_texts_beside_it_are_columns(
    write, fetcher, name, pack, form
):
    photos = [bytes([n]) * (n * 300) for n in range(1, 6)]
    location = write(pack(tar_of(samples(photos), form=form)), name)
    images, entries = read(location)
    assert [entry.image for entry in entries] == [f"{location}#{n:06d}.jpg" for n in range(5)]
    assert images.extra == pa.schema([("json", pa.string()), ("txt", pa.string())])
    assert json.loads(entries[3].extra[0]) == {"key": "000003", "n": 3}
    assert entries[3].extra[1] == "photo no. 3"
    assert [fetched(fetcher, entry) for entry in entries] == photos
    # In any order: the picture is the same.
    assert [fetched(fetcher, entry) for entry in reversed(entries)] == photos[::-1]
    assert (images.rows, images.left_out, images.has_relative) == (5, {}, False)


def test_texts_may_come_before_their_picture_and_may_be_missing(write):
    location = write(
        tar_of({"a.cls": b"7", "a.jpg": b"a", "b.png": b"b", "c.txt": b"c", "c.jpg": b"c"})
    )
    images, entries = read(location)
    assert images.extra.names == ["cls", "txt"]
    assert [entry.extra for entry in entries] == [("7", None), (None, None), (None, "c")]
    images, entries = read(location, keep=["txt"])
    assert [entry.extra for entry in entries] == [(None,), (None,), ("c",)]
    images, entries = read(location, keep=[])
    assert images.extra.names == []
    assert "no column 'json' to keep" in refusal(location, keep=["json"])


def test_pictures_of_one_sample_are_rows_of_their_own_and_share_its_texts(write):
    location = write(tar_of({"1.left.jpg": b"l", "1.right.jpg": b"r", "1.txt": b"both"}))
    _, entries = read(location)
    assert names(entries) == ["1.left.jpg", "1.right.jpg"]
    assert [entry.extra for entry in entries] == [("both",), ("both",)]
    _, entries = read(location, column="right.jpg")
    assert names(entries) == ["1.right.jpg"]
    assert "no pictures whose names end in .png" in refusal(location, column="png")


def test_several_archives_are_one_list_with_the_columns_of_all(write, tmp_path):
    write(tar_of({"x.jpg": b"x", "x.cls": b"1"}), "b.tar")
    write(gzip.compress(tar_of({"x.jpg": b"y", "x.txt": b"words"})), "a.tar.gz")
    for place in (f"{tmp_path}/*.tar*", f"{tmp_path}/", str(tmp_path)):
        images, entries = read(place)
        assert [e.image for e in entries] == [
            f"{tmp_path}/a.tar.gz#x.jpg",
            f"{tmp_path}/b.tar#x.jpg",
        ]
        assert images.extra.names == ["txt", "cls"]
        assert [entry.extra for entry in entries] == [("words", None), (None, "1")]


def test_what_img2dataset_leaves_is_the_list_of_its_archives(write, tmp_path):
    write(tar_of(samples([b"1", b"2"])), "00000.tar")
    write(b"PAR1 with no pictures", "00000.parquet")
    write(b"{}", "00000_stats.json")
    images, entries = read(str(tmp_path))
    assert len(entries) == 2
    assert images.sample == (f"{tmp_path}/00000.tar",)


def test_a_folder_with_a_photo_in_it_is_no_folder_of_archives(write, tmp_path):
    write(tar_of({"x.jpg": b"x"}), "a.tar")
    write(b"\xff\xd8\xff", "preview.jpg")
    assert "Is a directory" in refusal(str(tmp_path))


def test_archives_and_other_files_are_not_one_list(write, tmp_path):
    write(tar_of({"x.jpg": b"x"}), "list-1.tar")
    write(b"x.jpg\n", "list-2.txt")
    assert "name one kind with a pattern" in refusal(f"{tmp_path}/list-*")


def test_columns_may_be_declared(write):
    location = write(tar_of({"a.jpg": b"a", "a.cls": b"7\n", "a.txt": b"x"}))
    images, entries = read(location, types={"cls": "int64"})
    assert images.extra == pa.schema([("cls", pa.int64())])
    assert entries[0].extra == (7,)
    assert entries[0].inside.size == 1
    assert images.undeclared == ("txt",)


# What is wrong with one member is a row, or is counted.


def link(name, target, kind=tarfile.SYMTYPE):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return name, info


def test_links_and_devices_are_rows_that_say_so(write, fetcher):
    members = [
        ("a.jpg", b"a"),
        link("b.jpg", "a.jpg"),
        link("c.jpg", "/etc/passwd"),
        link("d.jpg", "a.jpg", tarfile.LNKTYPE),
        link("e.jpg", "", tarfile.FIFOTYPE),
        link("folder.jpg", "", tarfile.DIRTYPE),
        ("f.jpg", b"f"),
    ]
    _, entries = read(write(tar_of(members)))
    assert names(entries) == ["a.jpg", "b.jpg", "c.jpg", "d.jpg", "e.jpg", "f.jpg"]
    got = [fetched(fetcher, entry) for entry in entries]
    assert [got[0], got[-1]] == [b"a", b"f"]
    assert {kind for kind, _ in got[1:-1]} == {"bad-location"}
    assert {reason for _, reason in got[1:4]} == {"this member is a link, and holds no picture"}
    assert got[4][1] == "this member is not a regular file"


def test_names_that_lead_out_of_the_archive_are_rows_that_say_so(write, fetcher):
    members = [
        ("../../etc/x.jpg", b"1"),
        ("a/../../x.jpg", b"2"),
        ("./ok.jpg", b"3"),
        ("/b.jpg", b"4"),
    ]
    _, entries = read(write(tar_of(members)))
    assert names(entries) == ["../../etc/x.jpg", "a/../../x.jpg", "ok.jpg", "/b.jpg"]
    got = [fetched(fetcher, entry) for entry in entries]
    assert got[:2] == [("bad-location", "the name of this member leads out of the archive")] * 2
    assert got[2:] == [b"3", b"4"]


def test_a_name_that_is_there_twice_is_a_row_that_says_so(write, fetcher):
    members = [("a.jpg", b"1"), ("b.jpg", b"2"), ("a.jpg", b"3"), ("c.jpg", b"4"), ("c.jpg", b"5")]
    _, entries = read(write(tar_of(members)))
    got = [fetched(fetcher, entry) for entry in entries]
    twice = ("duplicate", "an earlier picture of this archive has the same name")
    assert got == [b"1", b"2", twice, b"4", twice]


def sparse(name, size):
    """A member as old GNU tar wrote sparse files, with a block that continues the header."""
    info = tarfile.TarInfo(name)
    info.size, info.type = size, tarfile.GNUTYPE_SPARSE
    header = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    header[482] = 1
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header) + bytes(512)


def test_sparse_members_are_rows_that_say_so(write, fetcher):
    old = sparse("old.jpg", 512) + b"x" * 512
    new = tarfile.TarInfo("GNUSparseFile.0/new.jpg")
    new.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.name": "new.jpg"}
    _, entries = read(write(old + tar_of([("new", new), ("after.jpg", b"after")])))
    assert names(entries) == ["old.jpg", "new.jpg", "after.jpg"]
    got = [fetched(fetcher, entry) for entry in entries]
    assert got[:2] == [("unreadable", "this member is a sparse file, which is not read")] * 2
    assert got[2] == b"after"


def test_a_member_above_the_limit_of_bytes_is_a_row_and_is_not_read(write):
    _, entries = read(write(zst(tar_of({"big.jpg": bytes(5000), "a.jpg": b"a"})), "p.tar.zst"))
    small = Fetcher(Stores(), max_bytes=4999)
    assert fetched(small, entries[0]) == (
        "too-large",
        "the picture has 5000 bytes; at most 4999 are accepted",
    )
    assert fetched(small, entries[1]) == b"a"


def test_texts_that_cannot_be_read_are_null_and_counted(write):
    members = [
        *(("a.jpg", b"a"), ("a.txt", b"\xff\xfe"), ("a.json", b" " * 2_000_000), ("a.cls", b"1")),
        *(("b.jpg", b"b"), link("b.txt", "/etc/passwd"), ("b.cls", b"2"), ("b.cls", b"3")),
    ]
    images, entries = read(write(tar_of(members)))
    assert images.extra.names == ["cls"]
    assert [entry.extra for entry in entries] == [("1",), ("2",)]
    assert images.unread_texts == 4


def test_what_is_no_picture_or_hidden_is_counted(write):
    members = {
        "a.jpg": b"a",
        "a.npy": b"n",
        "._a.jpg": b"of macOS",
        "__MACOSX/a.jpg": b"x",
        "alone.txt": b"no picture beside it",
        "README": b"r",
    }
    images, entries = read(write(tar_of(members)))
    assert names(entries) == ["a.jpg"]
    assert images.left_out == {"not-an-image": 3, "hidden": 2}
    assert images.extra.names == []


def test_names_that_no_row_could_hold_are_made_printable(write, fetcher):
    raw = tar_of({"a\nb.jpg": b"1", "c\udcff.jpg": b"2"}, form=tarfile.GNU_FORMAT)
    _, entries = read(write(raw))
    assert names(entries) == ["a\ufffdb.jpg", "c\ufffd.jpg"]
    assert [fetched(fetcher, entry) for entry in entries] == [b"1", b"2"]


# What is wrong with an archive is one line, before any work.


@pytest.mark.parametrize("pack", [bytes, gzip.compress, zst])
@pytest.mark.parametrize("cut", [0, 100, 512, 700, 1024, 1536, 3000])
def test_an_archive_that_is_cut_off_is_refused(write, pack, cut):
    whole = tar_of({"a.jpg": b"a" * 600, "b.jpg": b"b" * 600})
    assert "before the mark of its end" in refusal(write(pack(whole[:cut])))


@pytest.mark.parametrize("pack", [gzip.compress, zst])
def test_a_compressed_file_that_is_cut_off_is_refused(write, pack):
    packed = pack(tar_of({"a.jpg": bytes(range(256)) * 40}))
    assert "it is damaged" in refusal(write(packed[: len(packed) // 2]))


def test_a_damaged_header_is_not_taken_for_the_end(write):
    whole = bytearray(tar_of({"a.jpg": b"a", "b.jpg": b"b"}))
    whole[1024 + 5] ^= 1
    assert "at byte 1024: bad checksum" in refusal(write(bytes(whole)))


def test_archives_that_were_joined_are_refused_rather_than_read_by_half(write):
    one = tar_of({"a.jpg": b"a"})
    assert "data follows its end" in refusal(write(one + one))


def test_what_is_no_archive_is_refused(write):
    assert "no tar" in refusal(write(b"x" * 2000))
    assert "there are no pictures in " in refusal(write(tar_of({"a.txt": b"a"})))
    assert "there are no pictures in " in refusal(write(tar_of({})))


def test_what_expands_beyond_all_measure_is_refused(write):
    member = tarfile.TarInfo("bomb.jpg")
    member.size = 300 * 1024 * 1024
    packed = zst(member.tobuf() + bytes(member.size) + bytes(1024))
    assert "expands to more than 200 times its size" in refusal(write(packed))


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME])
def test_a_name_of_gigabytes_is_refused_before_it_is_read(write, kind):
    member = tarfile.TarInfo("name")
    member.size, member.type = 2**31, kind
    assert "have 2147483648 bytes" in refusal(write(member.tobuf(tarfile.GNU_FORMAT)))


@pytest.mark.parametrize(
    "data", [b"8 path=a\n", b"99 path=a\n", b"x path=a\n", b"-1 path=a\n", b"0 path=a\n"]
)
def test_attributes_that_lie_about_their_length_are_refused(write, data):
    member = tarfile.TarInfo("name")
    member.size, member.type = len(data), tarfile.XHDTYPE
    padded = data + bytes(512 - len(data))
    said = refusal(write(member.tobuf() + padded + tar_of({"a.jpg": b"a"})))
    assert "attributes that cannot be read" in said


@pytest.mark.parametrize("size", ["-1", "many"])
def test_attributes_that_lie_about_the_size_are_refused(write, size):
    member = tarfile.TarInfo("a.jpg")
    member.pax_headers = {"size": size}
    assert "it is damaged, or no tar" in refusal(write(tar_of([("a.jpg", member)])))


def test_endings_without_end_are_refused(write):
    members = {f"a.{n}.txt": b"t" for n in range(200)} | {"a.jpg": b"a"}
    assert "more than 100 different endings" in refusal(write(tar_of(members)))
    _, entries = read(write(tar_of(members)), keep=["7.txt"])
    assert entries[0].extra == ("t",)


def test_missing_archives_are_refused(tmp_path):
    assert "there is no such file" in refusal(str(tmp_path / "none.tar"))
    (tmp_path / "folder.tar").mkdir()
    assert refusal(str(tmp_path / "folder.tar"))


def test_an_archive_that_changes_ends_the_job(write, fetcher):
    location = write(tar_of({"a.jpg": b"a", "b.jpg": b"b"}))
    _, entries = read(location)
    assert fetched(fetcher, entries[0]) == b"a"
    write(tar_of({"a.jpg": b"a", "b.jpg": b"other"}))
    os.utime(location, ns=(0, 0))  # the clock of a file system may stand still for milliseconds
    with pytest.raises(StorageError, match="has changed since the list was read"):
        fetched(Fetcher(Stores(), max_bytes=LIMIT), entries[1])
