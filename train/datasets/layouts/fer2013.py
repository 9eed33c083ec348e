"""FER2013 (Goodfellow et al. 2013): 48x48 grey faces with seven expressions, in all its forms.

The Expression-Net is pre-trained on it (Sec. III-B3). It is handed around as ``fer2013.csv`` and
``icml_face_data.csv`` (emotion, pixels, usage), as the competition's ``train.csv`` (no usage), as
``data.h5`` and as folders of images; a table of pixels comes out of each of them.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from handler.images import ImageRefused, decode
from handler.values.emotions import EXPRESSIONS, expression_index
from train.datasets.files import header_of, is_image, printable
from train.datasets.table import DatasetError

__all__ = ["EXPRESSIONS", "SIDE", "FerTable", "find_fer2013", "read_fer2013"]

SIDE = 48
# Most complete first: one that says the usage wins over one that does not.
_CSV_NAMES = ("fer2013.csv", "icml_face_data.csv", "train.csv")
_H5_NAMES = ("data.h5", "fer2013.h5")
_USAGES = {
    **{name.lower(): name for name in ("Training", "PublicTest", "PrivateTest")},
    **{name: name for name in ("train", "val", "test")},
    "validation": "val",
}
# The grey of a colour picture, as ITU-R BT.601 weighs red, green and blue.
_LUMA = np.array([0.299, 0.587, 0.114])


@dataclass(frozen=True)
class FerTable:
    """FER2013 in memory (83 MB when complete).

    Attributes:
        pixels: Grey faces, uint8, Nx48x48, 0 to 255.
        labels: Indices into `EXPRESSIONS`, int64, N.
        usage: Usage of each face, N strings: ``Training``, ``PublicTest`` and ``PrivateTest`` as
            published, or ``train``, ``val`` and ``test`` where the copy at hand says so.
        refused: Names of what was left out, by reason.
    """

    pixels: np.ndarray
    labels: np.ndarray
    usage: np.ndarray
    refused: dict[str, list[str]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.labels)

    def split(self, usage: str) -> tuple[np.ndarray, np.ndarray]:
        """Pixels and labels of one usage; ``Training`` and ``train`` are the same.

        Raises:
            DatasetError: No face has that usage.
        """
        names = {"Training", "train"} if usage in ("Training", "train") else {usage}
        rows = np.isin(self.usage, sorted(names))
        if not rows.any():
            present = ", ".join(sorted(set(self.usage.tolist())))
            raise DatasetError(f"FER2013 here has no usage '{usage}': it has {present}")
        return self.pixels[rows], self.labels[rows]


def find_fer2013(root: Path) -> Path | None:
    """The part of ``root`` that holds FER2013: a CSV or HDF5 file, or a folder of usage folders.

    Only names, the first line of CSV files and the size of one image are read.
    """
    root = Path(root)
    if root.is_file():
        return root if _is_table(root) or root.suffix.lower() in (".h5", ".hdf5") else None
    for place in (root, root / "fer2013"):
        for name in _CSV_NAMES:
            if _is_table(place / name):
                return place / name
        for name in _H5_NAMES:
            if (place / name).is_file():
                return place / name
        if _holds_face_folders(place):
            return place
    return None


def read_fer2013(
    root: Path, *, on_progress: Callable[[int, int], None] = lambda done, total: None
) -> FerTable:
    """Read FER2013 from the folder, or the file, that holds it.

    Args:
        root: One of the files, or a folder that holds ``fer2013.csv``, ``icml_face_data.csv``,
            ``train.csv``, ``data.h5``, or folders
            ``Training|PublicTest|PrivateTest|train|test/<expression>/*``.
        on_progress: Callback with (faces read, faces in all) during the decoding of images.

    Raises:
        DatasetError: FER2013 was not found or is damaged; the message says where.
    """
    place = find_fer2013(Path(root))
    if place is None:
        raise DatasetError(
            f"no FER2013 under {root}: looked for {', '.join(_CSV_NAMES)}, {_H5_NAMES[0]} "
            f"and folders Training/{EXPRESSIONS[0]}/*.png"
        )
    if place.is_dir():
        return _read_folders(place, on_progress)
    return _read_csv(place) if place.suffix.lower() == ".csv" else _read_h5(place)


def _read_csv(path: Path) -> FerTable:
    try:
        table = pd.read_csv(path, skipinitialspace=True)
    except (OSError, ValueError) as error:
        raise DatasetError(f"cannot read {path}: {str(error).splitlines()[0]}") from None
    table.columns = [str(name).strip().lower() for name in table.columns]
    table["emotion"] = pd.to_numeric(table["emotion"], errors="coerce")
    if "usage" not in table:
        table["usage"] = "train"
    refused: dict[str, list[str]] = {}
    faces, labels, usages = [], [], []
    for number, (label, pixels, usage) in enumerate(
        zip(table["emotion"], table["pixels"], table["usage"], strict=True), start=2
    ):
        face = _face_of(pixels)
        line = f"line {number}"
        if face is None:
            refused.setdefault(f"not {SIDE * SIDE} numbers of 0 to 255", []).append(line)
        elif label not in range(len(EXPRESSIONS)):
            refused.setdefault("no label of 0 to 6", []).append(line)
        elif str(usage).strip().lower() not in _USAGES:
            refused.setdefault("unknown usage", []).append(line)
        else:
            faces.append(face)
            labels.append(int(label))
            usages.append(_USAGES[str(usage).strip().lower()])
    return _table(path, faces, labels, usages, refused)


def _read_h5(path: Path) -> FerTable:
    try:
        h5py = importlib.import_module("h5py")  # no part of any extra: few have this form
    except ModuleNotFoundError:
        raise DatasetError(
            f"{path} is an HDF5 file: install h5py to read it, or put fer2013.csv beside it"
        ) from None
    faces: list[np.ndarray] = []
    labels: list[int] = []
    usages: list[str] = []
    try:
        with h5py.File(path, "r") as file:
            for usage in ("Training", "PublicTest", "PrivateTest"):
                if f"{usage}_pixel" in file:
                    found = np.asarray(file[f"{usage}_pixel"], dtype=np.uint8)
                    faces.extend(found.reshape(-1, SIDE, SIDE))
                    labels.extend(np.asarray(file[f"{usage}_label"], dtype=np.int64).tolist())
                    usages.extend([usage] * len(found))
    except (OSError, KeyError, ValueError) as error:
        raise DatasetError(
            f"cannot read {path}: {str(error).splitlines()[0]}; "
            "expected Training_pixel (Nx2304) and Training_label (N)"
        ) from None
    if len(labels) != len(faces) or not set(labels) <= set(range(len(EXPRESSIONS))):
        raise DatasetError(f"{path} does not hold one label of 0 to 6 for each face")
    return _table(path, faces, labels, usages, {})


def _read_folders(place: Path, on_progress: Callable[[int, int], None]) -> FerTable:
    files = [
        (file, expression_index(folder.name), _USAGES[usage.name.lower()])
        for usage in _usage_folders(place)
        for folder in sorted(usage.iterdir())
        if folder.is_dir()
        for file in sorted(folder.iterdir())
        if is_image(file)
    ]
    refused: dict[str, list[str]] = {}
    faces, labels, usages = [], [], []
    for number, (file, label, usage) in enumerate(files, start=1):
        name = printable(str(file.relative_to(place)))
        try:
            rgb = decode(file.read_bytes()).numpy()
        except (ImageRefused, OSError) as error:
            refused.setdefault(str(error), []).append(name)
            continue
        if rgb.shape != (3, SIDE, SIDE):
            refused.setdefault(f"not {SIDE}x{SIDE} pixels", []).append(name)
            continue
        faces.append(np.rint(np.tensordot(_LUMA, rgb, axes=1)).astype(np.uint8))
        labels.append(label)
        usages.append(usage)
        if number % 512 == 0 or number == len(files):
            on_progress(number, len(files))
    return _table(place, faces, labels, usages, refused)


def _table(
    path: Path,
    faces: list[np.ndarray],
    labels: list[int],
    usages: list[str],
    refused: dict[str, list[str]],
) -> FerTable:
    if not faces:
        reasons = "; ".join(f"{len(names)} x {reason}" for reason, names in refused.items())
        raise DatasetError(f"no face could be read from {path} ({reasons or 'it is empty'})")
    return FerTable(np.stack(faces), np.array(labels, dtype=np.int64), np.array(usages), refused)


def _face_of(pixels: Any) -> np.ndarray | None:
    """2304 numbers in a string -> 48x48, or None if the string is invalid."""
    try:
        values = bytes(map(int, str(pixels).split()))  # each of 0 to 255, or it raises
    except ValueError:
        return None
    if len(values) != SIDE * SIDE:
        return None
    return np.frombuffer(values, dtype=np.uint8).reshape(SIDE, SIDE)


def _usage_folders(place: Path) -> list[Path]:
    if not place.is_dir():
        return []
    return [p for p in sorted(place.iterdir()) if p.is_dir() and p.name.lower() in _USAGES]


def _holds_face_folders(place: Path) -> bool:
    """Usage folders of expression folders of 48x48 pictures; photos have other sizes."""
    folders = [p for usage in _usage_folders(place) for p in usage.iterdir() if p.is_dir()]
    if not folders or not all(_is_expression(folder.name) for folder in folders):
        return False
    files = (p for folder in folders for p in folder.iterdir() if is_image(p))
    first = next(files, None)
    if first is None:
        return False
    try:
        with Image.open(first) as image:
            return image.size == (SIDE, SIDE)
    except OSError:
        return False


def _is_expression(name: str) -> bool:
    try:
        expression_index(name)
    except ValueError:
        return False
    return True


def _is_table(path: Path) -> bool:
    return path.is_file() and {"emotion", "pixels"} <= set(header_of(path))
