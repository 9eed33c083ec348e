"""`add_compiled_form`: a model without a compiled form -> the same model with one."""

from __future__ import annotations

import random
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from handler.archive import files
from handler.archive.loading import LoadedArchive, load_archive
from handler.images import ImageRefused, decode
from handler.stimuli.objects.grid import GridObjects
from handler.stimuli.objects.light import LightObjects
from handler.stimuli.selector import StimuliSelector, fit_colour
from handler.values.archive_config import ArchiveConfig
from handler.values.backbones import EXPRESSION, FACES, OBJECTS, REASONS, SHARED
from handler.values.runtimes import FLOAT32, INT8, ONNX
from train.compiling.export import CompileError, ToCompile, export, networks_of
from train.compiling.quantise import Pixels, fuse, quantise
from train.compiling.references import refer_to_weights, safetensors_files

_SEED = 17
_FEWEST_FACES = 12  # on the calibration photos, that Expression-Net's 8 bits are calibrated on


@dataclass(frozen=True)
class Calibration:
    """Photos that decide the ranges of 8-bit activations.

    Attributes:
        photos: Paths of the photos.
        source: Name of the data set and split, for the model card.
    """

    photos: Sequence[Path]
    source: str


def add_compiled_form(
    model: Path,
    target: Path,
    calibration: Calibration | None,
    *,
    recheck_ratio: float | None = None,
) -> None:
    """Write a model folder: the files of a model, and the compiled form of its backbones.

    Args:
        model: Model folder or archive.
        target: Folder to write, which must not exist.
        calibration: Photos for a compiled form in 8 bits; without them it has float32.
        recheck_ratio: As `ArchiveConfig.recheck_ratio`; only with ``calibration``.

    Raises:
        ArchiveError: ``model`` is neither a model folder nor an archive.
        CompileError: The model has no backbone to compile, or no calibration photo can be read.
    """
    archive = load_archive(model)
    networks = networks_of(archive)
    config = replace(
        archive.config,
        compiled=FLOAT32 if calibration is None else INT8,
        recheck_ratio=recheck_ratio,
        shared_graph=SHARED in networks,
        expression_graph=EXPRESSION in networks,
    )
    photos = {} if calibration is None else _prepare(archive, calibration, list(networks))
    with (
        files.model_folder(model) as source,
        tempfile.TemporaryDirectory(prefix="vea-compile-") as scratch,
    ):
        _copy_weights(source, target, config)
        compiled, floats = files.compiled_files(config), files.precise_files(config)
        # What no photos calibrate has float32 alone: the face network, which costs little and must
        # place points, and Expression-Net where the photos show no faces.
        alone = [part for part in networks if part not in photos]
        if archive.things is not None:
            compile_detector(
                archive.things.source,
                target / compiled[REASONS],
                target / files.THING_DETECTOR,
                calibration,
            )
        weights = safetensors_files(target, config)
        # First, before batch norms are folded.
        for part, name in [*floats.items(), *((part, compiled[part]) for part in alone)]:
            _export_float32(networks[part], target / name, weights, Path(scratch))
        for part, seen in photos.items():
            fused = _fused(networks[part], Path(scratch))
            float_layers = networks[part].float_layers
            quantise(fused, target / compiled[part], seen, float_layers=float_layers)
    described = _described(config, calibration, list(photos))
    files.write_card(target, {**archive.card, "compiled": described})


def _described(
    config: ArchiveConfig, calibration: Calibration | None, quantised: Sequence[str]
) -> dict[str, Any]:
    """What the model card says of a compiled form."""
    described: dict[str, Any] = {"runtime": ONNX, "precision": config.compiled}
    if config.shared_graph:
        described["shared_graph"] = True
    if config.expression_graph:
        described["expression_net"] = INT8 if EXPRESSION in quantised else FLOAT32
    if calibration is not None:
        described["calibration"] = {
            "photos": len(calibration.photos),
            "source": calibration.source,
        }
    if config.recheck_ratio is not None:
        described["recheck_ratio"] = config.recheck_ratio
    return described


