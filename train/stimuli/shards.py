"""Storage of selected stimuli: one folder for a selector, one file (shard) for dozens of photos.

FOLDER/cache.json            format, fingerprint and settings of the selector
FOLDER/shards/*.safetensors  tensors stacked over photos; the header names the photos by their
                             SHA-256, and those that were refused, with the reason

A shard is written atomically: a process that is killed loses only the shard that it was working on,
and several processes may fill the same folder at once. Shards are mapped into memory. A shard that
is damaged, or was made by another selector or format, is refused with `CacheError`.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from handler.atomic_files import atomic_write
from handler.values.errors import VeaError

FORMAT = 2
_DESCRIPTION, _SHARDS, _KEY = "cache.json", "shards", "vea"
_LONGEST_HEADER = 100_000_000  # as the format allows


class CacheError(VeaError):
    """A stimuli cache that cannot be used or filled. The message is one line for the user."""


@dataclass
class Index:
    """Content of a folder of shards.

    Attributes:
        places: Shard and row of each photo, by SHA-256.
        refused: Reason why a photo has no stimuli, by SHA-256.
    """

    places: dict[str, tuple[Path, int]] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)


class ShardFolder:
    """The folder of one selector's stimuli.

    Args:
        folder: Folder of the cache, created if it does not exist.
        fingerprint: Fingerprint of the selector, which that of the folder must equal.
        description: Further entries of ``cache.json``, for people.

    Raises:
        CacheError: The folder is of another selector or format, or damaged.
    """

    def __init__(self, folder: Path, *, fingerprint: str, description: dict[str, Any]) -> None:
        self.folder = folder
        self.fingerprint = fingerprint
        (folder / _SHARDS).mkdir(parents=True, exist_ok=True)
        place = folder / _DESCRIPTION
        if not place.exists():
            said = {"format": FORMAT, "fingerprint": fingerprint, **description}
            with atomic_write(place) as partial:
                partial.write_text(json.dumps(said, indent=2) + "\n")
        try:
            found = json.loads(place.read_text())
        except (OSError, ValueError) as error:
            raise CacheError(f"{place} is damaged ({error}): delete {folder}") from None
        self._check(place, found)

    def index(self) -> Index:
        """Read the headers of all shards."""
        index = Index()
        for path in sorted((self.folder / _SHARDS).glob("*.safetensors")):
            header = self._header(path)
            for row, key in enumerate(header["keys"]):
                index.places.setdefault(key, (path, row))
            index.refused.update(header["refused"])
        return index

    def write(
        self,
        keys: Sequence[str],
        tensors: Mapping[str, torch.Tensor],
        refused: Mapping[str, str],
    ) -> Path:
        """Add a shard.

        Args:
            keys: SHA-256 of the photos.
            tensors: Tensors by name, stacked over the photos in the order of ``keys``.
            refused: Reasons by SHA-256, for photos that are not in ``keys``.
        """
        names = "\n".join([*keys, *sorted(refused)])
        # The same photos give the same name, so work that is done twice is stored once.
        place = self.folder / _SHARDS / f"{hashlib.sha256(names.encode()).hexdigest()[:20]}"
        path = place.with_suffix(".safetensors")
        header = {
            "format": FORMAT,
            "fingerprint": self.fingerprint,
            "keys": list(keys),
            "refused": dict(refused),
        }
        stacked = {name: tensor.contiguous() for name, tensor in tensors.items()}
        with atomic_write(path) as partial:
            save_file(stacked, partial, metadata={_KEY: json.dumps(header)})
        return path

    def open(self, path: Path) -> dict[str, torch.Tensor]:
        """The tensors of a shard, mapped into memory: only what is used is read from disk."""
        try:
            with safe_open(path, framework="pt") as shard:
                return {name: shard.get_tensor(name) for name in shard.keys()}  # noqa: SIM118
        except (OSError, SafetensorError) as error:
            raise self._damaged(path, error) from None

    def bytes_per_image(self, index: Index) -> float:
        """Disk space of a photo's stimuli, on average; 0 for an empty folder."""
        files = {path for path, _ in index.places.values()}
        return sum(path.stat().st_size for path in files) / max(len(index.places), 1)

    def _header(self, path: Path) -> dict[str, Any]:
        """The header of a shard. The length of the file is checked; its tensors are not read."""
        try:
            with path.open("rb") as file:
                (length,) = struct.unpack("<Q", file.read(8))
                if length > _LONGEST_HEADER:
                    raise ValueError(f"a header of {length} bytes")
                described = json.loads(file.read(length))
                header = json.loads(described.pop("__metadata__")[_KEY])
            size = 8 + length + max((v["data_offsets"][1] for v in described.values()), default=0)
            if path.stat().st_size != size:
                raise ValueError(f"{path.stat().st_size} bytes instead of {size}")
            if any(v["shape"][0] != len(header["keys"]) for v in described.values()):
                raise ValueError("its tensors and its photos differ in number")
        except (OSError, ValueError, KeyError, IndexError, TypeError, struct.error) as error:
            raise self._damaged(path, error) from None
        self._check(path, header)
        return header

    def _check(self, place: Path, found: Any) -> None:
        for name, expected in (("format", FORMAT), ("fingerprint", self.fingerprint)):
            value = found.get(name) if isinstance(found, dict) else None
            if value != expected:
                raise CacheError(
                    f"{place} is stale: its {name} is '{value}', this selector's is "
                    f"'{expected}': delete it, and its photos are selected again"
                )

    def _damaged(self, path: Path, error: Exception) -> CacheError:
        return CacheError(
            f"{path} is damaged ({error}): delete it, and its photos are selected again"
        )
