"""Building the networks of an archive from its files."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import nn

from handler.archive.files import (
    CONFIG,
    THING_DETECTOR,
    WEIGHTS,
    compiled_files,
    face_detector_file,
    face_files,
    landmark_file,
    model_folder,
    precise_files,
    read_settings,
)
from handler.backbones import Backbone, BackboneRuntime, TorchRuntime
from handler.network import StimuliAwareNetwork
from handler.organism.expression_net import ExpressionNet
from handler.reasons import ThingDetector
from handler.stimuli.objects.nanodet import NanoDet
from handler.stimuli.objects.source import ObjectSource, build_object_source
from handler.stimuli.selector import StimuliSelector
from handler.values.archive_config import ArchiveConfig
from handler.values.backbones import REASONS
from handler.values.configs import NO_FACES
from handler.values.errors import ArchiveError, VeaError
from handler.values.prediction import ModelIdentity
from handler.values.runtimes import ONNX, TORCH, choose_runtime


@dataclass(frozen=True)
class PreciseForm:
    """What decides where an 8-bit form is unsure.

    Attributes:
        network: Network whose backbone computes in float32; all else it shares with the other one.
        objects: Object source whose backbone computes in float32.
        shared: Shared trunk of both (`BackboneRuntime.shared`), in float32.
        ratio: As `ArchiveConfig.recheck_ratio`.
        difference: As `ArchiveConfig.recheck_difference`, for an archive without a ratio.
    """

    network: StimuliAwareNetwork
    objects: ObjectSource
    shared: nn.Module | None
    ratio: float | None
    difference: float | None = None

    def decides(self, log_probabilities: torch.Tensor) -> torch.Tensor:
        """The images of which the 8-bit form is unsure.

        Args:
            log_probabilities: Log-probabilities of that form, BxC.

        Returns:
            bool, B.
        """
        best, second = log_probabilities.double().topk(2, dim=1).values.unbind(1)
        if self.ratio is None:
            assert self.difference is not None
            return best.exp() - second.exp() < self.difference
        # Rounding changes logits, so that two small probabilities are as unsure as two large ones
        # that are further apart: at the same cost, a ratio finds more of what would change.
        return best - second < math.log(self.ratio)


@dataclass(frozen=True)
class LoadedArchive:
    """An archive in memory.

    Attributes:
        config: Names and settings.
        digest: SHA-256 (hex) that identifies everything in the archive.
        card: Model card.
        network: Network in evaluation mode, on the CPU, float32.
        selector: Selector in evaluation mode, on the CPU, float32.
        runtime: Runtime of the backbones, ``"torch"`` or ``"onnx"``.
        precise: Float32 form that decides where the 8-bit form is unsure; None without one.
        things: Detector of further reasons; None without one.
    """

    config: ArchiveConfig
    digest: str
    card: dict[str, Any]
    network: StimuliAwareNetwork
    selector: StimuliSelector
    runtime: str = TORCH
    precise: PreciseForm | None = None
    things: ThingDetector | None = None

    @property
    def identity(self) -> ModelIdentity:
        """What predictions with this archive are of."""
        faces = self.config.selector.faces.backend != NO_FACES
        name, version = self.config.name, self.config.version
        detects = self.things is not None
        return ModelIdentity(name, version, self.digest, self.runtime, faces, detects)


def load_archive(
    path: Path,
    *,
    face_threads: int = 1,
    runtime: str = TORCH,
    device: str = "cpu",
    faces: bool = True,
) -> LoadedArchive:
    """Read an archive, folder or ``.mar``.

    Args:
        path: Path of the archive.
        face_threads: Number of images that are searched for faces in parallel.
        runtime: Requested runtime of the backbones, one of `handler.values.runtimes.RUNTIMES`.
            Only with ``"torch"`` can the networks be trained, folded and moved to a GPU.
        device: Device that the networks will be moved to.
        faces: Whether faces are searched, if the archive's settings say so.

    Raises:
        ArchiveError: There is no archive of this format at ``path``.
        RuntimeUnavailable: The requested runtime cannot run this archive here.
        VeaError: The archive needs a package that is not installed; the message names it.
    """
    with model_folder(Path(path)) as folder:
        config, card, digest = read_settings(folder)
        if not faces:
            config = without_faces(config)
        chosen = choose_runtime(runtime, compiled=config.compiled, device=device)
        compiled = compiled_files(config) if chosen == ONNX else {}
        exact = precise_files(config) if chosen == ONNX else {}
        landmarks, detector = landmark_file(config), face_detector_file(config)
        try:
            graphs = {part: file for part, file in compiled.items() if part != REASONS}
            backbones = _runtime(folder, graphs)
            network = StimuliAwareNetwork(config.network, runtime=backbones)
            selector = StimuliSelector(
                config.selector,
                landmarks=None if landmarks is None else folder / landmarks,
                face_detector=None if detector is None else folder / detector,
                face_threads=face_threads,
                runtime=backbones,
            )
            precise = _build_precise(config, _runtime(folder, exact)) if exact else None
            things = _thing_detector(folder, config, compiled.get(REASONS))
        except VeaError:  # it says itself what to do, and the archive is not to blame
            raise
        except Exception as error:  # torch, timm and dlib raise various types for wrong settings
            sources = " and ".join(
                [CONFIG, *face_files(config), *compiled.values(), *exact.values()]
            )
            raise ArchiveError(f"no model can be built from {sources}: {_line(error)}") from None
        _fill(folder / WEIGHTS, network=network, objects=selector.objects)
    network.eval().requires_grad_(False)
    if precise is not None:
        # Two forms of the backbones, one set of all other weights in memory.
        precise.network.load_state_dict(network.state_dict(), assign=True)
        precise.network.eval().requires_grad_(False)
        precise.objects.load_state_dict(selector.objects.state_dict(), assign=True)
    return LoadedArchive(config, digest, card, network, selector, chosen, precise, things)


def _runtime(folder: Path, files: Mapping[str, str]) -> BackboneRuntime:
    if not files:
        return TorchRuntime()
    # Imported on demand: whoever uses torch need not have it.
    from handler.onnx_runtime import OnnxRuntime  # noqa: PLC0415

    return OnnxRuntime({part: folder / file for part, file in files.items()})


def _build_precise(config: ArchiveConfig, runtime: BackboneRuntime) -> PreciseForm:
    return PreciseForm(
        StimuliAwareNetwork(config.network, runtime=runtime),
        build_object_source(config.selector.objects, runtime),
        runtime.shared(),
        config.recheck_ratio,
        config.recheck_difference,
    )


def _thing_detector(folder: Path, config: ArchiveConfig, graph: str | None) -> ThingDetector | None:
    if config.reasons is None:
        return None
    # In memory: the folder of an unpacked archive is gone by the time that the detector is built.
    return ThingDetector(
        config.reasons,
        weights=(folder / THING_DETECTOR).read_bytes(),
        weights_name=THING_DETECTOR,
        graph=None if graph is None else (folder / graph).read_bytes(),
    )


def without_faces(config: ArchiveConfig) -> ArchiveConfig:
    """The same configuration, with no search for faces."""
    none = replace(config.selector.faces, backend=NO_FACES)
    return replace(config, selector=replace(config.selector, faces=none))


def _fill(weights: Path, **parts: torch.nn.Module) -> None:
    try:
        with safe_open(weights, framework="pt") as file:
            stored = list(file.keys())
            for prefix, part in parts.items():
                names = [key for key in stored if key.startswith(f"{prefix}.")]
                compiled = tuple(_compiled_trunks(prefix, part))
                part.load_state_dict(
                    {
                        key.removeprefix(f"{prefix}."): file.get_tensor(key)
                        for key in names
                        if not key.startswith(compiled)
                    }
                )
    except Exception as error:  # safetensors and torch raise various types for a wrong file
        raise ArchiveError(f"{WEIGHTS} does not fit {CONFIG}: {_line(error)}") from None


def _compiled_trunks(prefix: str, part: torch.nn.Module) -> Iterator[str]:
    """How the names of weights begin that a compiled trunk has within itself."""
    for name, module in part.named_modules():
        if isinstance(module, Backbone | NanoDet) and module.is_compiled:
            yield f"{prefix}.{name}.trunk."
        elif isinstance(module, ExpressionNet) and module.is_compiled:
            yield f"{prefix}.{name}.faces."


def _line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
