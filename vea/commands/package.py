"""`vea package`: weights -> archive."""

from __future__ import annotations

import json
import tempfile
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from handler.values.errors import VeaError
from vea.commands.runtime import PrecisionChoice, RuntimeChoice
from vea.local_paths import check_output_folder
from vea.terminal import out, progress_bars


class FaceBackend(StrEnum):
    """The face sources, as they are written on the command line."""

    HOG = "hog"
    CNN = "cnn"
    LIGHT = "light"
    LIGHTER = "lighter"
    NONE = "none"


class ReasonSource(StrEnum):
    """The detectors of further reasons, as they are written on the command line."""

    LIGHT = "light"
    NONE = "none"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("package")(package)


def package(
    model: Annotated[Path, typer.Argument(help="The model folder of a run, or a .mar to repack.")],
    version: Annotated[str, typer.Option(help="Version of the new archive.")],
    name: Annotated[
        str | None,
        typer.Option(help="Name of the model. [default: vea-lite, or that of the .mar]"),
    ] = None,
    evaluation: Annotated[
        Path | None,
        typer.Option(help="Metrics for the model card: a file that `vea evaluate --json` wrote."),
    ] = None,
    card: Annotated[
        Path | None, typer.Option(help="YAML file with the text of the model card.")
    ] = None,
    runtime: Annotated[
        RuntimeChoice,
        typer.Option(
            help="onnx: add the compiled form of the backbones, which CPUs run several times as "
            "fast; torch: leave it out; auto: as in MODEL."
        ),
    ] = RuntimeChoice.AUTO,
    precision: Annotated[
        PrecisionChoice,
        typer.Option(help="Precision of the compiled form; int8 needs --calibrate."),
    ] = PrecisionChoice.FLOAT32,
    calibrate: Annotated[
        Path | None,
        typer.Option(
            metavar="DATASET",
            help="Labelled photos: those of its training split calibrate int8, and on those of its "
            "validation split both forms are measured for the model card.",
        ),
    ] = None,
    photos: Annotated[
        int, typer.Option("--calibration-photos", min=1, help="Photos that calibrate int8.")
    ] = 128,
    recheck_ratio: Annotated[
        float,
        typer.Option(
            min=1.0,
            max=100.0,
            help="With int8: a float32 form decides where the most probable emotion is less than "
            "this many times as probable as the second; 1 for never.",
        ),
    ] = 1.1,
    faces: Annotated[
        FaceBackend | None,
        typer.Option(help="Face source of the archive. [default: as in MODEL]"),
    ] = None,
    face_threshold: Annotated[
        float | None,
        typer.Option(
            help="With --faces: least score of a face. [default: 0.6 for light and lighter, else 0]"
        ),
    ] = None,
    reasons: Annotated[
        ReasonSource | None,
        typer.Option(
            help="Detector of people and things that are told as further reasons, and change no "
            "emotion. [default: as in MODEL]"
        ),
    ] = None,
    to: Annotated[Path, typer.Option("--to", help="Folder for the archive.")] = Path("model_store"),
    force: Annotated[
        bool,
        typer.Option("--force", help="Replace an archive of this version with other content."),
    ] = False,
) -> None:
    """Pack a trained model into one .mar file.

    The file holds code, weights, settings and model card; nothing but that code is executed on
    loading. The same inputs give the same bytes. An archive of the same name and version is
    replaced only with `--force`, unless it is the same.

        vea package runs/lite/model --name my-model --version 1.0 --evaluation evaluation.json

        vea package model_store/vea-lite-3.1.mar --version 3.2

        vea package model_store/vea-lite-3.1.mar --version 3.2 --runtime onnx --calibrate FI

    A model can look for faces otherwise than in training:

        vea package model_store/vea-lite-3.1.mar --version 3.2 --faces hog --runtime torch

    It can be given a detector, whose boxes are told beside the windows that the network weighs:

        vea package runs/lite/model --name my-model --version 1.0 --reasons light
    """
    from handler.archive.files import read_card
    from train.package import package as pack

    if precision is PrecisionChoice.INT8 and calibrate is None:
        raise VeaError("int8 needs photos to be calibrated with: give --calibrate DATASET")
    compiles = runtime is RuntimeChoice.ONNX or (
        runtime is RuntimeChoice.AUTO and reasons is ReasonSource.LIGHT
    )
    if not compiles and (calibrate or precision is PrecisionChoice.INT8):
        raise VeaError("--precision and --calibrate are for the compiled form: give --runtime onnx")
    if faces is None and face_threshold is not None:
        raise VeaError("--face-threshold is for another face source: give --faces")
    check_output_folder(to)
    words: dict[str, Any] = _read_card(card) if card else {}
    if evaluation:
        try:
            words["evaluation"] = json.loads(evaluation.read_text())
        except (OSError, ValueError) as error:
            raise VeaError(f"cannot read the evaluation {evaluation}: {error}") from None
    if name is None:
        name = read_card(model)[0].name if model.is_file() else "vea-lite"
    with tempfile.TemporaryDirectory(prefix="vea-compiled-") as scratch:
        if faces is not None:
            runtime = _runtime_after(model, runtime)
            model = _with_faces(model, Path(scratch, "faces"), faces, face_threshold)
        if reasons is not None:
            # The whole compiled form is made below, or only that of the detector here.
            given = calibrate if runtime is RuntimeChoice.AUTO else None
            if precision is not PrecisionChoice.INT8:
                given = None
            model = _with_reasons(model, Path(scratch, "reasons"), reasons, given, photos)
        if runtime is not RuntimeChoice.AUTO:
            rechecks = precision is PrecisionChoice.INT8 and recheck_ratio > 1
            ratio = recheck_ratio if rechecks else None
            target = Path(scratch, "model")
            model = _with_form(model, target, runtime, precision, calibrate, photos, ratio)
        target = pack(model, to, name=name, version=version, card=words, force=force)
    out().print(f"{target} ({target.stat().st_size / 1e6:.1f} MB)")


