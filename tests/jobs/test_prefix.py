import gzip
import os

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jobs.lists.columns import ListError
from jobs.lists.image_list import open_list
from jobs.lists.prefix import snapshot_prefix
from jobs.storage.folders import LocalFolder
from jobs.storage.stores import Stores
from jobs.values.chunks import Entry
from jobs.values.locations import ObjectLocation, is_prefix

S3_FOLDER = "s3://photos/may/"


class Bucket:
    """Stands in for S3: names below prefixes, in the order of their bytes."""

    def __init__(self, *keys):
        self.keys = set(keys)
        self.walks = 0

    def walk(self, location):
        assert isinstance(location, ObjectLocation)
        self.walks += 1
        for key in sorted(self.keys, key=str.encode):
            if key.startswith(location.key):
                yield key


@pytest.fixture
def out(tmp_path):
    return LocalFolder(str(tmp_path / "out"))


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"

    def make(*names):
        for name in names:
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        return folder

    return make


def listed(location, out, s3=None):
    with open_list(snapshot_prefix(str(location), out, s3 or Stores()).location) as images:
        assert not images.has_relative
        return [entry.image for entry in images]


def test_a_folder_is_told_from_a_list(tmp_path):
    assert is_prefix("s3://photos/may/")
    assert is_prefix("s3://photos/")
    assert is_prefix("s3://photos")
    assert not is_prefix("s3://photos/may.csv")
    assert is_prefix("photos/")
    assert is_prefix(str(tmp_path))
    (tmp_path / "may.txt").touch()
    assert not is_prefix(str(tmp_path / "may.txt"))
    assert not is_prefix("absent.txt")


def test_images_below_a_prefix_are_listed_with_their_whole_location(out):
    bucket = Bucket(
        "may/b.jpg", "may/1/a.PNG", "may/notes.txt", "may/", "june/c.jpg", "may/x/a.jpg"
    )
    assert listed(S3_FOLDER, out, bucket) == [
        "s3://photos/may/1/a.PNG",
        "s3://photos/may/b.jpg",
        "s3://photos/may/x/a.jpg",
    ]
    assert len(listed("s3://photos/", LocalFolder(f"{out.location}-2"), bucket)) == 4
    assert len(listed("s3://photos", LocalFolder(f"{out.location}-3"), bucket)) == 4


def test_images_below_a_local_folder_are_listed_in_the_order_of_their_keys(photos, out):
    names = ["a/1.jpg", "a-b.webp", "a.jpg", "a0/x.tiff", "b/c/d.JPEG", "\u00e9.jpg", "z.gif"]
    folder = photos(*names, "readme.md", "b/c/model.mar")
    expected = sorted((f"{folder}/{name}" for name in names), key=os.fsencode)
    assert listed(folder, out) == expected
    assert expected != [str(path) for path in sorted(folder.rglob("*.*")) if path in expected]


def test_a_local_folder_may_be_given_relative_to_the_working_folder(photos, out, monkeypatch):
    folder = photos("a.jpg")
    monkeypatch.chdir(folder.parent)
    assert listed("photos/", out) == [f"{folder}/a.jpg"]


def test_what_is_left_out_is_counted_for_the_first_attempt_and_for_later_ones(photos, out):
    folder = photos("a.JFIF", "b.heic", "c", "notes.txt", ".d.jpg", ".thumbs/e.jpg", ".thumbs/f")
    (folder / "c").write_bytes(b"\xff\xd8\xff\xe0 and so on")
    (folder / "loop").symlink_to(folder)
    (folder / "broken.jpg").symlink_to(folder / "absent.jpg")
    counts = {"hidden": 3, "not-an-image": 1, "link-to-folder": 1, "not-a-file": 1}
    assert snapshot_prefix(str(folder), out, Stores()).left_out == counts
    assert listed(folder, out) == [f"{folder}/{name}" for name in ("a.JFIF", "b.heic", "c")]
    photos("late.txt")
    assert snapshot_prefix(str(folder), out, Stores()).left_out == counts


def test_what_is_left_out_of_a_prefix_is_counted_by_names(out):
    keys = ("a.jpg", "b.PJPEG", "c", "d.txt", ".e.jpg", ".f/g.jpg", "@eaDir/h.jpg", "sub/")
    snapshot = snapshot_prefix(S3_FOLDER, out, Bucket(*(f"may/{key}" for key in keys)))
    assert snapshot.left_out == {"hidden": 3, "not-an-image": 2}
    # A hidden folder that the user names is not hidden.
    again = LocalFolder(f"{out.location}-2")
    assert snapshot_prefix("s3://photos/may/.f/", again, Bucket("may/.f/g.jpg")).left_out == {}


def test_a_listing_of_an_earlier_version_is_gone_on_with(out):
    out.create(
        "_run/list.txt.gz", gzip.compress(b"# images under s3://photos/may/\ns3://a/b.jpg\n")
    )
    assert snapshot_prefix(S3_FOLDER, out, Bucket()).left_out == {}
    assert listed(S3_FOLDER, out, Bucket()) == ["s3://a/b.jpg"]


