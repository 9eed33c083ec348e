"""The split that the images' folders name, where no list gives one: ``awe/test/1.jpg``.

Two different splits among the folders are a split that somebody made, and it is obeyed. One alone
may be anything, a folder of trains among them; it is told and not used. So are splits that file
names say.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace

from train.datasets.listing import Listing, Row
from train.datasets.table import SPLITS, split_name

NO_SPLIT = "no split is given for it, as there is for others"
SEVERAL_SPLITS = "its folders name more than one split"


def apply_path_splits(listing: Listing) -> None:
    """Give the images of a listing the splits that their folders name, and tell what is not used.

    Images without a split among others that have one are left out: for training they could be those
    that others test on.

    Args:
        listing: Listing of a reader, which is changed.
    """
    named = [_folder_splits(row, listing) for row in listing.rows]
    found = {split for splits in named for split in splits}
    if any(row.split for row in listing.rows):
        other = sum(
            bool(s) and {row.split} != s for row, s in zip(listing.rows, named, strict=True)
        )
        if other:
            listing.notes.append(
                f"{other} images are listed for another split than their folders name: "
                "the list is obeyed"
            )
    elif len(found) > 1:
        listing.rows = [
            replace(row, split=next(iter(splits)) if len(splits) == 1 else row.split)
            for row, splits in zip(listing.rows, named, strict=True)
        ]
        names = ", ".join(split for split in SPLITS if split in found)
        listing.notes.append(f"the folders of the images name the split: {names}")
    else:
        _note_unused(listing, named)
    _leave_out_the_rest(listing, named)


def _folder_splits(row: Row, listing: Listing) -> set[str]:
    folders = row.path.relative_to(listing.root).parts[:-1]
    return {split for folder in folders if (split := split_name(folder))}


def _note_unused(listing: Listing, named: list[set[str]]) -> None:
    """Tell of splits in names that are not used, for the split will be a random one."""
    in_folders = sum(map(bool, named))
    if in_folders:
        (split,) = set().union(*named)
        listing.notes.append(
            f"the folders of {in_folders} images name the split {split}, and none names another: "
            "they are not used as a split"
        )
    in_files = Counter(filter(None, (_file_split(row.path.stem) for row in listing.rows)))
    if len(in_files) > 1:
        counts = ", ".join(f"{split} ({in_files[split]})" for split in SPLITS if in_files[split])
        listing.notes.append(
            f"file names that say {counts} are not used as a split: folders of these names are, "
            "and a column split of a list"
        )


def _file_split(stem: str) -> str | None:
    """The split that a file name begins or ends with, as ``train_0001`` does."""
    words = re.findall(r"[a-z]+", stem.lower())
    return next((split for word in (words[:1] + words[-1:]) if (split := split_name(word))), None)


def _leave_out_the_rest(listing: Listing, named: list[set[str]]) -> None:
    if not any(row.split for row in listing.rows):
        return
    kept = []
    for row, splits in zip(listing.rows, named, strict=True):
        if row.split:
            kept.append(row)
        else:
            listing.refuse(SEVERAL_SPLITS if len(splits) > 1 else NO_SPLIT, row.path)
    listing.rows = kept
