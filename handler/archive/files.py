"""What an archive is: the unit that is trained, versioned, served and scored with.

An archive is a folder, or a zip file ending in ``.mar``, that holds

    config.json            name, version, network and selector settings
    weights.safetensors    ``network.*`` and ``objects.*`` tensors
    face_landmarks.dat     dlib's 5-point landmark predictor, only for dlib's face sources
    global_backbone.onnx   compiled forms, only where the settings say ``compiled``: of Global-Net's
    object_backbone.onnx   backbone, of the network of the grid or light object source, and of the
    face_detector.onnx     network of the light face source
    backbones.onnx         the first two in one graph, where the settings say ``shared_graph``
    expression_net.onnx    Expression-Net, where the settings say ``expression_graph``
    *_float32.onnx         these in float32, without the face network, for photos that the 8-bit
                           form is unsure of; only where the settings say ``recheck_ratio``
    thing_detector.safetensors  weights of the detector of further reasons, and its compiled form,
    thing_detector.onnx    only where the settings say ``reasons``
    face_detector.dat      dlib's CNN face detector, only where the settings ask for it
    face_detector.safetensors  weights of the face source ``light``, likewise
    model_card.json        what it was trained on, how well it does, what it may be used for
    contents.json          SHA-256 of each file; the hash of this file is the archive's digest

and, in a ``.mar``, the code that serves it. Graphs take their weights from the safetensors files.
Nothing in it is a pickle. What is not of this format, or does not match its own digests, is refused
with `ArchiveError`.
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
from pathlib import Path
from typing import Any

from handler.values.archive_config import ArchiveConfig
from handler.values.backbones import EXPRESSION, FACES, GLOBAL, OBJECTS, REASONS, SHARED
from handler.values.configs import BLAZEFACE, NO_FACES
from handler.values.errors import ArchiveError

CONFIG, WEIGHTS, LANDMARKS = "config.json", "weights.safetensors", "face_landmarks.dat"
FACE_DETECTOR, LIGHT_FACE_DETECTOR = "face_detector.dat", "face_detector.safetensors"
_FACE_DETECTORS = {"cnn": FACE_DETECTOR, **dict.fromkeys(BLAZEFACE, LIGHT_FACE_DETECTOR)}
_WITHOUT_LANDMARKS = (*BLAZEFACE, NO_FACES)
THING_DETECTOR = "thing_detector.safetensors"
CARD, CONTENTS = "model_card.json", "contents.json"
_COMPILED = {
    SHARED: "backbones.onnx",
    GLOBAL: "global_backbone.onnx",
    OBJECTS: "object_backbone.onnx",
    EXPRESSION: "expression_net.onnx",
    FACES: "face_detector.onnx",
    REASONS: "thing_detector.onnx",
}
_PRECISE = {
    SHARED: "backbones_float32.onnx",
    GLOBAL: "global_backbone_float32.onnx",
    OBJECTS: "object_backbone_float32.onnx",
    EXPRESSION: "expression_net_float32.onnx",
}
_MODEL_FILES = (CONFIG, WEIGHTS, CARD)
_CHUNK = 1 << 20  # bytes unpacked at a time
# RuntimeError: the zip file is encrypted, or packed by a method that Python does not know.
_ZIP_ERRORS = (zipfile.BadZipFile, KeyError, OSError, EOFError, RuntimeError, zlib.error)


def face_detector_file(config: ArchiveConfig) -> str | None:
    """Name of the face detector's file; None for a configuration without one."""
    return _FACE_DETECTORS.get(config.selector.faces.backend)


def landmark_file(config: ArchiveConfig) -> str | None:
    """Name of the face landmark file; None for a face source that does without."""
    return None if config.selector.faces.backend in _WITHOUT_LANDMARKS else LANDMARKS


def face_files(config: ArchiveConfig) -> list[str]:
    """Names of the files that the face source needs."""
    return [name for name in (landmark_file(config), face_detector_file(config)) if name]


def weight_files(config: ArchiveConfig) -> list[str]:
    """Names of the files of weights, of the detectors too, without compiled forms."""
    things = [] if config.reasons is None else [THING_DETECTOR]
    return [WEIGHTS, *face_files(config), *things]


def remove_face_files(folder: Path) -> None:
    """Delete the files of every face source from a model folder."""
    for name in (LANDMARKS, *_FACE_DETECTORS.values()):
        (folder / name).unlink(missing_ok=True)


def compiled_files(config: ArchiveConfig) -> dict[str, str]:
    """Name of the file of each compiled backbone; empty for an archive without a compiled form."""
    return {} if config.compiled is None else _of_parts(_COMPILED, config)


def precise_files(config: ArchiveConfig) -> dict[str, str]:
    """Name of the float32 file of each backbone whose compiled form has 8 bits.

    Empty for an archive that rechecks nothing.
    """
    return {} if not config.rechecks else _of_parts(_PRECISE, config)


def _of_parts(files: dict[str, str], config: ArchiveConfig) -> dict[str, str]:
    network, objects, apart = config.network, config.selector.objects, not config.shared_graph
    there = {
        SHARED: config.shared_graph,
        GLOBAL: apart and network.global_backbone,
        OBJECTS: apart and objects.get("source") in ("grid", "light"),
        EXPRESSION: config.expression_graph,
        FACES: config.selector.faces.backend in BLAZEFACE,
        REASONS: config.reasons is not None,
    }
    return {part: file for part, file in files.items() if there[part]}


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


def read_card(path: Path) -> tuple[ArchiveConfig, dict[str, Any], str]:
    """Configuration, card and digest of an archive, without building its networks."""
    with model_folder(Path(path)) as folder:
        return read_settings(folder)


@contextmanager
def model_folder(path: Path) -> Iterator[Path]:
    """The folder that holds the model files, unpacked for the while if ``path`` is a file."""
    if path.is_dir():
        inner = path / "model"
        if not (path / CONTENTS).exists() and (inner / CONTENTS).is_file():
            raise ArchiveError(f"{path} is the folder of a run: its model is {inner}")
        yield path
        return
    if not path.is_file():
        raise ArchiveError(f"there is no archive at {path}")
    with tempfile.TemporaryDirectory(prefix="vea-") as scratch:
        try:
            with zipfile.ZipFile(path) as packed:
                inside = set(packed.namelist())
                detectors = LANDMARKS, *_FACE_DETECTORS.values(), THING_DETECTOR
                possible = (*detectors, *_COMPILED.values(), *_PRECISE.values())
                optional = [name for name in possible if name in inside]
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


def read_settings(folder: Path) -> tuple[ArchiveConfig, dict[str, Any], str]:
    """Configuration, card and digest of a folder whose files have not been tampered with."""
    digest = _verify(folder, _MODEL_FILES)
    config = ArchiveConfig.from_json(_text(folder / CONFIG))
    graphs = *compiled_files(config).values(), *precise_files(config).values()
    _verify(folder, [name for name in weight_files(config) if name != WEIGHTS])
    _verify(folder, graphs)
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


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _sha256_of(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