def test_links_to_folders_are_not_followed_but_links_to_images_are(photos, out):
    folder = photos("a/1.jpg")
    (folder / "a" / "loop").symlink_to(folder)
    (folder / "b.jpg").symlink_to(folder / "a" / "1.jpg")
    assert listed(folder, out) == [f"{folder}/a/1.jpg", f"{folder}/b.jpg"]


def test_a_later_start_sees_the_images_of_the_first(out):
    bucket = Bucket("may/a.jpg", "may/b.jpg")
    before = listed(S3_FOLDER, out, bucket)
    bucket.keys = {"may/a0.jpg", "may/b.jpg"}
    assert listed(S3_FOLDER, out, bucket) == before
    assert bucket.walks == 1


def test_of_two_starts_at_once_both_go_by_the_same_listing(out):
    class Rival(Bucket):
        def walk(self, location):
            snapshot_prefix(S3_FOLDER, out, Bucket("may/early.jpg"))
            yield from super().walk(location)

    assert listed(S3_FOLDER, out, Rival("may/late.jpg")) == ["s3://photos/may/early.jpg"]


def test_the_same_images_give_the_same_listing_on_every_day(out, monkeypatch):
    bucket = Bucket("may/a.jpg", "may/b.jpg")
    snapshot_prefix(S3_FOLDER, out, bucket)
    first = out.read("_run/list.txt.gz")
    monkeypatch.setattr("time.time", lambda: 2_000_000_000.0)
    again = LocalFolder(f"{out.location}-2")
    snapshot_prefix(S3_FOLDER, again, bucket)
    assert again.read("_run/list.txt.gz") == first


def test_the_output_of_other_images_is_refused(out):
    listed(S3_FOLDER, out, Bucket("may/a.jpg"))
    with pytest.raises(ListError, match="images under s3://photos/june/, but another one"):
        listed("s3://photos/june/", out, Bucket("june/a.jpg"))


def test_the_output_of_a_list_is_refused(out):
    out.create("_run/identity.json", b"{}")
    with pytest.raises(ListError, match="but another one: choose another --out"):
        listed(S3_FOLDER, out, Bucket("may/a.jpg"))
    assert set(out.list("_run/")) == {"_run/identity.json"}


def test_a_damaged_listing_is_not_taken_for_an_empty_one(out):
    out.create("_run/list.txt.gz", gzip.compress(b"# images under s3://photos/may/\n")[:-9])
    with pytest.raises(ListError):
        listed(S3_FOLDER, out, Bucket("may/a.jpg"))


def test_a_folder_without_images_is_refused_and_not_remembered(out):
    bucket = Bucket("may/notes.txt")
    with pytest.raises(
        ListError, match=r"no images under s3://photos/may/: 1 file left out \(no image: 1\)"
    ):
        listed(S3_FOLDER, out, bucket)
    bucket.keys.add("may/a.jpg")
    assert listed(S3_FOLDER, out, bucket) == ["s3://photos/may/a.jpg"]


def test_a_folder_that_cannot_be_listed_is_refused(photos, out, monkeypatch):
    folder = photos("a.jpg", "locked/b.jpg")
    real = os.scandir

    def scandir(path):
        if str(path).endswith("locked"):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    with pytest.raises(ListError, match="cannot be listed: No such file"):
        listed(f"{folder}-absent/", out)
    monkeypatch.setattr(os, "scandir", scandir)  # who runs the tests may read everything
    with pytest.raises(ListError, match="locked cannot be listed: Permission denied"):
        listed(folder, out)


def test_a_name_that_no_line_can_hold_keeps_its_place_as_a_missing_image(photos, out):
    folder = photos("a.jpg", "b\n.jpg", "c\r\n# x.jpg", "d.jpg", os.fsdecode(b"e\xff.jpg"))
    names = ["a.jpg", "b\ufffd.jpg", "c\ufffd\ufffd# x.jpg", "d.jpg", "e\ufffd.jpg"]
    assert listed(folder, out) == [f"{folder}/{name}" for name in names]


keys = st.text(st.characters(codec="utf-8", exclude_characters="\r\n"), max_size=9)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(names=st.sets(keys, min_size=1))
def test_every_key_comes_out_as_it_is_spelled(tmp_path_factory, names):
    out = LocalFolder(str(tmp_path_factory.mktemp("out")))
    names = {f"a{name.replace('/.', '/a.')}z" for name in names}  # none is hidden
    bucket = Bucket(*(f"may/{name}.jpg" for name in names))
    with open_list(snapshot_prefix(S3_FOLDER, out, bucket).location) as images:
        assert list(images) == [
            Entry(f"s3://photos/may/{name}.jpg")
            for name in sorted(names, key=lambda n: f"{n}.jpg".encode())
        ]
