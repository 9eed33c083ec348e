"""What an archive is: the unit that is trained, versioned, served and scored with.

An archive is a folder, or a zip file ending in ``.mar``, that holds

    config.json            name, version, network and selector settings
    weights.safetensors    ``network.*`` and ``objects.*`` tensors
    face_landmarks.dat     dlib's 5-point landmark predictor
    face_detector.dat      dlib's CNN face detector, only where the settings ask for it
    model_card.json        what it was trained on, how well it does, what it may be used for
    contents.json          SHA-256 of each file; the hash of this file is the archive's digest

and, in a ``.mar``, the code that serves it. Nothing in it is a pickle. What is not of this format,
or does not match its own digests, is refused with `ArchiveError`.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from handler.network import NetworkConfig, StimuliAwareNetwork
from handler.stimuli.selector import SelectorConfig, StimuliSelector
from handler.values.errors import VeaError

FORMAT = 1
CONFIG, WEIGHTS, LANDMARKS = "config.json", "weights.safetensors", "face_landmarks.dat"
FACE_DETECTOR = "face_detector.dat"
CARD, CONTENTS = "model_card.json", "contents.json"
_MODEL_FILES = (CONFIG, WEIGHTS, LANDMARKS, CARD)
_CHUNK = 1 << 20  # bytes unpacked at a time
_HALF_LIMIT = torch.finfo(torch.float16).max
# Cell anchors are coordinates, to which boxes are relative: half precision would move the boxes.
_PRECISE = frozenset({"objects.anchors"})
# RuntimeError: the zip file is encrypted, or packed by a method that Python does not know.
_ZIP_ERRORS = (zipfile.BadZipFile, KeyError, OSError, EOFError, RuntimeError, zlib.error)


class ArchiveError(VeaError):
    """Not an archive of this format, or a damaged one; the message is one line for people."""


@dataclass(frozen=True)
class ArchiveConfig:
    """What ``config.json`` says.

    Attributes:
        name: of the model, as TorchServe and the parquet rows know it.
        version: of the model.
        network: organism and response.
        selector: stimuli.
    """

    name: str
    version: str
    network: NetworkConfig
    selector: SelectorConfig

    def to_json(self) -> str:
        """The text of ``config.json``."""
        values = {
            "format": FORMAT,
            "name": self.name,
            "version": self.version,
            "network": self.network.to_dict(),
            "selector": asdict(self.selector),
        }
        return json.dumps(values, indent=2, sort_keys=True) + "\n"

    @classmethod
    def from_json(cls, text: str) -> ArchiveConfig:
        """Raises: ArchiveError: not a configuration of this format."""
        try:
            values = json.loads(text)
            if values["format"] != FORMAT:
                raise ArchiveError(
                    f"the archive has format {values['format']}; this program reads format {FORMAT}"
                )
            return cls(
                name=values["name"],
                version=values["version"],
                network=NetworkConfig.from_dict(values["network"]),
                selector=SelectorConfig.from_dict(values["selector"]),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ArchiveError(f"{CONFIG} is not a model configuration: {error}") from None


@dataclass(frozen=True)
class LoadedArchive:
    """An archive in memory.

    Attributes:
        config: names and settings.
        digest: SHA-256 (hex) that identifies everything in the archive.
        card: the model card.
        network: in evaluation mode, on the CPU, float32.
        selector: likewise.
    """

    config: ArchiveConfig
    digest: str
    card: dict[str, Any]
    network: StimuliAwareNetwork
    selector: StimuliSelector


def write_model_folder(
    folder: Path,
    *,
    config: ArchiveConfig,
    network: StimuliAwareNetwork,
    selector: StimuliSelector,
    landmarks: Path,
    card: dict[str, Any],
    face_detector: Path | None = None,
) -> None:
    """Write the model files into ``folder``, matrices and filters in half precision.

    Args:
        folder: made if it is not there.
        config: names and settings.
        network: with its weights.
        selector: likewise.
        landmarks: the face landmark file.
        card: the model card.
        face_detector: the face detector's file, needed where ``config`` searches faces with it.

    Raises:
        ArchiveError: the face detector's file is needed and not given.
    """
    if needs_face_detector(config) and face_detector is None:
        raise ArchiveError(f"face search 'cnn' needs a {FACE_DETECTOR}: give face_detector")
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {f"network.{k}": v for k, v in network.state_dict().items()}
    tensors |= {f"objects.{k}": v for k, v in selector.objects.state_dict().items()}
    save_file({k: _compact(k, v) for k, v in sorted(tensors.items())}, folder / WEIGHTS)
    (folder / CONFIG).write_text(config.to_json())
    shutil.copyfile(landmarks, folder / LANDMARKS)
    if needs_face_detector(config) and face_detector is not None:
        shutil.copyfile(face_detector, folder / FACE_DETECTOR)
    else:  # what an earlier model left here would be sealed with this one
        (folder / FACE_DETECTOR).unlink(missing_ok=True)
    write_card(folder, card)


def needs_face_detector(config: ArchiveConfig) -> bool:
    """Whether an archive of this configuration holds ``face_detector.dat``."""
    return config.selector.faces.backend == "cnn"


def write_card(folder: Path, card: dict[str, Any]) -> None:
    """Write ``model_card.json`` and seal the folder anew."""
    (folder / CARD).write_text(json.dumps(card, indent=2, sort_keys=True) + "\n")
    seal(folder)


def seal(folder: Path) -> str:
    """Write ``contents.json`` for all files in ``folder``; returns the archive's digest."""
    files = [p for p in sorted(folder.rglob("*")) if p.is_file()]
    digests = {
        p.relative_to(folder).as_posix(): _sha256_of(p)
        for p in files
        if p.relative_to(folder).as_posix() != CONTENTS
    }
    text = json.dumps(digests, indent=2, sort_keys=True) + "\n"
    (folder / CONTENTS).write_text(text)
    return _sha256(text.encode())


