"""`vea train` and `vea package`: data set -> weights -> archive."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from handler.values.errors import VeaError
from vea.commands.cache import CacheFolder, Labels, Settings, Workers, cache_home
from vea.commands.runtime import PrecisionChoice, RuntimeChoice
from vea.local_paths import check_output_folder
from vea.stopping import stoppable
from vea.terminal import out, print_remarks, progress_bars

Data = Annotated[
    Path,
    typer.Option("--data", help="Data set in any layout that `vea data check` knows."),
]
EXPRESSION = "expression"  # kind of the recipes that pre-train Expression-Net alone


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("train")(train)
    app.command("package")(package)


@stoppable("the run goes on with --resume")
def train(
    data: Data,
    recipe: Annotated[str, typer.Option(help="Name of a recipe, or path of a YAML file.")] = "lite",
    run: Annotated[
        Path | None, typer.Option(help="Folder for this run. [default: runs/RECIPE]")
    ] = None,
    soft_labels: Annotated[
        list[Path] | None,
        typer.Option(
            "--soft-labels",
            metavar="FILE",
            help="Distil another model: its predictions for the training photos, as `vea evaluate` "
            "writes them, become soft targets beside the labels. Repeatable.",
        ),
    ] = None,
    labels: Labels = None,
    cache: CacheFolder = None,
    workers: Workers = None,
    settings: Settings = None,
    resume: Annotated[bool, typer.Option(help="Resume an interrupted run.")] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Replace another run in the same folder.")
    ] = False,
) -> None:
    """Train a model.

    The stimuli of the data set are selected once and kept, then the network learns from them.
    RUN/model is what `vea evaluate` measures and `vea package` packs:

        vea train --recipe lite --data FI --set training.epochs=6

        vea evaluate runs/lite/model --data FI --json evaluation.json

        vea package runs/lite/model --name vea-lite --version 2.0 --evaluation evaluation.json

    A model can also be distilled from others, whose predictions are computed once:

        vea evaluate OTHER.mar --data FI --split train --predictions other.parquet

        vea train --recipe lite2 --data FI --soft-labels other.parquet

    The recipe `expression` pre-trains Expression-Net on the faces of FER2013, for `init` of another
    recipe; `expression-full` does so at the paper's width and needs a GPU:

        vea train --recipe expression --data FER2013

    A run that was killed at any step resumes with `--resume` and ends with the same weights. One
    that SIGTERM or Ctrl-C stops ends with exit code 143 or 130. A folder that holds a run with
    another recipe or other photos is refused unless `--force` replaces that run.
    """
    from train.fitting.fit import fit
    from train.fitting.trainer import is_first_process
    from train.recipes.reading import read_values
    from train.recipes.recipe import load_recipe

    if read_values(recipe).get("kind") == EXPRESSION:
        for option, value in (("--soft-labels", soft_labels), ("--labels", labels)):
            if value:
                raise VeaError(
                    f"{option} cannot be used with the recipe '{recipe}', which trains on faces"
                )
        _train_expression(recipe, data, run, settings or (), resume=resume, force=force)
        return
    chosen = load_recipe(recipe, settings or ())
    check_output_folder(cache or cache_home())
    with progress_bars() as on_progress:
        result = fit(
            chosen,
            data,
            run or Path("runs", chosen.name),
            cache_root=cache or cache_home(),
            labels=labels,
            soft_labels=soft_labels or (),
            resume=resume,
            force=force,
            workers=workers,
            progress_bar=sys.stdout.isatty(),
            on_progress=on_progress,
            on_remarks=print_remarks,
        )
    if not is_first_process():  # with several devices each has a process: one of them prints
        return
    said = f"val accuracy {result.val_accuracy:.1%}, polarity {result.val_polarity_accuracy:.1%}; "
    if result.calibration is not None:
        calibrated = result.calibration.accuracy_cross_validated
        said += f"with calibrated branches {calibrated:.1%} (cross-validated); "
    out().print(f"{said}the model is in {result.model}", soft_wrap=True)


def _train_expression(
    recipe: str, data: Path, run: Path | None, settings: Sequence[str], *, resume: bool, force: bool
) -> None:
    """Pre-train Expression-Net on faces."""
    from train.expression.fit import fit_expression
    from train.expression.recipe import load_expression_recipe

    chosen = load_expression_recipe(recipe, settings)
    with progress_bars() as on_progress:
        result = fit_expression(
            chosen,
            data,
            run or Path("runs", chosen.name),
            resume=resume,
            force=force,
            progress_bar=sys.stdout.isatty(),
            on_progress=on_progress,
        )
    for protocol, figure in result.evaluation["accuracy"].items():
        low, high = figure["interval_95"]
        said = f"PublicTest accuracy, {protocol}: {figure['value']:.1%} ({low:.1%} to {high:.1%})"
        out().print(said)
    out().print(f"the trunk is in {result.trunk}; a recipe starts from it with")
    start = f"init: {{expression: {result.trunk}}}, network: {{expression_width: {chosen.width}}}"
    out().print(start, soft_wrap=True)


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
    recheck_margin: Annotated[
        float,
        typer.Option(
            min=0.0,
            max=0.99,
            help="With int8: a float32 form decides where the two most probable emotions are "
            "closer than this; 0 for never.",
        ),
    ] = 0.08,
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

        vea package runs/lite/model --version 3.0 --evaluation evaluation.json

        vea package model_store/vea-lite-2.1.mar --version 2.2

        vea package model_store/vea-lite-2.1.mar --version 2.2 --runtime onnx --calibrate FI
    """
    from handler.archive.files import read_card
    from train.package import package as pack

    if precision is PrecisionChoice.INT8 and calibrate is None:
        raise VeaError("int8 needs photos to be calibrated with: give --calibrate DATASET")
    if runtime is not RuntimeChoice.ONNX and (calibrate or precision is PrecisionChoice.INT8):
        raise VeaError("--precision and --calibrate are for the compiled form: give --runtime onnx")
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
        if runtime is not RuntimeChoice.AUTO:
            margin = recheck_margin or None if precision is PrecisionChoice.INT8 else None
            target = Path(scratch, "model")
            model = _with_form(model, target, runtime, precision, calibrate, photos, margin)
        target = pack(model, to, name=name, version=version, card=words, force=force)
    out().print(f"{target} ({target.stat().st_size / 1e6:.1f} MB)")


def _with_form(
    model: Path,
    target: Path,
    runtime: RuntimeChoice,
    precision: PrecisionChoice,
    dataset: Path | None,
    photos: int,
    recheck_margin: float | None,
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
    add_compiled_form(model, target, calibration, recheck_margin=recheck_margin)
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
