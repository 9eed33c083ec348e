from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.chunks import RunIdentity, split

IDENTITY = RunIdentity(
    list_sha256="a" * 64,
    list_folder=None,
    column=None,
    model_digest="b" * 64,
    chunk_size=1000,
    max_bytes=1,
    max_pixels=1,
)


@settings(deadline=None)  # a loaded machine is no finding
@given(images=st.lists(st.text()), size=st.integers(1, 50))
def test_chunks_partition_the_list(images, size):
    chunks = list(split(images, size))
    assert [image for chunk in chunks for image in chunk.images] == images
    assert all(chunk.images for chunk in chunks)
    assert all(len(chunk.images) == size for chunk in chunks[:-1])
    for chunk in chunks:
        assert chunk.images == tuple(images[chunk.start : chunk.start + size])


@settings(deadline=None)  # a loaded machine is no finding
@given(count=st.integers(0, 300), size=st.integers(1, 50))
def test_ids_follow_from_positions_alone(count, size):
    one = [chunk.id for chunk in split((f"a{i}" for i in range(count)), size)]
    other = [chunk.id for chunk in split((f"b{i}" for i in range(count)), size)]
    assert one == other == sorted(set(one))


def test_the_id_of_a_chunk_is_its_index():
    assert list(split("abc" * 15, 1))[42].id == "part-00042"


def test_splitting_takes_no_more_of_the_list_than_it_gives():
    def endless():
        while True:
            yield "image"

    chunks = split(endless(), 3)
    assert next(chunks).start == 0
    assert next(chunks).start == 3


def test_an_empty_chunk_size_is_refused():
    with pytest.raises(ValueError, match="at least 1"):
        next(split(["a"], 0))


@pytest.mark.parametrize(
    "change",
    [
        {"list_sha256": "c"},
        {"list_folder": "/photos"},
        {"column": "url"},
        {"model_digest": "c"},
        {"chunk_size": 999},
        {"max_bytes": 2},
        {"max_pixels": 2},
        {"format": 2},
    ],
)
def test_whatever_changes_the_results_makes_another_run(change):
    assert replace(IDENTITY, **change).run_id != IDENTITY.run_id


def test_the_same_run_has_the_same_id_on_every_machine():
    assert IDENTITY.run_id == replace(IDENTITY).run_id == "f34da54fe686d41e"
