"""Weights files: their place and their header.

A weights file is one safetensors file. Its metadata key ``vea`` holds JSON: the format, the kind of
network that its tensors fill, what that network must be told (``settings``), where the weights came
from, and the SHA-256 of the file that they were imported from. They lie in the weights home,
``$VEA_WEIGHTS`` or ``~/.cache/vea/weights``, as ``NAME.safetensors``; recipes call them by NAME.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from handler.atomic_files import atomic_write
from handler.values.errors import VeaError
from train.weights.sources import SOURCES

FORMAT = 1
KINDS = ("visual_genome", "coco", "light", "backbone", "face_resnet", "blazeface")
SUFFIX = ".safetensors"
_METADATA = "vea"
SHIPPED = Path(__file__).parent  # weights that come with the program
# What a recipe's `init` says without meaning a file.
RESERVED = ("random", "imagenet")


class WeightsError(VeaError):
    """A weights file is invalid. The message is one line for the user."""


class WeightsMissing(WeightsError):
    """Weights are not installed. The message says how to get them."""


@dataclass(frozen=True)
class Header:
    """The header of a weights file.

    Attributes:
        kind: Kind of the network that the weights are for, one of `KINDS`.
        settings: Settings that the network needs, such as its vocabulary.
        source: Description of the weights' origin.
        sha256: SHA-256 of the file that they were imported from, in hexadecimal digits; empty
            without one.
    """

    kind: str
    settings: dict[str, Any] = field(default_factory=dict)
    source: str = ""
    sha256: str = ""


def weights_home() -> Path:
    """The folder of imported weights, which need not exist yet."""
    chosen = os.environ.get("VEA_WEIGHTS")
    if chosen:
        return Path(chosen).expanduser()
    caches = os.environ.get("XDG_CACHE_HOME")
    return (Path(caches) if caches else Path.home() / ".cache") / "vea" / "weights"


def check_name(name: str) -> str:
    """Return ``name`` if it is a valid name of weights.

    Raises:
        WeightsError: The weights cannot be loaded.
    """
    if name in RESERVED or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        raise WeightsError(
            f"'{name}' is not a valid name of weights: expected letters, digits, '.', '_' or '-', "
            f"and none of {', '.join(RESERVED)}"
        )
    return name


def find_weights(name: str) -> Path:
    """The file of the weights called ``name``: in the home, or one that comes with the program.

    A name that ends in .safetensors is a path.

    Raises:
        WeightsMissing: The file does not exist; the message says how to get it.
    """
    if name.endswith(SUFFIX):
        path = Path(name).expanduser()
        if not path.is_file():
            raise WeightsMissing(f"there is no weights file {path}")
        return path
    file = f"{check_name(name)}{SUFFIX}"
    path = weights_home() / file
    if not path.is_file() and (SHIPPED / file).is_file():
        return SHIPPED / file
    if not path.is_file():
        ways = "`vea import-weights FILE`"
        if name in SOURCES:
            ways = f"`vea fetch-weights {name}`, or import a file that you have with {ways}"
        raise WeightsMissing(
            f"there are no weights '{name}' in {path.parent}: get them with {ways}, "
            "or set init: random in the recipe"
        )
    return path


def read_header(path: Path) -> Header:
    """The header of a weights file.

    Raises:
        WeightsError: The file is not a weights file of this format.
    """
    try:
        with safe_open(path, framework="pt") as file:
            return _parse(path, (file.metadata() or {}).get(_METADATA))
    except (SafetensorError, OSError) as error:
        raise WeightsError(_damaged(path, error)) from None


def read_weights(path: Path) -> tuple[Header, dict[str, torch.Tensor]]:
    """Header and tensors of a weights file.

    Raises:
        WeightsError: The file is not a weights file of this format, or it is damaged.
    """
    header = read_header(path)
    try:
        with safe_open(path, framework="pt") as file:
            return header, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise WeightsError(_damaged(path, error)) from None


def write_weights(path: Path, header: Header, tensors: Mapping[str, torch.Tensor]) -> Path:
    """Write a weights file atomically.

    Raises:
        WeightsError: The folder cannot be written to.
    """
    document = {
        "format": FORMAT,
        "kind": header.kind,
        "settings": header.settings,
        "source": header.source,
        "sha256": header.sha256,
    }
    try:
        with atomic_write(path) as partial:
            packed = {name: tensor.detach().contiguous() for name, tensor in tensors.items()}
            save_file(packed, partial, metadata={_METADATA: json.dumps(document)})
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"cannot write {path}: {_line(error)}") from None
    return path


def list_weights(home: Path) -> list[tuple[Path, Header]]:
    """The weights files in ``home`` by name, without other safetensors files."""
    found = []
    for path in sorted(home.glob(f"*{SUFFIX}")):
        try:
            found.append((path, read_header(path)))
        except WeightsError:
            continue
    return found


def file_sha256(*paths: Path) -> str:
    """SHA-256 (hex) of a file, or of several, one after the other.

    Raises:
        WeightsError: A file cannot be read.
    """
    digest = hashlib.sha256()
    for path in paths:
        try:
            with path.open("rb") as file:
                hashlib.file_digest(file, lambda: digest)
        except OSError as error:
            raise WeightsError(f"cannot read {path}: {error.strerror or error}") from None
    return digest.hexdigest()


def _parse(path: Path, text: str | None) -> Header:
    if text is None:
        raise WeightsError(
            f"{path} is a safetensors file but not a weights file of this program: "
            "import it with `vea import-weights FILE`"
        )
    try:
        document = json.loads(text)
        found, kind, settings = document["format"], document["kind"], document.get("settings", {})
    except (ValueError, TypeError, KeyError, AttributeError):
        raise WeightsError(f"{path} is damaged: its metadata hold no valid header") from None
    if found != FORMAT or kind not in KINDS or not isinstance(settings, dict):
        raise WeightsError(
            f"{path} has format {found}, kind {kind}: this program reads format {FORMAT}, "
            f"kinds {', '.join(KINDS)}"
        )
    return Header(kind, settings, str(document.get("source", "")), str(document.get("sha256", "")))


def _damaged(path: Path, error: Exception) -> str:
    return f"{path} cannot be read as weights (safetensors): {_line(error)}"


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
