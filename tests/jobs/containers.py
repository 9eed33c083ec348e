"""Files that hold pictures, as the programs of others write them."""

import gzip
import io
import json
import tarfile

import pyarrow as pa
import pyarrow.parquet


def tar_of(members, *, form=tarfile.PAX_FORMAT):
    """A tar archive: of ``{name: bytes}``, or of such pairs; a `tarfile.TarInfo` is no file."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=form) as archive:
        for name, data in members.items() if isinstance(members, dict) else members:
            if isinstance(data, tarfile.TarInfo):
                archive.addfile(data)
                continue
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return packed.getvalue()


def samples(photos):
    """Members as WebDataset and img2dataset lay them out: ``000003.jpg``, ``.json``, ``.txt``."""
    members = {}
    for number, photo in enumerate(photos):
        members[f"{number:06d}.jpg"] = photo
        members[f"{number:06d}.json"] = json.dumps({"key": f"{number:06d}", "n": number}).encode()
        members[f"{number:06d}.txt"] = f"photo no. {number}\n".encode()
    return members


def plain_table(photos, **columns):
    """A table with the bytes in the column ``image``."""
    return pa.table({"image": pa.array(photos, pa.binary()), **columns})


def hugging_face_table(photos, **columns):
    """A table as `datasets` writes it."""
    kind = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    pictures = [{"bytes": photo, "path": f"{n}.jpg"} for n, photo in enumerate(photos)]
    return pa.table({"image": pa.array(pictures, kind), **columns})


def parquet_of(table, rows=7):
    """A parquet file, of row groups of a few rows."""
    packed = io.BytesIO()
    pyarrow.parquet.write_table(table, packed, row_group_size=rows)
    return packed.getvalue()


def zst(data):
    """Compressed with zstd."""
    return pa.compress(data, "zstd", asbytes=True)


def forms_of(photos):
    """The same photos in every form that holds them: name and content of each file."""
    archive = tar_of(samples(photos))
    return {
        "bytes.parquet": parquet_of(plain_table(photos)),
        "hugging-face.parquet": parquet_of(hugging_face_table(photos)),
        "photos.tar": archive,
        "photos.tar.gz": gzip.compress(archive, 1),
        "photos.tar.zst": zst(archive),
    }
