import csv
import gzip
import hashlib
import io
import resource
from contextlib import contextmanager

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jobs.lists.columns import ListError
from jobs.lists.image_list import open_list
from jobs.values.chunks import Entry, split
from jobs.values.locations import resolve


def entries_of(path, **options):
    with open_list(str(path), **options) as images:
        return list(images)


def images_of(path, **options):
    return [entry.image for entry in entries_of(path, **options)]


@pytest.fixture
def write(tmp_path):
    def write(name, content):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def zstd(data):
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as packed:
        packed.write(data)
    return sink.getvalue().to_pybytes()


def test_a_text_list_has_one_image_a_line(write):
    path = write("a.txt", "# photos of May\n\ns3://b/with space#1?.jpg\r\n  \n#1.jpg\nlast.jpg")
    assert images_of(path) == ["s3://b/with space#1?.jpg", "#1.jpg", "last.jpg"]


def test_a_csv_list_has_a_column_of_images(write):
    path = write("a.csv", 'id,image\n1,"a, b.jpg"\n\n2,"two\nlines.jpg"\n')
    assert images_of(path) == ["a, b.jpg", "two\nlines.jpg"]


def test_another_column_can_be_named(write):
    assert images_of(write("a.csv", "image,url\nx,s3://b/y\n"), column="url") == ["s3://b/y"]


def test_a_csv_row_without_an_image_keeps_its_place(write):
    assert images_of(write("a.csv", "id,image\n1,a.jpg\n2\n3,\n4,d.jpg\n")) == [
        "a.jpg",
        "",
        "",
        "d.jpg",
    ]


@pytest.mark.parametrize(
    ("header", "column"),
    [
        ("url,image", "image"),
        ("file,path,uri,url,image_url", "image_url"),
        ("key,path", "path"),
        ("file,s3_key", "s3_key"),
        ("id,file", "file"),
    ],
)
def test_without_a_name_the_most_usual_column_is_taken(write, header, column):
    row = ",".join(f"the {name}" for name in header.split(","))
    with open_list(str(write("a.csv", f"{header}\n{row}\n"))) as images:
        assert images.column == column
        assert [entry.image for entry in images] == [f"the {column}"]


def test_a_missing_column_is_named_with_those_that_there_are(write):
    path = write("a.csv", "id,link\n1,a\n")
    with pytest.raises(ListError, match=r"no column of images: it has id, link; .*--column"):
        images_of(path)
    with pytest.raises(ListError, match=r"no column 'url': it has id, link; .*--column"):
        images_of(path, column="url")


def test_other_columns_pass_through_as_the_text_that_they_are(write):
    path = write("a.csv", "id,image,note\n007,a.jpg, as is \n2,b.jpg\n3\n")
    with open_list(str(path)) as images:
        assert images.extra == pa.schema([("id", pa.string()), ("note", pa.string())])
        assert list(images) == [
            Entry("a.jpg", ("007", " as is ")),
            Entry("b.jpg", ("2", None)),
            Entry("", ("3", None)),
        ]


def test_columns_to_keep_can_be_chosen_and_ordered(write):
    path = write("a.csv", "id,image,note,day\n1,a.jpg,n,d\n")
    with open_list(str(path), keep=["day", "id"]) as images:
        assert images.extra.names == ["day", "id"]
        assert list(images) == [Entry("a.jpg", ("d", "1"))]
    assert entries_of(path, keep=[]) == [Entry("a.jpg")]


def test_an_unknown_column_to_keep_is_refused(write):
    with pytest.raises(ListError, match="no column 'user' to keep: it has image, id"):
        entries_of(write("a.csv", "image,id\n"), keep=["user"])


def test_a_column_without_a_name_does_not_pass_through(write):
    with open_list(str(write("a.csv", ",image,\n0,a.jpg,x\n"))) as images:
        assert images.extra.names == []


def test_a_name_of_two_columns_is_refused_unless_neither_is_needed(write):
    path = write("a.csv", "image,id,id,day\na.jpg,1,2,d\n")
    with pytest.raises(ListError, match="more than one column 'id'"):
        entries_of(path)
    assert entries_of(path, keep=["day"]) == [Entry("a.jpg", ("d",))]


