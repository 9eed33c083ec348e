"""The stimuli of a data set, selected once and kept on disk.

The selectors are frozen, so what they select of a photo never changes: running them once saves most
of every epoch. Arrays lie beside each other as memory-mapped ``.npy`` files, features in half
precision. The folder's name is a fingerprint of the photos' content and of the selector, weights
included; another photo or another selector is another folder, so a stale cache cannot be used. A
build that was interrupted goes on where it stopped.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from handler.images import ImageRefused, decode
from handler.stimuli.selector import StimuliSelector
from handler.stimuli.stimuli import Faces, Objects, Stimuli

_PROGRESS = "progress.json"
_BATCH = 8  # larger batches fall out of a processor's cache
_RECORDED_EVERY = 128  # batches; flushing all arrays takes as long as selecting a few photos


class StimuliCache:
    """Stimuli of the rows of a table, by row number. Open with `build_cache`."""

    def __init__(self, folder: Path, rows: int, refused: dict[int, str]) -> None:
        self.folder = folder
        self.rows = rows
        self.refused = refused
        self._arrays = {
            name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in _ARRAY_NAMES
        }

    def stimuli(self, rows: list[int]) -> Stimuli:
        """The stimuli of the given rows, in that order."""
        columns = {name: torch.from_numpy(array[rows]) for name, array in self._arrays.items()}
        zeros = torch.zeros(len(rows))
        return Stimuli(
            colour=columns["colour"],
            objects=Objects(
                features=columns["features"].float(),
                boxes=columns["boxes"],
                scores=columns["scores"],
                labels=columns["labels"],
                mask=columns["mask"],
            ),
            faces=Faces(
                crops=columns["faces"],
                boxes=zeros.unsqueeze(1).expand(-1, 4),
                scores=zeros,
                counts=columns["face_counts"],
            ),
        )


_PER_OBJECT = ("features", "boxes", "scores", "labels", "mask")
_ARRAY_NAMES = ("colour", *_PER_OBJECT, "faces", "face_counts")


def build_cache(
    table: pd.DataFrame,
    selector: StimuliSelector,
    root: Path,
    *,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> StimuliCache:
    """Open the cache of ``table`` under ``selector``, selecting what is missing.

    Args:
        table: columns ``path`` and ``sha256``, as the data sets yield them.
        selector: the frozen selectors.
        root: folder that holds caches.
        on_progress: called with (rows done, rows in all) after each batch.

    Returns:
        The cache; rows that cannot be decoded are in its ``refused``, with the reason.
    """
    folder = root / fingerprint(table, selector)
    folder.mkdir(parents=True, exist_ok=True)
    total = len(table)
    done, refused = _read_progress(folder)
    arrays = {
        name: np.lib.format.open_memmap(
            folder / f"{name}.npy",
            mode="r+" if (folder / f"{name}.npy").exists() else "w+",
            dtype=dtype,
            shape=(total, *shape),
        )
        for name, (dtype, shape) in _layout(selector).items()
    }
    for start in range(done, total, _BATCH):
        stop = min(start + _BATCH, total)
        rows, images = [], []
        for row in range(start, stop):
            try:
                images.append(decode(Path(table["path"].iloc[row]).read_bytes()))
                rows.append(row)
            except ImageRefused as refusal:
                refused[row] = refusal.reason
            except OSError as error:  # the file has gone, or may not be read
                refused[row] = str(error)
        if rows:
            _store(arrays, rows, selector.select(images))
        if stop == total or stop % (_BATCH * _RECORDED_EVERY) == 0:
            # Progress is written after the data, so a row that counts as done is on disk.
            for array in arrays.values():
                array.flush()
            _write_progress(folder, stop, refused)
        on_progress(stop, total)
    return StimuliCache(folder, total, refused)


def fingerprint(table: pd.DataFrame, selector: StimuliSelector) -> str:
    """Identifies the photos' content, their order, and the selector with its weights."""
    digest = hashlib.sha256(json.dumps(asdict(selector.config), sort_keys=True).encode())
    for name, tensor in sorted(selector.objects.state_dict().items()):
        digest.update(name.encode() + tensor.detach().cpu().contiguous().numpy().tobytes())
    digest.update("\n".join(table["sha256"]).encode())
    return digest.hexdigest()[:20]


def _layout(selector: StimuliSelector) -> dict[str, tuple[type, tuple[int, ...]]]:
    size, objects = selector.config.size, selector.objects
    n = objects.count
    return {
        "colour": (np.uint8, (3, size, size)),
        "features": (np.float16, (n, objects.feature_size)),
        "boxes": (np.float32, (n, 4)),
        "scores": (np.float32, (n,)),
        "labels": (np.int64, (n,)),
        "mask": (np.bool_, (n,)),
        "faces": (np.uint8, (1, 48, 48)),
        "face_counts": (np.int64, ()),
    }


def _store(arrays: Mapping[str, np.ndarray[Any, Any]], rows: list[int], stimuli: Stimuli) -> None:
    objects, faces = stimuli.objects, stimuli.faces
    values = {
        "colour": stimuli.colour,
        "features": objects.features,
        "boxes": objects.boxes,
        "scores": objects.scores,
        "labels": objects.labels,
        "mask": objects.mask,
        "faces": faces.crops,
        "face_counts": faces.counts,
    }
    for name, value in values.items():
        if name in _PER_OBJECT:
            # A source may yield fewer objects than it may keep; the rest stays masked out.
            arrays[name][rows, : value.shape[1]] = value.cpu().numpy()
        else:
            arrays[name][rows] = value.cpu().numpy()


def _read_progress(folder: Path) -> tuple[int, dict[int, str]]:
    try:
        progress = json.loads((folder / _PROGRESS).read_text())
        return progress["done"], {int(row): why for row, why in progress["refused"].items()}
    except (OSError, ValueError, KeyError):
        return 0, {}


def _write_progress(folder: Path, done: int, refused: dict[int, str]) -> None:
    partial = folder / f"{_PROGRESS}.partial"
    partial.write_text(json.dumps({"done": done, "refused": refused}))
    partial.replace(folder / _PROGRESS)
