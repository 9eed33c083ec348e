"""Another version of an archive, whole and sealed, made without training: for tests of versions."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load, save

_CONFIG, _WEIGHTS, _CONTENTS = "config.json", "weights.safetensors", "contents.json"
_MANIFEST = "MAR-INF/MANIFEST.json"
_BIAS = "network.response.classifier.bias"


def other_version(
    archive: Path,
    target: Path,
    *,
    version: str,
    shift: float = 0.0,
    files: Mapping[str, str] | None = None,
    sealed: bool = True,
) -> Path:
    """Write an archive like ``archive`` but for its version, and for what is asked for.

    Args:
        archive: the ``.mar`` to begin with.
        target: the file to write.
        version: of the new archive.
        shift: added to the classifier's bias, alternately up and down, so that answers differ.
        files: other contents, by name in the archive.
        sealed: write a list of contents that fits; else the list stays the one of ``archive``.
    """
    with zipfile.ZipFile(archive) as packed:
        contents = {name: packed.read(name) for name in packed.namelist()}
    config = json.loads(contents[_CONFIG])
    contents[_CONFIG] = json.dumps({**config, "version": version}).encode()
    manifest = json.loads(contents[_MANIFEST])
    manifest["model"]["modelVersion"] = version
    contents[_MANIFEST] = json.dumps(manifest).encode()
    if shift:
        weights = load(contents[_WEIGHTS])
        signs = torch.tensor([1.0, -1.0]).repeat(len(weights[_BIAS]) // 2)
        weights[_BIAS] = weights[_BIAS] + (shift * signs).to(weights[_BIAS].dtype)
        contents[_WEIGHTS] = save(weights)
    contents |= {name: text.encode() for name, text in (files or {}).items()}
    if sealed:
        digests = {
            name: hashlib.sha256(data).hexdigest()
            for name, data in contents.items()
            if name not in (_CONTENTS, _MANIFEST)
        }
        contents[_CONTENTS] = json.dumps(digests, sort_keys=True).encode()
    target.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(target, "w") as written:
        for name, data in contents.items():
            written.writestr(name, data)
    return target
