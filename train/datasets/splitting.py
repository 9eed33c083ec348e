"""Random splits, for data sets that have none.

The proportions are those of the paper for FI: 80 % for training, 5 % for validation, 15 % for
testing (Sec. IV-A). Each emotion is split separately, so that every split has the same fractions of
emotions. Files with the same bytes stay together, so that no photo is used for both training and
evaluation. Near-duplicates (cropped, re-encoded) are not searched for.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

_FRACTIONS = {"train": 0.80, "val": 0.05}


def split_sizes(count: int) -> dict[str, int]:
    """Sizes of the splits of ``count`` different photos of one emotion.

    They are 80/5/15, rounded, but no split is empty that need not be: of three photos each split
    has one, of two training and validation have one each, a single one is for training.
    """
    if count < 3:
        return {"train": min(count, 1), "val": int(count == 2), "test": 0}
    val = max(1, round(_FRACTIONS["val"] * count))
    test = max(1, count - round(_FRACTIONS["train"] * count) - val)
    return {"train": count - val - test, "val": val, "test": test}


def random_split(labels: Sequence[int], digests: Sequence[str], seed: int) -> list[str]:
    """A stratified random split, the same for the same rows and seed.

    Args:
        labels: Label of each image.
        digests: SHA-256 of each image's bytes; equal digests get the same split.
        seed: Seed of the shuffling.

    Returns:
        Split of each image, ``train``, ``val`` or ``test``.
    """
    chosen: dict[str, str] = {}
    for photos in shuffled_photos(labels, digests, random.Random(seed)):
        sizes = split_sizes(len(photos))
        names = [name for name, size in sizes.items() for _ in range(size)]
        chosen.update(zip(photos, names, strict=True))
    return [chosen[digest] for digest in digests]


def validation_part(labels: Sequence[int], digests: Sequence[str], seed: int) -> list[bool]:
    """The training images that become the validation split of a data set without one.

    5 in 85, as in the paper's split, but one of each emotion that has two different photos.
    """
    chosen: set[str] = set()
    for photos in shuffled_photos(labels, digests, random.Random(seed)):
        fraction = _FRACTIONS["val"] / (_FRACTIONS["train"] + _FRACTIONS["val"])
        size = max(1, round(fraction * len(photos))) if len(photos) > 1 else 0
        chosen.update(photos[:size])
    return [digest in chosen for digest in digests]


def shuffled_photos(
    labels: Sequence[int], digests: Sequence[str], rng: random.Random
) -> Iterator[list[str]]:
    """Different photos of each emotion, shuffled; copies under two emotions count for the first."""
    emotion_of: dict[str, int] = {}
    for label, digest in zip(labels, digests, strict=True):
        emotion_of.setdefault(digest, label)
    for emotion in sorted(set(emotion_of.values())):
        photos = [digest for digest, label in emotion_of.items() if label == emotion]
        rng.shuffle(photos)
        yield photos
