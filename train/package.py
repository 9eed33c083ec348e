"""Weights -> ``.mar``: one file that TorchServe serves and `Predictor` loads.

torch-model-archiver writes creation times into its archive, so the archive is repacked with
sorted names and fixed dates: the same inputs give the same bytes. Graphs in 8 bits leave out the
weights that they can compute from the files of weights.
"""

from __future__ import annotations

import filecmp
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

import handler
from handler.archive import files as archive
from handler.atomic_files import atomic_write
from handler.values.archive_config import ArchiveConfig
from handler.values.errors import VeaError
from handler.values.runtimes import INT8
from train.compiling.references import safetensors_files
from train.compiling.remainders import leave_out_weights

_MANIFEST = "MAR-INF/MANIFEST.json"
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest date a zip file can hold
_SERVING = "model-config.yaml"
_COMPRESSION = 8  # of 9, which would take three times as long for the last tenth of a megabyte
# What no prediction runs: a change of it must not make another model.
_NOT_PACKED = (
    "client",
    "drawing",
    "writing.py",
    "atomic_files.py",
    "photo_folders.py",
    "py.typed",
    "__pycache__",
    ".*",
)


class PackageError(VeaError):
    """The archive could not be written. The message is one line for the user."""


def package(
    model: Path,
    out: Path,
    *,
    name: str,
    version: str,
    card: dict[str, Any],
    serving: dict[str, Any] | None = None,
    code: Path | None = None,
    force: bool = False,
) -> Path:
    """Make ``OUT/NAME-VERSION.mar``.

    Args:
        model: Model folder that training wrote, or an archive, whose weights are packed with the
            installed code.
        out: Folder of the archive.
        name: Name of the model for TorchServe and in every prediction.
        version: Version of the model for TorchServe and in every prediction.
        card: Entries that are merged over the model folder's own card.
        serving: TorchServe's per-model settings; by default `default_serving`.
        code: Folder of the package ``handler``; this program's own if not given.
        force: Whether an archive of this name and version with other content may be replaced.

    Raises:
        ArchiveError: ``model`` is neither a model folder nor an archive.
        PackageError: torch-model-archiver failed, or there is another archive of this name and
            version.
    """
    config, own_card, _ = archive.read_card(model)
    config = replace(config, name=name, version=version)
    with (
        tempfile.TemporaryDirectory(prefix="vea-package-") as scratch,
        archive.model_folder(model) as folder,
    ):
        staging, packed = Path(scratch, "staging"), Path(scratch, "packed")
        source, target_code = code or Path(handler.__file__).parent, staging / "handler"
        shutil.copytree(source, target_code, ignore=shutil.ignore_patterns(*_NOT_PACKED))
        shutil.copy(target_code / "serving" / "service.py", staging / "service.py")
        weights = archive.weight_files(config)
        compiled = archive.compiled_files(config).values()
        precise = archive.precise_files(config).values()
        for file in (*weights, *compiled, *precise):
            shutil.copy(folder / file, staging / file)
        if config.compiled == INT8:
            _leave_out_doubles(staging, config)
        (staging / archive.CONFIG).write_text(config.to_json())
        (staging / _SERVING).write_text(yaml.safe_dump(serving or default_serving()))
        identity = {"name": name, "version": version, "program": f"vea {handler.__version__}"}
        archive.write_card(staging, {**own_card, **card, "model": identity})
        _run_archiver(staging, packed, name=name, version=version)
        out.mkdir(parents=True, exist_ok=True)
        target = out / f"{name}-{version}.mar"
        _repack(packed / f"{name}.mar", packed / target.name)
        if target.exists() and filecmp.cmp(packed / target.name, target, shallow=False):
            return target
        if target.exists() and not force:
            raise PackageError(
                f"{target} exists and has other content: give the new archive another --version, "
                "or replace that one with --force"
            )
        with atomic_write(target) as partial:
            shutil.copyfile(packed / target.name, partial)
    return target


def _leave_out_doubles(folder: Path, config: ArchiveConfig) -> None:
    """Take out of 8-bit graphs what they can make of the weights beside them."""
    weights = safetensors_files(folder, config)
    for name in archive.compiled_files(config).values():
        leave_out_weights(folder / name, folder / name, weights)


def default_serving() -> dict[str, Any]:
    """TorchServe's settings for the model.

    The number of workers depends on the machine, not on the model, and is not set: TorchServe then
    starts one for each core, and `vea serve` as many as fit into memory.
    """
    return {
        "batchSize": 4,
        "maxBatchDelay": 10,  # milliseconds that a lone request waits for company
        "responseTimeout": 120,
        "startupTimeout": 300,  # the handler scores before it says that it is ready
    }


def _run_archiver(staging: Path, packed: Path, *, name: str, version: str) -> None:
    packed.mkdir()
    # The archiver deletes $TMPDIR/<model name> before it starts: give it a place of its own.
    scratch = packed / "tmp"
    scratch.mkdir()
    # It copies the handler and the settings file beside the extra files by itself.
    extras = packed / "extras"
    shutil.copytree(staging, extras, ignore=shutil.ignore_patterns("service.py", _SERVING))
    shutil.copytree(staging / "handler", extras / "handler", dirs_exist_ok=True)
    command = [
        *(sys.executable, "-P", "-m", "model_archiver.model_packaging"),
        *("--model-name", name, "--version", version),
        *("--handler", str(staging / "service.py")),
        *("--config-file", str(staging / _SERVING)),
        *("--extra-files", str(extras)),
        *("--archive-format", "zip-store"),  # it is packed anew anyway
        *("--export-path", str(packed)),
    ]
    environment = {**os.environ, "TMPDIR": str(scratch), "TEMP": str(scratch)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or ["no message"]
        raise PackageError(f"torch-model-archiver failed: {lines[-1]}")


def _repack(source: Path, target: Path) -> None:
    with zipfile.ZipFile(source) as packed, zipfile.ZipFile(target, "w") as repacked:
        for name in sorted(n for n in packed.namelist() if not n.endswith("/")):
            entry = zipfile.ZipInfo(name, date_time=_EPOCH)
            entry.external_attr = 0o644 << 16
            content = packed.read(name)
            if name == _MANIFEST:
                manifest = json.loads(content)
                manifest.pop("createdOn", None)
                content = json.dumps(manifest, indent=2, sort_keys=True).encode() + b"\n"
            repacked.writestr(entry, content, zipfile.ZIP_DEFLATED, _COMPRESSION)