def _runtime_after(model: Path, runtime: RuntimeChoice) -> RuntimeChoice:
    """What another face source makes of the runtime: a compiled form is compiled anew."""
    from handler.archive.files import read_card
    from handler.values.runtimes import FLOAT32

    compiled = read_card(model)[0].compiled
    if runtime is not RuntimeChoice.AUTO or compiled is None:
        return runtime
    if compiled != FLOAT32:
        raise VeaError(
            "another face source needs another compiled form: give --runtime onnx with --precision "
            "and --calibrate, or --runtime torch"
        )
    return RuntimeChoice.ONNX


def _with_faces(model: Path, target: Path, faces: FaceBackend, threshold: float | None) -> Path:
    """The model with another face source, in a folder of its own."""
    from train.face_source import change_face_source

    change_face_source(model, target, faces.value, threshold)
    return target


def _with_reasons(
    model: Path, target: Path, reasons: ReasonSource, dataset: Path | None, photos: int
) -> Path:
    """The model with or without a detector of further reasons, in a folder of its own."""
    from train.compiling.measure import calibration_photos
    from train.reason_source import change_reasons

    calibration = None if dataset is None else calibration_photos(model, dataset, photos)
    change_reasons(model, target, reasons.value, calibration)
    return target


def _with_form(
    model: Path,
    target: Path,
    runtime: RuntimeChoice,
    precision: PrecisionChoice,
    dataset: Path | None,
    photos: int,
    recheck_ratio: float | None,
) -> Path:
    """The model with or without its compiled form, in a folder of its own."""
    from train.compiling.build import add_compiled_form, remove_compiled_form
    from train.compiling.measure import calibration_photos, measure_forms

    if runtime is RuntimeChoice.TORCH:
        remove_compiled_form(model, target)
        return target
    calibration = None
    if dataset is not None and precision is PrecisionChoice.INT8:
        calibration = calibration_photos(model, dataset, photos)
    add_compiled_form(model, target, calibration, recheck_ratio=recheck_ratio)
    if dataset is not None:
        with progress_bars() as on_progress:
            measure_forms(
                target, dataset, on_progress=lambda done, total: on_progress("photos", done, total)
            )
    return target


def _read_card(path: Path) -> dict[str, Any]:
    import yaml

    from train.recipes.keys import load_yaml

    try:
        words = load_yaml(path.read_text())
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise VeaError(f"cannot read the card {path}: {' '.join(str(error).split())}") from None
    if not isinstance(words, dict):
        raise VeaError(f"the card {path} is not a YAML mapping")
    # A card is JSON in the archive: what YAML has beyond it, dates and such, is written out.
    written: dict[str, Any] = json.loads(json.dumps(_with_text_keys(words), default=str))
    return written


def _with_text_keys(words: Any) -> Any:
    """A copy whose keys JSON can hold: ``json`` converts values with ``default``, but no keys."""
    if isinstance(words, dict):
        return {
            key if isinstance(key, str | int | float | None) else str(key): _with_text_keys(value)
            for key, value in words.items()
        }
    return [_with_text_keys(word) for word in words] if isinstance(words, list) else words
