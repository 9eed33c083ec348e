import gzip
import hashlib

import pytest

from jobs.manifest import ManifestError, open_list, resolve


def images_of(path, **options):
    with open_list(str(path), **options) as images:
        return list(images)


@pytest.fixture
def write(tmp_path):
    def write(name, content):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


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


def test_a_missing_column_is_named_with_those_that_there_are(write):
    with pytest.raises(ManifestError, match=r"no column 'image': its header has id, url"):
        images_of(write("a.csv", "id,url\n1,a\n"))


def test_a_byte_order_mark_is_not_a_part_of_the_header(write):
    assert images_of(write("a.csv", b"\xef\xbb\xbfimage\na.jpg\n")) == ["a.jpg"]


@pytest.mark.parametrize("name", ["a.txt.gz", "a.csv.gz", "A.CSV.GZ"])
def test_a_gzipped_list_is_read_as_the_plain_one(write, name):
    assert images_of(write(name, gzip.compress(b"image\nb.jpg\n")))[-1] == "b.jpg"


def test_a_cut_gzip_list_is_refused(write):
    packed = gzip.compress(b"image.jpg\n" * 1000)
    with pytest.raises(ManifestError, match="damaged"):
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
        assert list(images) == ["a.jpg"]


def test_relative_images_are_looked_for_next_to_the_list():
    assert resolve("x/a.jpg", "/photos") == "/photos/x/a.jpg"
    assert resolve("x/a.jpg", "s3://b/photos") == "s3://b/photos/x/a.jpg"
    assert resolve("/a.jpg", "/photos") == "/a.jpg"
    assert resolve("s3://b/a.jpg", "/photos") == "s3://b/a.jpg"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.parquet", b"", "expected a name that ends in .txt, .csv"),
        ("a.txt", b"\xff\xfe\x00", "not UTF-8 text"),
        ("a.csv", b'image\n"a\n', "not a CSV file"),
        ("a.csv", b"", "its header has no columns"),
    ],
)
def test_what_is_not_a_list_is_refused_in_one_line(write, name, content, message):
    with pytest.raises(ManifestError, match=message) as caught:
        images_of(write(name, content))
    assert "\n" not in str(caught.value)


def test_a_missing_list_is_refused_in_one_line(tmp_path):
    with pytest.raises(ManifestError, match="there is no list of images at"):
        images_of(tmp_path / "none.txt")
    (tmp_path / "folder.txt").mkdir()
    with pytest.raises(ManifestError, match="cannot be read"):
        images_of(tmp_path / "folder.txt")