def test_tabs_separate_the_cells_of_a_tsv_list(write):
    path = write("a.tsv", 'image\tnote\ns3://b/a.jpg\ta, "b"\n')
    assert entries_of(path) == [Entry("s3://b/a.jpg", ('a, "b"',))]


def test_a_long_cell_is_a_cell(write):
    assert images_of(write("a.csv", f"text,image\n{'x' * 200_000},a.jpg\n")) == ["a.jpg"]


def test_a_line_of_spaces_is_no_row(write):
    assert images_of(write("a.csv", "image\n  \na.jpg\n")) == ["a.jpg"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "title,image\nHello, world,a.jpg\n", "line 2: 3 cells where the header has 2"),
        ("a.tsv", 'image\ttitle\na.jpg\t"open\nb.jpg\tx\nc.jpg\tdone"\n', "line 4: a quoted cell"),
    ],
)
def test_cells_that_ran_together_are_told(write, name, content, message):
    with pytest.raises(ListError, match=message):
        entries_of(write(name, content))


def test_empty_cells_at_the_end_of_a_row_do_no_harm(write):
    assert images_of(write("a.csv", "id,image\n1,a.jpg,,\n")) == ["a.jpg"]


def test_a_text_list_has_no_columns_to_choose(write):
    path = write("a.txt", "a.jpg\n")
    with pytest.raises(ListError, match="no columns: leave out --column"):
        entries_of(path, column="image")
    with pytest.raises(ListError, match="no columns: leave out --keep"):
        entries_of(path, keep=["id"])


cells = st.text(st.characters(codec="utf-8", exclude_characters="\0"))


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    rows=st.lists(st.tuples(st.from_regex(r"[a-z ,\"\n]*[a-z]", fullmatch=True), cells, cells)),
    size=st.integers(1, 9),
    ending=st.sampled_from(["\n", "\r\n"]),
)
def test_every_row_of_a_csv_list_comes_out_once_whatever_its_cells_hold(write, rows, size, ending):
    table = io.StringIO()
    # Where lines end in "\n" the writer would leave a cell with "\r", an end of line too, unquoted.
    quoting = csv.QUOTE_ALL if ending == "\n" else csv.QUOTE_MINIMAL
    writer = csv.writer(table, lineterminator=ending, quoting=quoting)
    writer.writerows([("image", "a", "b"), *rows])
    with open_list(str(write("a.csv", table.getvalue()))) as images:
        chunks = list(split(images, size))
        assert images.rows == len(rows)
    assert [entry for chunk in chunks for entry in chunk.entries] == [
        Entry(image.strip(), (a, b)) for image, a, b in rows
    ]


def test_a_byte_order_mark_is_not_a_part_of_the_header(write):
    assert images_of(write("a.csv", b"\xef\xbb\xbfimage\na.jpg\n")) == ["a.jpg"]


@pytest.mark.parametrize("name", ["a.txt.gz", "a.csv.gz", "A.CSV.GZ"])
def test_a_gzipped_list_is_read_as_the_plain_one(write, name):
    assert images_of(write(name, gzip.compress(b"image\nb.jpg\n")))[-1] == "b.jpg"


@pytest.mark.parametrize("name", ["a.txt.zst", "a.csv.zst", "a.tsv.ZST"])
def test_a_zstd_list_is_read_as_the_plain_one(write, name):
    content = b"image\n" + b"b.jpg\n" * 30_000
    assert images_of(write(name, zstd(content)))[-30_000:] == ["b.jpg"] * 30_000


@pytest.mark.parametrize("pack", [gzip.compress, zstd])
def test_a_list_that_was_packed_in_pieces_is_read_whole(write, pack):
    assert images_of(write("a.txt.gz", pack(b"a\n") + pack(b"b\n"))) == ["a", "b"]


def test_what_pzstd_writes_for_itself_is_passed_over(write):
    own = b"\x50\x2a\x4d\x18" + (4).to_bytes(4, "little") + b"size"
    assert images_of(write("a.txt.zst", own + zstd(b"a\nb\n"))) == ["a", "b"]


