"""`change_reasons`: an archive gets, or loses, a detector of things as further reasons.

Everything else of the model stays as it is, byte for byte, its compiled form too: no emotion can
change.
"""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from handler.archive import files
from handler.stimuli.objects.light import LightObjects
from handler.values.backbones import REASONS
from handler.values.configs import LIGHT_THINGS
from train.compiling.build import Calibration, compile_detector
from train.weights.home import find_weights, read_weights

NONE = "none"
_WEIGHTS = "nanodet-g"
_LICENCE = "Apache-2.0 (NanoDet-g; Copyright RangiLyu and contributors)"


def change_reasons(
    model: Path, target: Path, source: str, calibration: Calibration | None = None
) -> None:
    """Write a model folder: the files of a model, with or without a detector of further reasons.

    Args:
        model: Model folder or archive.
        target: Folder to write, which must not exist.
        source: ``"light"`` for NanoDet-g, ``"none"`` for no detector.
        calibration: Photos for a detector in 8 bits, where the model has a compiled form; without
            them it has float32.

    Raises:
        ArchiveError: ``model`` is neither a model folder nor an archive.
        CompileError: No calibration photo can be read.
        WeightsMissing: The detector's weights are not on this machine.
    """
    config, card, _ = files.read_card(model)
    # First, so that missing weights are told before anything is written.
    weights = None if source == NONE else read_weights(find_weights(_WEIGHTS))[1]
    config = replace(config, reasons=None)
    target.mkdir(parents=True)
    with files.model_folder(model) as folder:
        compiled, precise = files.compiled_files(config), files.precise_files(config)
        for name in (*files.weight_files(config), *compiled.values(), *precise.values()):
            shutil.copyfile(folder / name, target / name)
    words: dict[str, Any] = {
        key: value for key, value in card.items() if key not in ("reasons", "licences")
    }
    licences = {k: v for k, v in card.get("licences", {}).items() if k != files.THING_DETECTOR}
    if weights is not None:
        detector = LightObjects()
        weights = {name: _shortened(tensor) for name, tensor in weights.items()}
        detector.load_state_dict(weights)
        config = replace(config, reasons={"source": LIGHT_THINGS, "size": detector.size})
        save_file(weights, target / files.THING_DETECTOR)
        words["reasons"] = {"source": LIGHT_THINGS, "name_threshold": detector.name_threshold}
        licences[files.THING_DETECTOR] = _LICENCE
        if config.compiled is not None:
            graph = target / files.compiled_files(config)[REASONS]
            compile_detector(detector, graph, target / files.THING_DETECTOR, calibration)
    words = {**words, "licences": licences} if licences else words
    (target / files.CONFIG).write_text(config.to_json())
    files.write_card(target, words)


def _shortened(tensor: torch.Tensor) -> torch.Tensor:
    """In half precision, as the weights were published, filters with 8 significant bits of its 11.

    They compress by a sixth more. Names and boxes need no more: the 8-bit form has 7.
    """
    if not tensor.is_floating_point():
        return tensor
    return tensor.bfloat16().half() if tensor.ndim > 1 else tensor.half()
