"""Writing the model files of an archive: what training leaves and `vea package` packs."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from handler.archive.files import (
    CONFIG,
    WEIGHTS,
    face_detector_file,
    landmark_file,
    remove_face_files,
    write_card,
)
from handler.network import StimuliAwareNetwork
from handler.stimuli.selector import StimuliSelector
from handler.values.archive_config import ArchiveConfig
from handler.values.errors import ArchiveError

_HALF_LIMIT = torch.finfo(torch.float16).max
# Cell anchors are coordinates, to which boxes are relative: half precision would move the boxes.
_PRECISE = frozenset({"objects.anchors"})


def write_model_folder(
    folder: Path,
    *,
    config: ArchiveConfig,
    network: StimuliAwareNetwork,
    selector: StimuliSelector,
    landmarks: Path | None,
    card: dict[str, Any],
    face_detector: Path | None = None,
) -> None:
    """Write the model files into ``folder``, matrices and filters in half precision.

    Args:
        folder: Folder to write; created if absent.
        config: Names and settings.
        network: Network with its weights.
        selector: Selector with its weights.
        landmarks: Path of the face landmark file, required if the face source of ``config`` is
            dlib's.
        card: Model card.
        face_detector: Path of the face detector's file, required if ``config`` uses that detector.

    Raises:
        ArchiveError: The landmark file or the face detector's is required and missing.
    """
    backend = config.selector.faces.backend
    given = {"landmarks": landmarks, "face_detector": face_detector}
    needed = {"landmarks": landmark_file(config), "face_detector": face_detector_file(config)}
    for argument, name in needed.items():
        if name is not None and given[argument] is None:
            raise ArchiveError(f"face search '{backend}' needs a {name}: give {argument}")
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {f"network.{k}": v for k, v in network.state_dict().items()}
    tensors |= {f"objects.{k}": v for k, v in selector.objects.state_dict().items()}
    save_file({k: _compact(k, v) for k, v in sorted(tensors.items())}, folder / WEIGHTS)
    (folder / CONFIG).write_text(config.to_json())
    remove_face_files(folder)  # what an earlier model left here would be sealed with this one
    for argument, name in needed.items():
        file = given[argument]
        if name is not None and file is not None:
            shutil.copyfile(file, folder / name)
    write_card(folder, card)


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