def compile_detector(
    source: LightObjects, target: Path, weights: Path, calibration: Calibration | None
) -> None:
    """Write the compiled form of a light detector alone, an ONNX file.

    Args:
        source: Detector, on the CPU.
        target: Path of the graph to write.
        weights: Path of the safetensors file with the detector's weights, in the folder of
            ``target``, to which a graph in float32 refers.
        calibration: Photos for a graph in 8 bits; without them it has float32.

    Raises:
        CompileError: No calibration photo can be read.
    """
    photos: list[Pixels] = []
    if calibration is not None:
        photos = [source.resize([image])[0].numpy() for image in _decoded(calibration.photos)]
        if not photos:
            raise _none_readable(calibration)
    network = ToCompile(source.detector, source.size)
    with tempfile.TemporaryDirectory(prefix="vea-compile-") as scratch:
        if photos:
            quantise(_fused(network, Path(scratch)), target, photos)
        else:
            _export_float32(network, target, [weights], Path(scratch))


def remove_compiled_form(model: Path, target: Path) -> None:
    """Write a model folder: the files of a model without the compiled form of its backbones.

    Args:
        model: Model folder or archive.
        target: Folder to write, which must not exist.

    Raises:
        ArchiveError: ``model`` is neither a model folder nor an archive.
    """
    config, card, _ = files.read_card(model)
    with files.model_folder(model) as source:
        _copy_weights(source, target, config.without_compiled_form())
    files.write_card(target, {key: value for key, value in card.items() if key != "compiled"})


def _copy_weights(source: Path, target: Path, config: ArchiveConfig) -> None:
    target.mkdir(parents=True)
    for name in files.weight_files(config):
        shutil.copyfile(source / name, target / name)
    (target / files.CONFIG).write_text(config.to_json())


def choose_photos(paths: Sequence[Path], count: int) -> list[Path]:
    """A random selection of photos, always the same of the same ones."""
    return random.Random(_SEED).sample(sorted(paths), min(count, len(paths)))


def _prepare(
    archive: LoadedArchive, calibration: Calibration, parts: Sequence[str]
) -> dict[str, list[Pixels]]:
    """The calibration photos as each network sees them, without networks that see too few."""
    prepared: dict[str, list[Pixels]] = {part: [] for part in parts if part != FACES}
    for image in _decoded(calibration.photos):
        for part, seen in prepared.items():
            seen.extend(_as_seen(image, part, archive.selector).numpy())
    if len(prepared.get(EXPRESSION, [])) < _FEWEST_FACES:
        prepared.pop(EXPRESSION, None)
    if not all(prepared.values()):
        raise _none_readable(calibration)
    return prepared


def _none_readable(calibration: Calibration) -> CompileError:
    return CompileError(f"none of the {len(calibration.photos)} calibration photos can be read")


def _export_float32(
    network: ToCompile, target: Path, weights: Sequence[Path], scratch: Path
) -> None:
    """Write the graph of a network in float32, which refers to its weights in files."""
    exported = scratch / "exported.onnx"
    export(network, exported, fold=False)
    refer_to_weights(exported, target, weights)


def _fused(network: ToCompile, scratch: Path) -> Path:
    """The graph of a network with all that can be folded folded, as a file in a folder."""
    exported, fused = scratch / "exported.onnx", scratch / "fused.onnx"
    export(network, exported, fold=True)
    fuse(exported, fused)
    return fused


def _as_seen(image: torch.Tensor, part: str, selector: StimuliSelector) -> torch.Tensor:
    """What a network sees of an image (uint8, 3xHxW): uint8, nxCxSxS, n is 1, or 0 faces."""
    if part == EXPRESSION:
        faces = selector.faces.start([image]).collect()
        return faces.crops[faces.mask]
    if part != OBJECTS:
        return fit_colour(image, selector.config).unsqueeze(0)
    assert isinstance(selector.objects, GridObjects | LightObjects)
    return selector.objects.resize([image])


def _decoded(photos: Sequence[Path]) -> Iterator[torch.Tensor]:
    """The photos that can be read, uint8, 3xHxW."""
    for photo in photos:
        try:
            yield decode(photo.read_bytes())
        except (OSError, ImageRefused):
            continue
