"""`vea explain` and `vea figures`: the reasons for predictions, of a few photos or of many."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vea.commands.cache import LabelledData, Labels
from vea.commands.runtime import Runtime, RuntimeChoice
from vea.face_option import Faces, FacesChoice
from vea.local_paths import check_output_folder
from vea.photo_files import output_names
from vea.terminal import out, print_json, progress_bars

if TYPE_CHECKING:
    from handler.values.prediction import Prediction, Refusal

_WINDOW = 16  # photos in memory at a time
_MARGIN = 20  # pixels around a panel that stands alone


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("explain")(explain)
    app.command("figures")(figures)


def explain(
    images: Annotated[list[Path], typer.Argument(help="Photos, or folders of photos.")],
    to: Annotated[
        Path, typer.Option("--out", help="Folder for the drawings, created if it does not exist.")
    ],
    model: Annotated[
        Path | None,
        typer.Option(
            help="A .mar file or model folder. "
            "[default: newest in ./model_store, else the shipped one]"
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print a JSON list for programs instead of tables.")
    ] = False,
    device: Annotated[str, typer.Option(help="Device of the networks, e.g. cuda:0.")] = "cpu",
    runtime: Runtime = RuntimeChoice.AUTO,
    faces: Faces = FacesChoice.ON,
) -> None:
    """Explain which regions, objects and faces of a photo evoke its emotion.

        vea explain holiday.jpg --out reasons

    For each photo NAME: NAME.sheet.png shows all reasons on one sheet, NAME.activation.png the
    class activation map of the whole photo, NAME.objects.png the attention to each object,
    NAME.face.png the face as the network read it; NAME.json holds the same as data, in the form of
    the server's answer.

    For a photo that cannot be read only NAME.json is written, with the reason, and the exit code
    is 1.
    """
    from handler.predictor import Predictor
    from handler.values.prediction import Refusal
    from vea.photo_files import find_photos
    from vea.store import newest_archive
    from vea.tables import show, show_reasons

    check_output_folder(to)
    files = find_photos(images)
    predictor = Predictor.load(
        model or newest_archive(), device=device, runtime=runtime.value, faces=faces.on
    )
    to.mkdir(parents=True, exist_ok=True)
    names = output_names(files)
    answers: dict[str, Prediction | Refusal] = {}
    documents: list[dict[str, Any]] = []
    with progress_bars() as on_progress:
        for start in range(0, len(files), _WINDOW):
            window = list(zip(files, names, strict=True))[start : start + _WINDOW]
            contents = [file.read_bytes() for file, _ in window]
            found = predictor.predict(contents, explain=True)
            for (file, name), encoded, answer in zip(window, contents, found, strict=True):
                document = (
                    answer.to_dict()
                    if isinstance(answer, Refusal)
                    else answer.to_dict(predictor.model, explain=True)
                )
                written = _write(to, name, encoded, answer, document)
                answers[name] = answer
                documents.append({"image": str(file), **document, "files": written})
                on_progress("photos", len(answers), len(files))
    if as_json:
        print_json(documents)
    else:
        show(out(), answers)
        show_reasons(out(), answers)
        out().print(f"sheets, drawings and data are in {to}")
    if any(isinstance(answer, Refusal) for answer in answers.values()):
        raise typer.Exit(1)


def figures(
    archive: Annotated[Path, typer.Argument(help="A .mar file, or the model folder of a run.")],
    data: LabelledData,
    to: Annotated[
        Path, typer.Option("--out", help="Folder for the figures, created if it does not exist.")
    ],
    split: Annotated[str, typer.Option(help="train, val, test or all.")] = "val",
    labels: Labels = None,
    count: Annotated[
        int,
        typer.Option(
            min=1,
            help="Photos in each figure; in that of failures, so many easy and so many hard ones.",
        ),
    ] = 8,
    device: Annotated[str, typer.Option(help="Device of the networks, e.g. cuda:0.")] = "cpu",
) -> None:
    """Draw the paper's Figures 12 to 15 for a model.

    The first three show each branch on the correct predictions of highest confidence: class
    activation maps, attended objects, faces. The last shows the errors of highest confidence:

        vea figures model_store/vea-lite-3.1.mar --data FI --out figures

    Each figure is one picture (figure-12-activation.png, ...) and one JSON file that lists its
    photos.
    """
    from handler.predictor import Predictor
    from train.evaluation.figures import make_figures

    check_output_folder(to)
    predictor = Predictor.load(archive, device=device)
    with progress_bars() as on_progress:
        written = make_figures(
            predictor,
            data,
            to,
            split=split,
            labels=labels,
            count=count,
            on_progress=lambda done, total: on_progress("photos", done, total),
        )
    for file in written:
        out().print(str(file), soft_wrap=True)


def _write(
    folder: Path,
    name: str,
    encoded: bytes,
    answer: Prediction | Refusal,
    document: dict[str, Any],
) -> dict[str, str]:
    """Write one photo's files; returns their paths by kind."""
    from PIL import ImageOps

    from handler.drawing.sheet import activation_panel, face_panel, objects_panel, sheet
    from handler.images import decode
    from handler.values.prediction import Prediction

    data = folder / f"{name}.json"
    data.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    files = {"data": str(data)}
    if isinstance(answer, Prediction):
        image = decode(encoded)
        panels = {
            "activation": activation_panel(image, answer),
            "objects": objects_panel(image, answer),
        }
        if answer.face_count is not None:
            panels["face"] = face_panel(image, answer)
        alone = {kind: ImageOps.expand(p, _MARGIN, "white") for kind, p in panels.items()}
        for kind, drawing in {"sheet": sheet(image, answer), **alone}.items():
            target = folder / f"{name}.{kind}.png"
            drawing.save(target)
            files[kind] = str(target)
    return files
