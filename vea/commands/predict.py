"""`vea predict`: emotions of a few photos, now, in this process."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from handler.values.errors import VeaError
from vea.terminal import out, print_json, progress_bars

if TYPE_CHECKING:
    from handler.predictor import Predictor
    from handler.values.prediction import Prediction, Refusal

_WINDOW = 32  # photos in memory at a time
_REASONS = 3  # objects listed for each photo


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("predict")(predict)


def predict(
    images: Annotated[list[Path], typer.Argument(help="Photos, or folders of photos.")],
    model: Annotated[
        Path | None,
        typer.Option(help="A .mar file or model folder. [default: newest in ./model_store]"),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print a JSON list for programs instead of a table.")
    ] = False,
    explain: Annotated[
        Path | None,
        typer.Option(help="Draw the reasons for each photo into this folder, as PNG."),
    ] = None,
    device: Annotated[str, typer.Option(help="Where the networks run, e.g. cuda:0.")] = "cpu",
) -> None:
    """Which emotions do photos evoke?

        vea predict holiday.jpg

        vea predict photos/ --explain reasons/

    A photo that cannot be read is listed with the reason; the exit code is then 1.
    """
    from handler.predictor import Predictor
    from handler.values.prediction import Refusal
    from vea.store import newest_archive

    files = find_photos(images)
    predictor = Predictor.load(model or newest_archive(), device=device)
    if explain:
        explain.mkdir(parents=True, exist_ok=True)
    answers: dict[Path, Prediction | Refusal] = {}
    with progress_bars() as on_progress:
        for file, answer in _predict_all(predictor, files, explain):
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


def find_photos(images: list[Path]) -> list[Path]:
    """Photos and what lies in folders of photos.

    Raises:
        VeaError: there is no such photo, or no photo in a folder.
    """
    from handler.values.limits import SUFFIXES

    files: list[Path] = []
    for path in images:
        if path.is_dir():
            inside = sorted(
                p for p in path.iterdir() if p.suffix.lower() in SUFFIXES and p.is_file()
            )
            if not inside:
                raise VeaError(f"the folder {path} holds no photos")
            files.extend(inside)
        elif path.is_file():
            files.append(path)
        else:
            raise VeaError(f"there is no photo at {path}")
    return files


def _name(file: Path, files: list[Path]) -> str:
    """The file's name, or its path where another file has the same name."""
    return file.name if sum(f.name == file.name for f in files) == 1 else str(file)


def _predict_all(
    predictor: Predictor, files: list[Path], drawings: Path | None
) -> Iterator[tuple[Path, Prediction | Refusal]]:
    from vea.commands.explain import output_names

    # Of files in two folders that share a name, the second gets a number.
    names = iter(output_names(files, endings=True))
    for start in range(0, len(files), _WINDOW):
        window = files[start : start + _WINDOW]
        data = [file.read_bytes() for file in window]
        answers = predictor.predict(data, explain=drawings is not None)
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


def show(console: Console, answers: Mapping[str, Prediction | Refusal]) -> None:
    """A table for people: what each photo evokes, by name."""
    from handler.values.prediction import Refusal

    table = Table()
    table.add_column("photo", overflow="fold")
    for heading in ("emotion", "p", "then", "polarity", "p", "faces"):
        table.add_column(heading)
    for name, answer in answers.items():
        if isinstance(answer, Refusal):
            table.add_row(escape(name), "[red]refused[/red]", "", escape(answer.reason))
            continue
        ranked = sorted(answer.probabilities.items(), key=lambda item: -item[1])
        others = ", ".join(f"{label} {p:.0%}" for label, p in ranked[1:3])
        table.add_row(
            escape(name),
            answer.emotion,
            f"{ranked[0][1]:.0%}",
            others,
            answer.polarity,
            f"{answer.polarity_probability:.0%}",
            str(answer.face_count),
        )
    console.print(table)


def show_reasons(console: Console, answers: Mapping[str, Prediction | Refusal]) -> None:
    """A table for people: the objects of each photo that were attended to most."""
    from handler.values.prediction import Prediction

    table = Table(title="reasons", title_justify="left")
    table.add_column("photo", overflow="fold")
    table.add_column("object")
    for heading in ("attention", "confidence"):
        table.add_column(heading, justify="right")
    table.add_column("box (x1 y1 x2 y2)", justify="right")
    for name, answer in answers.items():
        if not isinstance(answer, Prediction):
            continue
        for place, item in enumerate(answer.objects[:_REASONS]):
            table.add_row(
                "" if place else escape(name),
                item.name,
                f"{item.attention:.0%}",
                f"{item.score:.0%}",
                " ".join(f"{edge:.0f}" for edge in item.box),
            )
    if table.row_count:
        console.print(table)
