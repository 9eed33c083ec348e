"""From a reader's images to the table that training and evaluation use.

Every file is hashed: the SHA-256 finds duplicates, identifies photos in the stimuli cache and is
checked against that in a split file. Removed photos were often saved as the site's "no longer
available" picture, the same bytes under many names: such placeholders are left out and counted.
Files that cannot be decoded are found later, when their stimuli are selected.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
import pandas as pd

from handler.values.emotions import POLARITY, Wheel
from train.datasets.files import is_utf8, printable
from train.datasets.listing import Listing, Row
from train.datasets.path_splits import apply_path_splits
from train.datasets.split_file import NAME, NEW, Entry
from train.datasets.splitting import random_split, validation_part
from train.datasets.table import NOT_UTF8, PLACEHOLDER, DatasetError, DatasetTable

OnProgress = Callable[[int, int], None]

# That many files with the same bytes are a placeholder, not a photo.
_PLACEHOLDER_COPIES = 5


def build_table(
    listing: Listing,
    wheel: Wheel | None,
    *,
    seed: int,
    written: Sequence[Entry] | None = None,
    on_progress: OnProgress = lambda done, total: None,
) -> DatasetTable:
    """Hash the images, leave out placeholders, split where no split is given, convert the labels.

    Args:
        listing: Listing of a reader; its refusals and notes are completed here.
        wheel: Wheel that the labels are converted to; None is the data set's own wheel.
        seed: Seed of the random split.
        written: Entries of the split file, where one gave the listing its splits.
        on_progress: Callback with (files hashed, files in all).

    Raises:
        DatasetError: No image is left, or the labels cannot be converted to ``wheel``.
    """
    wheel = wheel or listing.wheel
    _refuse_other_wheel(listing, wheel)
    if written is None:
        apply_path_splits(listing)
    rows, digests = _hashed(_once(listing), listing, on_progress)
    if not rows:
        raise DatasetError(_nothing_left(listing, "there is no image"))
    rows, digests = _without_placeholders(rows, digests, listing, written is not None)
    if not rows:
        raise DatasetError(
            f"all {len(listing.refused[PLACEHOLDER])} images under {listing.root} are copies of a "
            "placeholder picture: download the photos again"
        )
    if written is not None:
        _note_changes(rows, digests, listing, written)
    splits, source = _splits(rows, digests, listing, seed, written is not None)
    table = pd.DataFrame(
        {
            "path": [str(row.path) for row in rows],
            "label": [_convert(row.label, listing.wheel, wheel) for row in rows],
            "split": splits,
            "sha256": digests,
            "emotion": [listing.wheel.labels[row.label] for row in rows],
        }
    )
    if any(row.distribution for row in rows):
        table["distribution"] = [
            _convert_distribution(row.distribution, listing.wheel, wheel) for row in rows
        ]
    if any(row.agreement is not None for row in rows):
        table["agreement"] = pd.array([row.agreement for row in rows], dtype="Int64")
    return DatasetTable(
        table,
        root=listing.root,
        layout=printable(listing.layout),  # it may quote a file's name
        wheel=wheel,
        own_wheel=listing.wheel,
        split_source=source,
        refused=listing.refused,
        notes=tuple(listing.notes),
    )


def _refuse_other_wheel(listing: Listing, wheel: Wheel) -> None:
    if wheel not in (listing.wheel, POLARITY):
        wheels = " or ".join(dict.fromkeys((listing.wheel.name, POLARITY.name)))
        raise DatasetError(
            f"{listing.root} is labelled with {listing.wheel.name} "
            f"({', '.join(listing.wheel.labels)}) and cannot be read on {wheel.name}: "
            f"use a recipe with the wheel {wheels}"
        )


def _once(listing: Listing) -> list[Row]:
    """Every file once, if its name is valid UTF-8.

    A list that names a file twice would count it twice.
    """
    seen: dict[object, Row] = {}
    for row in listing.rows:
        if not is_utf8(row.path):
            listing.refuse(NOT_UTF8, row.path)
        elif row.path in seen:
            listing.refuse("listed twice (the first line counts)", row.path)
        else:
            seen[row.path] = row
    return list(seen.values())


def _hashed(
    rows: list[Row], listing: Listing, on_progress: OnProgress
) -> tuple[list[Row], list[str]]:
    kept, digests = [], []
    for done, row in enumerate(rows, start=1):
        try:
            digests.append(hashlib.sha256(row.path.read_bytes()).hexdigest())
        except OSError as error:
            listing.refuse(f"cannot be read ({error.strerror})", row.path)
        else:
            kept.append(row)
        if done % 256 == 0 or done == len(rows):
            on_progress(done, len(rows))
    return kept, digests


def _without_placeholders(
    rows: list[Row], digests: list[str], listing: Listing, written: bool
) -> tuple[list[Row], list[str]]:
    copies = Counter(digests)
    kept: list[Row] = []
    kept_digests: list[str] = []
    left_out = {digest for digest, count in copies.items() if count >= _PLACEHOLDER_COPIES}
    for row, digest in zip(rows, digests, strict=True):
        if digest in left_out:
            listing.refuse(PLACEHOLDER, row.path)
        else:
            kept.append(row)
            kept_digests.append(digest)
    if written:
        _recount_new(listing)
    return kept, kept_digests


def _recount_new(listing: Listing) -> None:
    """Move placeholders, which a split file does not list either, out of the new photos."""
    new = listing.refused.get(NEW, [])
    digests = {name: _digest_or_name(listing, name) for name in new}
    copies = Counter(digests.values())
    photos = [name for name in new if copies[digests[name]] < _PLACEHOLDER_COPIES]
    gone = [name for name in new if copies[digests[name]] >= _PLACEHOLDER_COPIES]
    if gone:
        listing.refused.setdefault(PLACEHOLDER, []).extend(gone)
        listing.refused[NEW] = photos
        if not photos:
            del listing.refused[NEW]


def _digest_or_name(listing: Listing, name: str) -> str:
    try:
        return hashlib.sha256((listing.root / name).read_bytes()).hexdigest()
    except OSError:
        return name


def _note_changes(
    rows: list[Row], digests: list[str], listing: Listing, written: Sequence[Entry]
) -> None:
    expected = {entry.path: entry.sha256 for entry in written if entry.sha256}
    changed = sum(
        digest != expected.get(row.path.relative_to(listing.root).as_posix(), digest)
        for row, digest in zip(rows, digests, strict=True)
    )
    if changed:
        listing.notes.append(
            f"{changed} images have other bytes than when {NAME} was written; "
            "they are used as they are now"
        )


def _splits(
    rows: list[Row], digests: list[str], listing: Listing, seed: int, written: bool
) -> tuple[list[str], Literal["given", "random", "file"]]:
    labels = [row.label for row in rows]
    splits = [row.split for row in rows]
    if not any(splits):
        return random_split(labels, digests, seed), "random"
    if written:
        return splits, "file"
    if "train" in splits and "val" not in splits:
        training = [i for i, split in enumerate(splits) if split == "train"]
        part = validation_part([labels[i] for i in training], [digests[i] for i in training], seed)
        moved = [i for i, chosen in zip(training, part, strict=True) if chosen]
        for i in moved:
            splits[i] = "val"
        if moved:
            listing.notes.append(
                f"no validation split is given: {len(moved)} of {len(training)} training images, "
                f"drawn with seed {seed}, serve as one"
            )
    return splits, "given"


def _convert(label: int, own: Wheel, wheel: Wheel) -> int:
    return label if own == wheel else wheel.index(own.polarity(label))


def _convert_distribution(
    distribution: tuple[float, ...] | None, own: Wheel, wheel: Wheel
) -> tuple[float, ...] | None:
    """On the polarity wheel the fractions of each side are summed (Eq. 14 and 15)."""
    if distribution is None or own == wheel:
        return distribution
    positive = float(np.sum(distribution[: own.positives]))
    return positive, 1.0 - positive


def _nothing_left(listing: Listing, what: str) -> str:
    reasons = "; ".join(f"{len(names)} x {reason}" for reason, names in listing.refused.items())
    return f"{what} to use under {listing.root} ({listing.layout}): {reasons or 'it is empty'}"
