"""The random split as a law: a partition, stratified, copies together, the same again."""

from __future__ import annotations

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from train.datasets.splitting import random_split, split_sizes, validation_part

# Images as (emotion, which photo): a photo may lie there several times, and under two emotions.
IMAGES = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 60)), max_size=200)
SEEDS = st.integers(0, 2**32)


def columns(images, *, shared=False):
    labels = [label for label, _ in images]
    return labels, [str(photo) if shared else f"{label} {photo}" for label, photo in images]


@settings(deadline=None)
@given(images=IMAGES, seed=SEEDS, shared=st.booleans())
def test_every_image_has_one_split_and_copies_have_the_same(images, seed, shared):
    labels, digests = columns(images, shared=shared)
    splits = random_split(labels, digests, seed)
    assert len(splits) == len(images)
    assert set(splits) <= {"train", "val", "test"}
    assert len(set(zip(digests, splits, strict=True))) == len(set(digests))


@settings(deadline=None)
@given(images=IMAGES, seed=SEEDS)
def test_different_photos_of_each_emotion_are_split_as_told(images, seed):
    labels, digests = columns(images)
    splits = random_split(labels, digests, seed)
    photos = set(zip(labels, digests, splits, strict=True))
    for label in set(labels):
        counted = Counter(split for other, _, split in photos if other == label)
        assert {name: counted[name] for name in ("train", "val", "test")} == split_sizes(
            counted.total()
        )


@settings(deadline=None)
@given(images=IMAGES, seed=SEEDS)
def test_the_same_seed_is_the_same_split(images, seed):
    labels, digests = columns(images)
    assert random_split(labels, digests, seed) == random_split(labels, digests, seed)


@given(count=st.integers(0, 10_000))
def test_sizes_add_up_and_leave_nothing_empty_that_need_not_be(count):
    sizes = split_sizes(count)
    assert sum(sizes.values()) == count
    assert all(size >= 1 for size in sizes.values()) == (count >= 3)
    if count >= 3:
        assert abs(sizes["train"] - 0.80 * count) <= 2
        assert abs(sizes["val"] - 0.05 * count) <= 1
        assert sizes["train"] >= max(sizes["val"], sizes["test"])


def test_small_emotions_have_something_to_validate_on():
    assert split_sizes(1) == {"train": 1, "val": 0, "test": 0}
    assert split_sizes(2) == {"train": 1, "val": 1, "test": 0}
    assert split_sizes(3) == {"train": 1, "val": 1, "test": 1}
    assert split_sizes(100) == {"train": 80, "val": 5, "test": 15}


def test_another_seed_is_another_split():
    labels, digests = columns([(0, i) for i in range(60)])
    assert random_split(labels, digests, 18) != random_split(labels, digests, 19)


@settings(deadline=None)
@given(images=IMAGES, seed=SEEDS)
def test_a_validation_part_leaves_something_to_train_on(images, seed):
    labels, digests = columns(images)
    part = validation_part(labels, digests, seed)
    assert len(set(zip(digests, part, strict=True))) == len(set(digests)), "copies stay together"
    for label in set(labels):
        photos = {
            (d, p) for other, d, p in zip(labels, digests, part, strict=True) if other == label
        }
        chosen = sum(p for _, p in photos)
        assert chosen < len(photos)
        assert (chosen > 0) == (len(photos) > 1)
        assert abs(chosen - len(photos) / 17) <= 1
