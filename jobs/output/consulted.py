"""The earlier runs whose answers a run copies, fixed when it begins.

``_run/since.json`` names them, with the digests of their manifests, and is written before the run's
identity, which covers these digests. So later attempts, and other shards, copy from the same rows,
whatever has been finished since.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from handler.values.errors import VeaError
from handler.values.runtimes import TORCH
from jobs.output.delta_answers import is_table, runs_of
from jobs.output.finished_runs import find_runs
from jobs.output.parquet import SCORED_BY
from jobs.storage.folders import Folder, open_folder
from jobs.storage.stores import Stores
from jobs.values.chunks import RunIdentity
from jobs.values.layout import IDENTITY, MANIFEST, RUN, SINCE
from jobs.values.locations import is_in_store


class ConsultedError(VeaError):
    """Earlier runs cannot be consulted; the message is one line for people."""


@dataclass(frozen=True)
class EarlierRun:
    """A finished run, as it is consulted.

    Attributes:
        location: Folder of the run, an absolute path or ``s3://bucket/prefix``.
        run_id: Identifier of the run.
        manifest_sha256: SHA-256 of its manifest, which has the digests of its files; of a run in a
            Delta table the version of the table.
        in_table: Whether ``location`` is a Delta table.
    """

    location: str
    run_id: str
    manifest_sha256: str
    in_table: bool = False

    def manifest(self, stores: Stores) -> tuple[Folder, dict[str, Any]]:
        """The folder and the manifest of the run.

        Raises:
            ConsultedError: The run is gone, or is not as it was.
        """
        found = None
        if is_in_store(self.location) or os.path.isdir(self.location):
            folder = open_folder(self.location, stores)
            if MANIFEST in folder.list():
                found = folder.read(MANIFEST)
        if found is None or hashlib.sha256(found).hexdigest() != self.manifest_sha256:
            raise ConsultedError(
                f"{self.location} is not as it was when this run began to copy from it: choose "
                "another --out, or give the folder back"
            )
        return folder, dict(json.loads(found))


@dataclass(frozen=True)
class Consulted:
    """The runs that a run copies from; where several have an answer, the last one's is copied.

    Attributes:
        root: Location that the user named.
        runs: Runs in the order of their locations.
    """

    root: str
    runs: tuple[EarlierRun, ...]

    @property
    def digest(self) -> str:
        """SHA-256 of what decides which answers are copied, hexadecimal."""
        text = json.dumps([[run.run_id, run.manifest_sha256] for run in self.runs])
        return hashlib.sha256(text.encode()).hexdigest()


def consult(
    root: str, folder: Folder, identity: RunIdentity, stores: Stores, *, keep: bool = True
) -> Consulted:
    """The runs that a run copies from: those that its first attempt found.

    Args:
        root: Folder of earlier runs, a path or ``s3://bucket/prefix``.
        folder: Output folder of the run.
        identity: Identity of the run, apart from what it copies from.
        stores: Clients of the object stores.
        keep: Whether the runs are recorded for later attempts.

    Raises:
        ConsultedError: The run began with another root, or its record is damaged.
        VeaError: The root cannot be listed, or a manifest cannot be read.
    """
    root = root.rstrip("/") if is_in_store(root) else os.path.abspath(root)
    inside = folder.list(RUN)
    if SINCE in inside:
        known = _read(folder)
        if known.root == root:
            return known
        if IDENTITY in inside:
            raise ConsultedError(
                f"the run in {folder.location} copies from {known.root}: start it again with that "
                "--since, or choose another --out"
            )
    found = Consulted(root, tuple(_runs(root, folder, identity, stores)))
    # A run that began without earlier ones is refused by the ledger.
    if IDENTITY in inside or not keep:
        return found
    content = (json.dumps(asdict(found), indent=2) + "\n").encode()
    if SINCE in inside:  # left by an attempt that claimed nothing
        folder.write(SINCE, content)
    elif not folder.create(SINCE, content):
        return _read(folder)
    return found


def _runs(root: str, folder: Folder, identity: RunIdentity, stores: Stores) -> list[EarlierRun]:
    if is_table(root, stores):
        version, run_ids = runs_of(root, identity, stores)
        return [EarlierRun(root, run_id, version, in_table=True) for run_id in run_ids]
    own = folder.location if is_in_store(folder.location) else os.path.abspath(folder.location)
    runs = []
    for found in find_runs(root, stores):
        if not found.finished or found.failed or found.erasing or found.location == own:
            continue
        content = open_folder(found.location, stores).read(MANIFEST)
        try:
            manifest = dict(json.loads(content))
            settings = dict(manifest.get("settings", {}))  # none in those of early versions
        except (ValueError, TypeError):
            raise ConsultedError(f"{MANIFEST} in {found.location} is damaged") from None
        if _has_same_answers(settings, identity):
            digest = hashlib.sha256(content).hexdigest()
            runs.append(EarlierRun(found.location, str(manifest["run_id"]), digest))
    return runs


def _has_same_answers(settings: Mapping[str, Any], identity: RunIdentity) -> bool:
    """Whether a run's rows have all that this run's rows need, by the same model."""
    return (
        settings.get("model_digest") == identity.model_digest
        and settings.get("runtime", TORCH) == identity.runtime
        and settings.get("faces", True) == identity.faces
        and settings.get("max_bytes") == identity.max_bytes
        and settings.get("max_pixels") == identity.max_pixels
        and (bool(settings.get("boxes")) or not identity.boxes)
        and (bool(settings.get("content_hash")) or not identity.content_hash)
        and (bool(settings.get("embeddings")) or not identity.embeddings)
        and _has_columns(settings.get("columns"), identity)
    )


def _has_columns(there: Sequence[str] | None, identity: RunIdentity) -> bool:
    """Whether a run's files have all columns of the model's answer that this run's files have."""
    if there is None:
        return True
    own = {*identity.keep, SCORED_BY}
    return identity.columns is not None and {*identity.columns} - own <= {*there}


def _read(folder: Folder) -> Consulted:
    try:
        found = json.loads(folder.read(SINCE))
        return Consulted(str(found["root"]), tuple(EarlierRun(**run) for run in found["runs"]))
    except (ValueError, TypeError, KeyError):
        raise ConsultedError(
            f"{SINCE} in {folder.location} is damaged: empty the folder or choose another --out"
        ) from None
