import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.values.chunks import Chunk, Entry, RunIdentity, split

IDENTITY = RunIdentity(
    list_sha256="a" * 64,
    list_folder=None,
    column=None,
    keep=("id", "day"),
    model_digest="b" * 64,
    chunk_size=1000,
    max_bytes=1,
    max_pixels=1,
    boxes=False,
    hosts=(),
)


entries = st.builds(Entry, st.text(), st.tuples(st.none() | st.text(), st.integers()))


@settings(deadline=None)  # a loaded machine is no finding
@given(entries=st.lists(entries), size=st.integers(1, 50))
def test_chunks_partition_the_list(entries, size):
    chunks = list(split(entries, size))
    assert [entry for chunk in chunks for entry in chunk.entries] == entries
    assert [place for chunk in chunks for place in chunk.positions] == list(range(len(entries)))
    assert [chunk.index for chunk in chunks] == list(range(len(chunks)))
    assert all(chunk.entries for chunk in chunks)
    assert all(len(chunk.entries) == size for chunk in chunks[:-1])
    for chunk in chunks:
        assert chunk.entries == tuple(entries[chunk.start : chunk.start + size])


@settings(deadline=None)  # a loaded machine is no finding
@given(count=st.integers(0, 300), size=st.integers(1, 50))
def test_ids_follow_from_positions_alone(count, size):
    one = [chunk.id for chunk in split((Entry(f"a{i}") for i in range(count)), size)]
    other = [chunk.id for chunk in split((Entry(f"b{i}") for i in range(count)), size)]
    assert one == other == sorted(set(one))


def test_the_id_of_a_chunk_is_its_index():
    assert Chunk(42, 42_000, ()).id == "part-00042"


def test_splitting_takes_no_more_of_the_list_than_it_gives():
    def endless():
        while True:
            yield Entry("image")

    chunks = split(endless(), 3)
    assert next(chunks).start == 0
    assert next(chunks).start == 3


def test_a_chunk_without_images_has_no_positions():
    assert list(Chunk(0, 0, ()).positions) == []


def test_an_empty_chunk_size_is_refused():
    with pytest.raises(ValueError, match="at least 1"):
        next(split([Entry("a")], 0))


@pytest.mark.parametrize(
    "change",
    [
        {"list_sha256": "c"},
        {"list_folder": "/photos"},
        {"column": "url"},
        {"keep": ()},
        {"keep": ("day", "id")},
        {"model_digest": "c"},
        {"chunk_size": 999},
        {"max_bytes": 2},
        {"max_pixels": 2},
        {"boxes": True},
        {"hosts": ("images.example.org",)},
        {"format": 3},
    ],
)
def test_whatever_changes_the_results_makes_another_run(change):
    assert replace(IDENTITY, **change).run_id != IDENTITY.run_id


def test_the_same_run_has_the_same_id_on_every_machine():
    assert IDENTITY.run_id == replace(IDENTITY).run_id == "8abdd21fa890bc03"


def test_an_identity_equals_the_one_that_json_gives_back():
    assert json.loads(json.dumps(IDENTITY.to_dict())) == IDENTITY.to_dict()