@pytest.mark.parametrize("name", ["a.txt", "a.txt.gz", "a.txt.zst"])
def test_the_content_says_how_it_is_packed_whatever_the_name_says(write, name):
    for pack in (bytes, gzip.compress, zstd):
        assert images_of(write(name, pack(b"a.jpg\n"))) == ["a.jpg"]


@pytest.mark.parametrize("pack", [gzip.compress, zstd])
def test_a_cut_packed_list_is_refused(write, pack):
    packed = pack(b"".join(b"image-%d.jpg\n" % i for i in range(1000)))
    with pytest.raises(ListError, match="damaged"):
        images_of(write("a.txt.gz", packed[:-10]))


def test_an_image_listed_twice_stays_twice(write):
    assert images_of(write("a.txt", "a\nb\na\n")) == ["a", "b", "a"]


def test_the_list_can_be_read_again_and_knows_its_length_and_hash(write):
    content = b"a.jpg\n/b.jpg\n"
    with open_list(str(write("a.txt", content))) as images:
        assert list(images) == list(images)
        assert images.rows == 2
        assert images.sha256 == hashlib.sha256(content).hexdigest()
        assert images.has_relative


def test_a_list_of_absolute_images_does_not_depend_on_its_folder(write):
    with open_list(str(write("a.txt", "s3://b/a.jpg\n/a.jpg\n"))) as images:
        assert not images.has_relative


def test_the_list_is_read_as_it_was_when_the_job_began(write):
    path = write("a.txt", "a.jpg\n")
    with open_list(str(path)) as images:
        path.write_text("b.jpg\n")
        assert list(images) == [Entry("a.jpg")]


@pytest.mark.parametrize("pack", [bytes, gzip.compress, zstd])
def test_a_reading_that_was_left_does_not_disturb_the_next(write, pack):
    names = [f"{i:08d}.jpg" for i in range(200_000)]
    with open_list(str(write("a.txt", pack("\n".join(names).encode())))) as images:
        first = iter(images)
        assert next(first).image == names[0]
        assert [entry.image for entry in images] == names
        assert [entry.image for entry in first] == names[1:]


@contextmanager
def files_of_at_most(size):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_list_that_the_temporary_folder_has_no_room_for_is_refused_in_one_line(write):
    path = write("a.txt", b"a.jpg\n" * 1_000_000)
    with (
        files_of_at_most(1_000_000),
        pytest.raises(ListError, match=r"cannot be copied into .*TMPDIR"),
    ):
        entries_of(path)


def test_relative_images_are_looked_for_next_to_the_list():
    assert resolve("x/a.jpg", "/photos") == "/photos/x/a.jpg"
    assert resolve("x/a.jpg", "s3://b/photos") == "s3://b/photos/x/a.jpg"
    assert resolve("/a.jpg", "/photos") == "/a.jpg"
    assert resolve("s3://b/a.jpg", "/photos") == "s3://b/a.jpg"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.xlsx", b"", "expected a name that ends in .txt, .csv"),
        ("a.parquet.gz", b"", "expected a name that ends in .txt, .csv"),
        ("list", b"", "a folder that ends in '/'"),
        ("a.txt", b"\xff\xfe\x00", "not UTF-8 text"),
        ("a.csv", b'image\n1\n"a\n', "damaged in line 3"),
        ("a.csv", b"", "it has no columns"),
        ("a.csv", b"image\ti\xc3\xa9d\n", "it has image i\u00e9d; name one"),
        ("a.csv", b"image,a\x07b\n", "cannot be printed"),
    ],
)
def test_what_is_not_a_list_is_refused_in_one_line(write, name, content, message):
    with pytest.raises(ListError, match=message) as caught:
        images_of(write(name, content))
    assert "\n" not in str(caught.value)


def test_a_missing_list_is_refused_in_one_line(tmp_path):
    with pytest.raises(ListError, match="there is no list of images at"):
        images_of(tmp_path / "none.txt")
    (tmp_path / "folder.txt").mkdir()
    with pytest.raises(ListError, match="cannot be read"):
        images_of(tmp_path / "folder.txt")
