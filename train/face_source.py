"""`change_face_source`: a trained model looks for faces otherwise than in training."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

from handler.archive import files
from handler.values.configs import BLAZEFACE, NO_FACES, FaceConfig
from handler.values.errors import VeaError
from train.weights import face_detector, landmark_file

_THRESHOLDS = dict.fromkeys(BLAZEFACE, 0.6)
_LICENCES = {
    **dict.fromkeys(
        BLAZEFACE,
        "Apache-2.0 (MediaPipe's BlazeFace, full range; Copyright The MediaPipe Authors)",
    ),
    "cnn": "CC0 (dlib's mmod_human_face_detector, by Davis King)",
}


def change_face_source(
    model: Path, target: Path, backend: str, threshold: float | None = None
) -> None:
    """Write a model folder: the files of a model with another face source, without compiled form.

    Args:
        model: Model folder or archive.
        target: Folder to write, which must not exist.
        backend: Face source, as ``faces.backend`` of a recipe.
        threshold: Minimum score of a face; by default 0.6 for ``"light"`` and ``"lighter"``, 0
            for the others.

    Raises:
        ArchiveError: ``model`` is neither a model folder nor an archive.
        VeaError: The model was trained without faces, and there is nothing to read them.
        WeightsMissing: The face detector or the landmark file is not on this machine.
    """
    config, card, _ = files.read_card(model)
    before = config.selector.faces
    if before.backend == NO_FACES or config.network.expression_width is None:
        raise VeaError(f"{model} was trained without faces: it has no use for a face source")
    chosen = _THRESHOLDS.get(backend, 0.0) if threshold is None else threshold
    faces: FaceConfig = replace(before, backend=backend, threshold=chosen)
    config = replace(config.without_compiled_form(), selector=replace(config.selector, faces=faces))
    name, file = files.face_detector_file(config), face_detector(backend)
    landmarks = files.landmark_file(config)
    target.mkdir(parents=True)
    with files.model_folder(model) as source:
        for kept in files.weight_files(config):
            if kept == landmarks and not (source / kept).is_file():
                shutil.copyfile(landmark_file(), target / kept)
            elif kept != name:
                shutil.copyfile(source / kept, target / kept)
    if name is not None and file is not None:
        shutil.copyfile(file, target / name)
    (target / files.CONFIG).write_text(config.to_json())
    words: dict[str, Any] = {key: value for key, value in card.items() if key != "compiled"}
    words["faces"] = {"backend": backend, "threshold": chosen, "trained_with": before.backend}
    if name is not None:
        words["licences"] = {**words.get("licences", {}), name: _LICENCES[backend]}
    files.write_card(target, words)
