"""`vea predict`: emotions of a few photos, now, in this process."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vea.commands.runtime import Runtime, RuntimeChoice
from vea.face_option import Faces, FacesChoice
from vea.photo_files import find_photos
from vea.tables import show, show_reasons
from vea.terminal import out, print_json, progress_bars

if TYPE_CHECKING:
    from handler.predictor import Predictor
    from handler.values.prediction import Prediction, Refusal

_WINDOW = 32  # photos in memory at a time


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("predict")(predict)


def predict(
    images: Annotated[list[Path], typer.Argument(help="Photos, or folders of photos.")],
    model: Annotated[
        Path | None,
        typer.Option(
            help="A .mar file or model folder. "
            "[default: newest in ./model_store, else the shipped one]"
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print a JSON list for programs instead of a table.")
    ] = False,
    explain: Annotated[
        Path | None,
        typer.Option(help="Draw the reasons for each photo into this folder, as PNG."),
    ] = None,
    embeddings: Annotated[
        bool,
        typer.Option(
            "--embeddings",
            help="With --json: the network's fused feature of each photo, for search and "
            "clustering.",
        ),
    ] = False,
    device: Annotated[str, typer.Option(help="Where the networks run, e.g. cuda:0.")] = "cpu",
    runtime: Runtime = RuntimeChoice.AUTO,
    faces: Faces = FacesChoice.ON,
) -> None:
    """Which emotions do photos evoke?

        vea predict holiday.jpg

        vea predict photos/ --explain reasons/

    A photo that cannot be read is listed with the reason; the exit code is then 1.
    """
    from handler.predictor import Predictor
    from handler.values.prediction import Refusal
    from vea.store import newest_archive

    if embeddings and not as_json:
        raise typer.BadParameter("the table has no room for them: give --json too")
    files = find_photos(images)
    predictor = Predictor.load(
        model or newest_archive(), device=device, runtime=runtime.value, faces=faces.on
    )
    if explain:
        explain.mkdir(parents=True, exist_ok=True)
    answers: dict[Path, Prediction | Refusal] = {}
    with progress_bars() as on_progress:
        for file, answer in _predict_all(predictor, files, explain, embeddings):
            answers[file] = answer
            on_progress("photos", len(answers), len(files))
    if as_json:
        print_json(
            [_document(file, answer, predictor, explain) for file, answer in answers.items()]
        )
    else:
        named = {_name(file, files): answer for file, answer in answers.items()}
        show(out(), named)
        if explain:
            show_reasons(out(), named)
            out().print(f"drawings are in {explain}", markup=False)
    if any(isinstance(answer, Refusal) for answer in answers.values()):
        raise typer.Exit(1)


def _name(file: Path, files: list[Path]) -> str:
    """The file's name, or its path where another file has the same name."""
    return file.name if sum(f.name == file.name for f in files) == 1 else str(file)


def _predict_all(
    predictor: Predictor, files: list[Path], drawings: Path | None, embeddings: bool
) -> Iterator[tuple[Path, Prediction | Refusal]]:
    from vea.photo_files import output_names

    # Of files in two folders that share a name, the second gets a number.
    names = iter(output_names(files, endings=True))
    for start in range(0, len(files), _WINDOW):
        window = files[start : start + _WINDOW]
        data = [file.read_bytes() for file in window]
        answers = predictor.predict(data, explain=drawings is not None, embeddings=embeddings)
        for file, encoded, answer in zip(window, data, answers, strict=True):
            name = next(names)
            if drawings:
                _draw(encoded, answer, drawings / f"{name}.png")
            yield file, answer


def _draw(encoded: bytes, answer: Prediction | Refusal, target: Path) -> None:
    from handler.drawing.sheet import sheet
    from handler.images import decode
    from handler.values.prediction import Prediction

    if isinstance(answer, Prediction):
        sheet(decode(encoded), answer).save(target)


def _document(
    file: Path, answer: Prediction | Refusal, predictor: Predictor, drawings: Path | None
) -> dict[str, Any]:
    from handler.values.prediction import Refusal

    if isinstance(answer, Refusal):
        return {"image": str(file), **answer.to_dict()}
    explained = answer.to_dict(predictor.model, explain=drawings is not None)
    return {"image": str(file), **explained}
