"""Caches side by side: what they are made of, and whether two hold the same."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path

import pandas as pd
import torch

from handler.stimuli.stimuli import Stimuli
from train.stimuli.cache import StimuliCache

Build = Callable[..., StimuliCache]


def table_of(paths: Sequence[Path]) -> pd.DataFrame:
    digests = [
        hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else "gone" for path in paths
    ]
    return pd.DataFrame({"path": [str(path) for path in paths], "sha256": digests})


def parts(stimuli: Stimuli) -> dict[str, torch.Tensor]:
    """All tensors that a cache keeps, by name."""
    found = {f"objects.{f.name}": getattr(stimuli.objects, f.name) for f in fields(stimuli.objects)}
    faces = {"crops": stimuli.faces.crops, "counts": stimuli.faces.counts}
    kept = {"colour": stimuli.colour, **found, **faces}
    return {name: value for name, value in kept.items() if value is not None}


def same(one: StimuliCache, other: StimuliCache) -> bool:
    rows = [row for row in range(one.rows) if row not in one.refused]
    if one.refused.keys() != other.refused.keys():
        return False
    left, right = parts(one.stimuli(rows)), parts(other.stimuli(rows))
    return all(torch.equal(left[name], right[name]) for name in left)


def alike(one: StimuliCache, other: StimuliCache) -> bool:
    """As `same`, but for roundings: with other numbers of threads sums have another order."""
    rows = [row for row in range(one.rows) if row not in one.refused]
    left, right = parts(one.stimuli(rows)), parts(other.stimuli(rows))
    return one.refused == other.refused and all(
        torch.allclose(value.float(), right[name].float(), rtol=2e-3, atol=2e-3)
        for name, value in left.items()
    )


def shards(cache: StimuliCache) -> list[Path]:
    return sorted(cache.folder.glob("shards/*.safetensors"))
