"""Building the networks of an archive from its files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from handler.archive.files import (
    CONFIG,
    FACE_DETECTOR,
    LANDMARKS,
    WEIGHTS,
    model_folder,
    needs_face_detector,
    read_settings,
)
from handler.network import StimuliAwareNetwork
from handler.stimuli.selector import StimuliSelector
from handler.values.configs import ArchiveConfig
from handler.values.errors import ArchiveError, VeaError


@dataclass(frozen=True)
class LoadedArchive:
    """An archive in memory.

    Attributes:
        config: Names and settings.
        digest: SHA-256 (hex) that identifies everything in the archive.
        card: Model card.
        network: Network in evaluation mode, on the CPU, float32.
        selector: Selector in evaluation mode, on the CPU, float32.
    """

    config: ArchiveConfig
    digest: str
    card: dict[str, Any]
    network: StimuliAwareNetwork
    selector: StimuliSelector


def load_archive(path: Path, *, face_threads: int = 1) -> LoadedArchive:
    """Read an archive, folder or ``.mar``.

    Args:
        path: Path of the archive.
        face_threads: Number of images that are searched for faces in parallel.

    Raises:
        ArchiveError: There is no archive of this format at ``path``.
        VeaError: The archive needs a package that is not installed; the message names it.
    """
    with model_folder(Path(path)) as folder:
        config, card, digest = read_settings(folder)
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


def _line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
