import gzip

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.lists.columns import ListError
from jobs.lists.image_list import open_list
from jobs.lists.prefix import snapshot_prefix
from jobs.storage.errors import StorageError
from jobs.storage.folders import open_folder
from jobs.storage.stores import Stores

pytest_plugins = ["s3_server"]
pytestmark = pytest.mark.integration


def listed(location, out):
    client = Stores()
    listing = snapshot_prefix(location, open_folder(out, client), client)
    with open_list(listing.location, stores=client) as images:
        return [entry.image for entry in images]


def test_a_prefix_of_several_pages_is_listed_whole_and_only_once(s3):
    names = [f"listing/{i % 7}/{i:04d}.jpg" for i in range(1_050)] + ["listing/a b+c?#%41é.PNG"]
    for name in [*names, "listing/notes.txt", "listing-2/other.jpg"]:
        s3.put_object(Bucket="photos", Key=name, Body=b"")
    found = listed("s3://photos/listing/", "s3://results/listing")
    assert sorted(found) == sorted(f"s3://photos/{name}" for name in names)
    s3.put_object(Bucket="photos", Key="listing/late.jpg", Body=b"")
    assert listed("s3://photos/listing/", "s3://results/listing") == found
    with pytest.raises(ListError, match="choose another --out"):
        listed("s3://photos/listing-2/", "s3://results/listing")


def test_a_bucket_that_does_not_exist_stops_the_job(s3):
    with pytest.raises(StorageError, match="the bucket 'absent' does not exist"):
        listed("s3://absent/photos/", "s3://results/absent")


@pytest.mark.parametrize("name", ["list.parquet", "list.csv.gz"])
def test_a_list_on_s3_is_read_and_its_relative_images_lie_beside_it(s3, name, tmp_path):
    path = tmp_path / name
    if name.endswith(".parquet"):
        pq.write_table(pa.table({"url": ["a.jpg"], "id": ["007"]}), path)
    else:
        path.write_bytes(gzip.compress(b"id,url\n007,a.jpg\n"))
    s3.put_object(Bucket="photos", Key=f"may/{name}", Body=path.read_bytes())
    with open_list(f"s3://photos/may/{name}") as images:
        assert [(entry.image, entry.extra) for entry in images] == [("a.jpg", ("007",))]
        assert (images.folder, images.has_relative) == ("s3://photos/may", True)
