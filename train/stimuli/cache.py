"""The stimuli of photos, selected once and kept on disk.

The selectors are frozen, so the stimuli of a photo never change: selecting them once saves most
of every epoch. A photo is known by the SHA-256 of its file, a selector by its fingerprint, weights
included. So a data set that grew costs its new photos only, data sets and recipes share what they
have in common, and nothing that another selector made is ever used.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from handler.images import DECODING
from handler.stimuli.selector import StimuliSelector
from handler.stimuli.stimuli import Faces, Objects, Stimuli
from train.stimuli.shards import FORMAT, CacheError, Index, ShardFolder
from train.stimuli.workers import SHARD_SIZE, Photo, SelectorFiles, Task, select_all

__all__ = ["CacheError", "SelectorFiles", "StimuliCache", "build_cache", "fingerprint"]

# Settings that decide the colour image and nothing else.
_OF_COLOUR = ("size", "fit", "resize")


class StimuliCache:
    """Stimuli of the rows of a table, by row number. Made by `build_cache`.

    Attributes:
        folder: Folder of the cache.
        rows: Number of rows of the table.
        refused: Reasons by row, for rows without stimuli.
        selected: Number of photos that were selected when the cache was opened.
        bytes_per_image: Mean size of a photo's stimuli on disk, in bytes.
    """

    def __init__(
        self,
        shards: ShardFolder,
        index: Index,
        keys: Sequence[str],
        *,
        unread: dict[str, str],
        selected: int,
    ) -> None:
        refused = index.refused | unread
        self.folder = shards.folder
        self.rows = len(keys)
        self.refused = {
            row: refused[key] for row, key in enumerate(keys) if key not in index.places
        }
        self.selected = selected
        self.bytes_per_image = shards.bytes_per_image(index)
        self._shards = shards
        self._places = {
            row: index.places[key] for row, key in enumerate(keys) if key in index.places
        }
        self._open: dict[Path, dict[str, torch.Tensor]] = {}

    def stimuli(self, rows: Sequence[int]) -> Stimuli:
        """The stimuli of the given rows, in that order; a row in ``refused`` has none.

        The colour image is Bx3x0x0 where the cache does not keep it.
        """
        parts = [self._row(row) for row in rows]
        columns = {name: torch.stack([part[name] for part in parts]) for name in parts[0]}
        zeros = torch.zeros(len(rows))
        return Stimuli(
            colour=columns.get("colour", torch.empty(len(rows), 3, 0, 0, dtype=torch.uint8)),
            objects=Objects(
                features=columns["features"].float(),
                boxes=columns["boxes"],
                scores=columns["scores"],
                labels=columns["labels"],
                mask=columns["mask"],
                attributes=columns.get("attributes"),
            ),
            faces=Faces(
                crops=columns["faces"],
                boxes=zeros.unsqueeze(1).expand(-1, 4),
                scores=zeros,
                counts=columns["face_counts"],
            ),
        )

    def __getstate__(self) -> dict[str, Any]:
        """Without the mapped shards, whose content would be copied: the other process maps them."""
        return {**self.__dict__, "_open": {}}

    def _row(self, row: int) -> dict[str, torch.Tensor]:
        path, position = self._places[row]
        if path not in self._open:
            self._open[path] = self._shards.open(path)
        return {name: tensor[position] for name, tensor in self._open[path].items()}


def build_cache(
    table: pd.DataFrame,
    selector: StimuliSelector,
    root: Path,
    *,
    files: SelectorFiles,
    colour: bool = True,
    workers: int = 1,
    shard_size: int = SHARD_SIZE,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> StimuliCache:
    """Open the cache of ``table`` under ``selector``, selecting what is missing.

    Args:
        table: Table with columns ``path`` and ``sha256``, as the data sets yield it.
        selector: Frozen selectors of the stimuli.
        root: Folder of the caches.
        files: Files that the selector was built from.
        colour: Whether the square colour image is kept, 3*S*S bytes a photo; without it training
            decodes the photos in every epoch.
        workers: Number of processes that select.
        shard_size: Largest number of photos in a shard; a killed process loses at most that many.
        on_progress: Callback with (rows done, rows in all) while photos are selected.

    Returns:
        Cache of the stimuli; rows that cannot be decoded are in its ``refused``, with the reason.

    Raises:
        CacheError: The cache is damaged or stale, or a selecting process died.
    """
    identity = fingerprint(selector, files, colour=colour)
    shards = ShardFolder(
        root / identity,
        fingerprint=identity,
        description={"colour": colour, "selector": _settings(selector, colour=colour)},
    )
    index = shards.index()
    keys = table["sha256"].tolist()
    missing = {
        key: Photo(key, Path(path))
        for key, path in zip(keys, table["path"], strict=True)
        if key not in index.places and key not in index.refused
    }
    unread: dict[str, str] = {}
    if missing:
        known = len(keys) - len(missing)
        unread = select_all(
            list(missing.values()),
            selector,
            Task(selector.config, files, shards, colour, _device()),
            workers=workers,
            shard_size=shard_size,
            on_photos=lambda done: on_progress(known + done, len(keys)),
        )
        index = shards.index()
    return StimuliCache(shards, index, keys, unread=unread, selected=len(missing) - len(unread))


def fingerprint(selector: StimuliSelector, files: SelectorFiles, *, colour: bool = True) -> str:
    """Fingerprint of stimuli: decoding, settings, weights, face files, whether colour is kept."""
    said = {
        "format": FORMAT,
        "decoding": DECODING,
        "colour": colour,
        "selector": _settings(selector, colour=colour),
    }
    digest = hashlib.sha256(json.dumps(said, sort_keys=True).encode())
    for name, tensor in sorted(selector.objects.state_dict().items()):
        values = tensor.detach().cpu().contiguous()
        digest.update(f"{name} {values.dtype} {tuple(values.shape)}\n".encode())
        digest.update(values.flatten().view(torch.uint8).numpy())
    for file in (files.landmarks, files.face_detector):
        digest.update(hashlib.sha256(file.read_bytes() if file else b"").digest())
    return digest.hexdigest()[:20]


def _settings(selector: StimuliSelector, *, colour: bool) -> dict[str, Any]:
    settings = asdict(selector.config)
    if not colour:
        settings = {name: value for name, value in settings.items() if name not in _OF_COLOUR}
    return settings


def _device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"