def load_archive(path: Path, *, face_threads: int = 1) -> LoadedArchive:
    """Read an archive, folder or ``.mar``.

    Args:
        path: the archive.
        face_threads: images searched for faces at a time.

    Raises:
        ArchiveError: there is no archive of this format at ``path``.
        VeaError: the archive needs a package that is not installed; the message says which.
    """
    with model_folder(Path(path)) as folder:
        config, card, digest = _read_settings(folder)
        files = [LANDMARKS, *([FACE_DETECTOR] if needs_face_detector(config) else [])]
        try:
            network = StimuliAwareNetwork(config.network)
            selector = StimuliSelector(
                config.selector,
                landmarks=folder / LANDMARKS,
                face_detector=folder / FACE_DETECTOR if FACE_DETECTOR in files else None,
                face_threads=face_threads,
            )
        except VeaError:  # it says itself what to do, and the archive is not to blame
            raise
        except Exception as error:  # torch, timm and dlib raise various types for wrong settings
            raise ArchiveError(
                f"no model can be built from {CONFIG} and {' and '.join(files)}: {_line(error)}"
            ) from None
        _fill(folder / WEIGHTS, network=network, objects=selector.objects)
    network.eval().requires_grad_(False)
    return LoadedArchive(config, digest, card, network, selector)


def read_card(path: Path) -> tuple[ArchiveConfig, dict[str, Any], str]:
    """Configuration, card and digest of an archive, without building its networks."""
    with model_folder(Path(path)) as folder:
        return _read_settings(folder)


@contextmanager
def model_folder(path: Path) -> Iterator[Path]:
    """The folder that holds the model files, unpacked for the while if ``path`` is a file."""
    if path.is_dir():
        yield path
        return
    if not path.is_file():
        raise ArchiveError(f"there is no archive at {path}")
    with tempfile.TemporaryDirectory(prefix="vea-") as scratch:
        try:
            with zipfile.ZipFile(path) as packed:
                optional = [name for name in (FACE_DETECTOR,) if name in packed.namelist()]
                for name in (*_MODEL_FILES, CONTENTS, *optional):
                    with packed.open(name) as source, Path(scratch, name).open("wb") as target:
                        shutil.copyfileobj(source, target, _CHUNK)
        except _ZIP_ERRORS as error:
            raise ArchiveError(f"{path} is not a model archive: {error}") from None
        yield Path(scratch)


def _verify(folder: Path, names: Sequence[str]) -> str:
    """Check files against ``contents.json``; returns the archive's digest."""
    try:
        text = (folder / CONTENTS).read_text()
        digests = json.loads(text)
        for name in names:
            if _sha256_of(folder / name) != digests[name]:
                raise ArchiveError(f"{name} does not match the digest in {CONTENTS}")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ArchiveError(f"{folder} is not a model archive: {error}") from None
    return _sha256(text.encode())


def _fill(weights: Path, **parts: torch.nn.Module) -> None:
    try:
        tensors = load_file(weights)
        for prefix, part in parts.items():
            state = {
                key.removeprefix(f"{prefix}."): value
                for key, value in tensors.items()
                if key.startswith(f"{prefix}.")
            }
            part.load_state_dict(state)
    except Exception as error:  # safetensors and torch raise various types for a wrong file
        raise ArchiveError(f"{WEIGHTS} does not fit {CONFIG}: {_line(error)}") from None


def _read_settings(folder: Path) -> tuple[ArchiveConfig, dict[str, Any], str]:
    """Configuration, card and digest of a folder whose files have not been tampered with."""
    digest = _verify(folder, _MODEL_FILES)
    config = ArchiveConfig.from_json(_text(folder / CONFIG))
    if needs_face_detector(config):
        _verify(folder, [FACE_DETECTOR])
    try:
        card = json.loads(_text(folder / CARD))
    except ValueError as error:
        raise ArchiveError(f"{CARD} is not a model card: {error}") from None
    if not isinstance(card, dict):
        raise ArchiveError(f"{CARD} is not a model card: expected a JSON object")
    return config, card, digest


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise ArchiveError(f"{file.name} is not a text file") from None


def _line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def _compact(name: str, tensor: torch.Tensor) -> torch.Tensor:
    """The tensor as it is stored.

    Filters and matrices are nearly all of an archive and lose nothing in half precision.
    Statistics of norms and biases are small and can be large numbers: they stay as they are, and
    so does whatever half precision cannot hold.
    """
    tensor = tensor.detach().cpu().contiguous()
    if not tensor.is_floating_point() or tensor.ndim < 2 or name in _PRECISE:
        return tensor
    fits = tensor.numel() == 0 or bool(tensor.abs().max() <= _HALF_LIMIT)
    return tensor.half() if fits else tensor


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _sha256_of(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
